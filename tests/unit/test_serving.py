"""Models that profiles serve: what does not go together is named; what is locked comes back."""

from __future__ import annotations

import pytest

import stack_examples as stacks
from aibox import lock as locks
from aibox import plan as plans
from aibox import prerequisites
from aibox import release as releases
from aibox.errors import BadUsage
from aibox.serving import ENGINES, Runner, Serving, spelt_out


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("enforce-eager = true", "trust-remote-code = true", "serving.chat.arguments.trust-remote"),
        ("enforce-eager = true", 'api-key = "x"', "serving.chat.arguments.api-key"),
        ("enforce-eager = true", "enforce-eager = 1979-05-27", "must be text"),
        ('image = "vllm"\n', 'image = "other"\n', "the image 'other' is not wished for"),
        ('model = "small"', 'model = "large"', "the model 'large' is not wished for"),
        ("[serving.chat", "[serving.writer", "serving.writer: is none of chat"),
        ("kv_cache_gib = 1", 'runner = "pooling"', "the runner of chat is not 'pooling'"),
        ("kv_cache_gib = 1", "gpus = [0]", "gpus: there is no 0; the profile has 0"),
        ("kv_cache_gib = 1", "colour = 1", "serving.chat.colour"),
        ("memory_mib = 8000", "memory_mib = 8", "serving.chat.memory_mib"),
        (", 'chat']", "]", "serving.chat: is not among the services"),
        (", 'chat']", ", 'chat', 'grafana']", "'grafana' is none of gateway"),
        (", 'qdrant'", "", "qdrant is missing, and the others need it"),
        ('name = "app"\n', 'name = "application"\n', "web runs the image 'app'"),
        ('runtime = "container"', 'runtime = "process"', 'need runtime = "container"'),
    ],
)
def test_what_does_not_go_together_is_named(old: str, new: str, problem: str) -> None:
    assert old in stacks.profile_text()
    with pytest.raises(BadUsage) as caught:
        stacks.profile(stacks.profile_text().replace(old, new))
    assert problem in caught.value.message


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("gpus = [0, 1]", "gpus = [0, 2]", "there is no 2; the profile has 2"),
        ("gpus = [0, 1]", "gpus = [1, 1]", "gpus: named twice"),
        ("gpus = [0, 1]", "gpus = [0, 1]\nkv_cache_gib = 1", "kv_cache_gib is for the CPU"),
        ("enforce-eager = true", "pipeline-parallel-size = 3", "must divide the number of gpus"),
    ],
)
def test_gpus_that_are_not_there_are_named(old: str, new: str, problem: str) -> None:
    text = stacks.profile_text(stacks.ON_GPUS.replace(old, new), extra=stacks.HARDWARE)
    with pytest.raises(BadUsage) as caught:
        stacks.profile(text)
    assert problem in caught.value.message


def test_engines_share_a_gpu_only_when_each_says_how_much_of_it() -> None:
    embedding = stacks.EMBEDDING.replace("memory_mib = 4000", "gpus = [1]\nmemory_mib = 4000", 1)
    services = (*stacks.SERVICES, "embedding", "rerank")
    text = stacks.profile_text(stacks.ON_GPUS + embedding, services, stacks.HARDWARE)
    with pytest.raises(BadUsage, match=r"shares GPU 1; set arguments\.gpu-memory-utilization"):
        stacks.profile(text)
    share = "[serving.{}.arguments]\ngpu-memory-utilization = 0.4\n"
    text = text.replace("[serving.rerank]", share.format("embedding") + "[serving.rerank]")
    own = "gpu-memory-utilization = 0.5\nkv-cache-memory-bytes = 1000"
    whole = text.replace("enforce-eager = true", own)
    assert set(stacks.profile(whole).serving) == {"chat", "embedding", "rerank"}
    for old, new, problem in (
        ("kv-cache-memory-bytes = 1000", "", "set arguments.kv-cache-memory-bytes"),
        ("lization = 0.5", "lization = 0.7", "the shares of GPU 1 add up to 1.10 of it"),
        ("lization = 0.5", 'lization = "0.5"', "must be a number"),
    ):
        with pytest.raises(BadUsage, match=problem):
            stacks.profile(whole.replace(old, new))


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ('[embedding]\nmodel = "vectors"\ndimension = 3\n', "", r"\[embedding\] is missing"),
        ('[rerank]\nmodel = "order"\ncandidates = 30\n', "", r"\[rerank\] is missing"),
        ('[rerank]\nmodel = "order"', '[rerank]\nmodel = "other"', "is 'other', but"),
        ("candidates = 30", "candidates = 6", "more than tuning.top_k"),
        ("dimension = 3", "dimension = 3\nsimilarity_floor = 0.5", "both, the floor below"),
    ],
)
def test_what_is_told_of_a_model_twice_is_the_same(old: str, new: str, problem: str) -> None:
    services = (*stacks.SERVICES, "embedding", "rerank")
    text = stacks.profile_text(stacks.CHAT + stacks.EMBEDDING, services)
    assert old in text and stacks.profile(text).rerank
    with pytest.raises(BadUsage, match=problem):
        stacks.profile(text.replace(old, new))


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("router_max_turns = 0\n", "", r"tuning\.router_max_turns: is missing"),
        (stacks.SMALL, "", r"tuning\.router_max_characters: has no \[serving.small\]"),
        (stacks.CHAT, "", r"serving\.small: has no \[serving.chat\]"),
        ('model = "smaller"', 'model = "smaller"\nrunner = "pooling"', "of small is not 'pooling'"),
        ("evidence = 0.7", "evidence = 7", "router_min_evidence"),
    ],
)
def test_a_small_model_has_a_router_and_a_large_one_beside_it(
    old: str, new: str, problem: str
) -> None:
    text = stacks.with_small(stacks.profile_text())
    assert old.lstrip("\n") in text and "small" in stacks.profile(text).serving
    if old in {stacks.SMALL, stacks.CHAT}:
        name = "small" if old == stacks.SMALL else "chat"
        text = text.replace(f", '{name}'", "")
    with pytest.raises(BadUsage, match=problem):
        stacks.profile(text.replace(old.lstrip("\n"), new))


def test_what_is_fixed_of_an_engine_is_of_no_other() -> None:
    ports = [one.port for one in ENGINES.values()]
    users = [*prerequisites.USERS.values()]
    assert len({*ports}) == len(ports) and len({*users}) == len(users)
    assert prerequisites.USERS["chat"] == 70004 and ENGINES["rerank"].port == 8002


@pytest.mark.parametrize(
    ("said", "problem"),
    [
        (
            "concurrency = 2\ncontext_tokens = 2048",
            "must be .serving.chat.arguments. max-model-len",
        ),
        ("concurrency = 9\ncontext_tokens = 1024", "is more than .serving.chat.arguments. max-num"),
    ],
)
def test_a_capacity_is_that_of_the_engine(said: str, problem: str) -> None:
    chat = stacks.CHAT + "max-num-seqs = 8\n"
    right = "[capacity]\nconcurrency = 8\ncontext_tokens = 1024\n"
    assert stacks.profile(stacks.profile_text(chat, extra=right)).capacity
    with pytest.raises(BadUsage, match=problem):
        stacks.profile(stacks.profile_text(chat, extra=f"[capacity]\n{said}\n"))


def test_layers_are_spread_over_what_the_stages_leave() -> None:
    made = Serving(image="v", model="m", gpus=(0, 1, 2, 3), memory_mib=1000)
    assert made.tensor_parallel == 4
    staged = made.model_copy(update={"arguments": {"pipeline-parallel-size": 2}})
    assert staged.tensor_parallel == 2
    assert Serving(image="v", model="m", memory_mib=1000).tensor_parallel == 1


def test_a_locked_engine_reads_back_as_it_was_written() -> None:
    of = stacks.profile(
        stacks.profile_text(
            stacks.CHAT
            + 'default-chat-template-kwargs = { enable_thinking = false, "a b" = [1] }\n'
            "gpu-memory-utilization = 0.9\n"
        )
    )
    lock = stacks.lock(of)
    text = locks.dump(lock)
    assert locks.parse(text) == lock
    assert locks.dump(locks.parse(text)) == text
    arguments = locks.parse(text).serving["cpu"]["chat"].arguments
    assert arguments["enforce-eager"] is True
    assert arguments["max-model-len"] == 1024
    assert arguments["default-chat-template-kwargs"] == {"enable_thinking": False, "a b": [1]}


def test_the_locked_engine_counts_and_not_the_wish() -> None:
    of = stacks.profile()
    wished = stacks.profile(stacks.profile_text().replace("len = 1024", "len = 2048"))
    made = releases.make(stacks.lock(of), wished)
    assert made.serving["chat"].arguments["max-model-len"] == 1024
    assert made.serving["chat"].runner is Runner.GENERATE
    assert releases.parse(made.manifest()).id == made.id


def test_a_lock_without_the_engines_is_refused() -> None:
    of = stacks.profile()
    lock = stacks.lock(of).model_copy(update={"serving": {}})
    with pytest.raises(BadUsage) as caught:
        releases.make(lock, of)
    assert caught.value.reference == "lock-lacks-profile"


def test_another_argument_is_another_release_and_a_difference() -> None:
    before = stacks.release()
    after = stacks.release(stacks.profile_text().replace("len = 1024", "len = 2048"))
    assert before.id != after.id
    (difference,) = plans.compare_releases(before, after)
    assert difference.name == "serving.chat.arguments.max-model-len"
    assert (difference.current, difference.desired) == ("1024", "2048")


def test_every_value_is_spelt_out_by_its_path() -> None:
    found = spelt_out(stacks.release().serving)
    assert found["chat.model"] == '"small"'
    assert found["chat.arguments.enforce-eager"] == "true"
