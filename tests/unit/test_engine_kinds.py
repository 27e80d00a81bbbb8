"""Kinds of engines: what is rendered for each, and what a profile cannot ask of one.

llama-server is also run (tests/e2e/test_llama_server.py). Of NIM there is no image to run: it is
checked against what its makers publish, by what is rendered alone.
"""

from __future__ import annotations

import itertools
import tomllib
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

import stack_examples as stacks
from aibox import engine_kinds, plan
from aibox.engine_kinds import KINDS, KindName
from aibox.errors import BadUsage
from aibox.measuring import basis
from aibox.pins import ModelPin
from aibox.site import Engine, Site
from rag_app.config import Config

LLAMA = """
[serving.chat]
kind = "llama-server"
image = "vllm"
model = "small"
memory_mib = 4000
[serving.chat.arguments]
ctx-size = 16384
parallel = 2
threads = 4
swa-full = true
load-mode = "mmap"
cache-type-k = "q8_0"
chat-template-kwargs = { enable_thinking = false }
"""
NIM = stacks.ON_GPUS.replace("[serving.chat]", '[serving.chat]\nkind = "nim"')


def made(serving: str, extra: str = "") -> tuple[Any, dict[str, Any], Any]:
    """The release, its Compose service of the engine, and all that is rendered."""
    release = stacks.release(stacks.profile_text(serving, extra=extra))
    models = [_with_weights(pin) if pin.name == "small" else pin for pin in release.models]
    release = release.model_copy(update={"models": tuple(models)})
    rendered = stacks.rendered(release)
    services = yaml.safe_load(rendered.files["config/compose.yaml"])["services"]
    return release, services["chat"], rendered


def _with_weights(pin: ModelPin) -> ModelPin:
    cut = [f"small-Q4_K_M-0000{number}-of-00002.gguf" for number in (2, 1)]
    weights = (pin.files[0].model_copy(update={"path": path}) for path in cut)
    return pin.model_copy(update={"files": (*pin.files, *weights)})


def test_weights_that_the_engine_cannot_read_are_refused() -> None:
    with pytest.raises(BadUsage, match=r"small has no \.gguf, which llama-server reads"):
        stacks.rendered(stacks.release(stacks.profile_text(LLAMA)))


def test_llama_server_gets_its_weights_its_key_and_what_is_locked() -> None:
    _, chat, rendered = made(LLAMA)
    assert chat["command"] == [
        *("/app/llama-server", "--metrics", "--no-slots", "--no-ui", "--offline"),
        *("--model", "/model/small-Q4_K_M-00001-of-00002.gguf", "--alias", "small"),
        *("--host", "0.0.0.0", "--port", "8000", "--cache-ram", "0"),
        *("--cache-type-k", "q8_0", "--chat-template-kwargs", '{"enable_thinking": false}'),
        *("--ctx-size", "16384", "--load-mode", "mmap", "--parallel", "2", "--swa-full"),
        *("--threads", "4"),
    ]
    assert "LLAMA_API_KEY" in chat["entrypoint"][2]
    assert "config/chat.serve.yaml" not in rendered.files
    assert not [one for one in chat["volumes"] if "serve.yaml" in one["source"]]
    # It does not end answers before it stops, so nobody waits for that.
    assert chat["stop_grace_period"] == "30s"


def test_memory_for_old_contexts_is_what_the_profile_says_and_none_otherwise() -> None:
    _, chat, _ = made(LLAMA + "cache-ram = 512\n")
    words = chat["command"]
    assert words.count("--cache-ram") == 1
    assert words[words.index("--cache-ram") + 1] == "512"


def test_lists_and_switches_are_written_as_each_engine_reads_them() -> None:
    _, chat, _ = made(LLAMA + "tensor-split = [3, 1]\nflash-attn = true\nreasoning = false\n")
    words = dict(itertools.pairwise(chat["command"]))
    assert (words["--tensor-split"], words["--flash-attn"]) == ("3,1", "on")
    assert words["--reasoning"] == "off"
    listed = "cudagraph-capture-sizes = [1, 2]\nenable-prefix-caching = false\n"
    _, chat, _ = made(NIM + listed, stacks.HARDWARE)
    assert "--cudagraph-capture-sizes 1 2 " in " ".join(chat["command"])
    assert "--no-enable-prefix-caching" in chat["command"]


def test_what_is_false_is_said_to_vllm_and_not_left_to_it() -> None:
    _, _, rendered = made(stacks.CHAT + "enable-prefix-caching = false\nasync-scheduling = true\n")
    read = yaml.safe_load(rendered.files["config/chat.serve.yaml"])
    assert (read["no-enable-prefix-caching"], read["async-scheduling"]) == (True, True)
    assert "enable-prefix-caching" not in read


def test_nim_serves_weights_of_the_release_and_gets_no_key_of_its_makers() -> None:
    _, chat, _ = made(NIM, stacks.HARDWARE)
    assert chat["command"] == [
        *("nim-serve", "--served-model-name", "small", "--shutdown-timeout", "120"),
        *("--tensor-parallel-size", "2", "--enforce-eager", "--max-model-len", "1024"),
    ]
    environment = chat["environment"]
    assert (environment["NIM_MODEL_PATH"], environment["NIM_SERVER_PORT"]) == ("/model", "8000")
    assert not {"NGC_API_KEY", "HF_TOKEN"} & set(environment)
    assert chat["deploy"]["resources"]["reservations"]["devices"]
    assert chat["stop_grace_period"] == "150s"


@pytest.mark.parametrize(
    ("serving", "extra", "metrics"),
    [(LLAMA, "", "/metrics"), (NIM, stacks.HARDWARE, "/v1/metrics")],
)
def test_the_contract_of_every_kind_is_one(serving: str, extra: str, metrics: str) -> None:
    release, chat, rendered = made(serving, extra)
    config = Config.model_validate(tomllib.loads(rendered.files["config/rag.toml"].decode()))
    assert (config.engine.url, config.engine.model) == ("http://chat:8000/v1", "small")
    assert config.engine.in_box
    assert chat["healthcheck"]["test"] == ["CMD", "python3", "/box/ask.py"]
    asking = rendered.files["config/chat.ask.py"].decode()
    assert '"/v1/completions"' in asking
    assert f'METRICS = "{metrics}"' in asking
    assert chat["networks"] == ["inside"]
    assert plan.engine(release, Site()) == release.serving["chat"].kind.value
    assert (chat["read_only"], chat["cap_drop"]) == (True, ["ALL"])


def test_the_plan_says_who_answers_where_the_site_names_another_engine() -> None:
    release, *_ = made(LLAMA)
    elsewhere = Site(engine=Engine(kind="openai", url="http://192.0.2.7/v1", model="m"))
    assert plan.engine(release, elsewhere) == "openai"


def test_as_many_are_answered_at_once_as_the_engine_works_at_together() -> None:
    for serving, together in ((LLAMA, 2), (stacks.CHAT + "max-num-seqs = 7\n", 7)):
        *_, rendered = made(serving)
        read = tomllib.loads(rendered.files["config/rag.toml"].decode())["server"]
        assert (read["max_concurrent_answers"], read["max_waiting_questions"]) == (
            together,
            together,
        )


@pytest.mark.parametrize(
    ("serving", "problem"),
    [
        (LLAMA + "max-model-len = 9\n", "max-model-len: is none of llama-server's"),
        (LLAMA.replace("parallel = 2\n", ""), "parallel: llama-server needs it"),
        (LLAMA.replace("ctx-size = 16384", "ctx-size = 0"), "ctx-size: llama-server needs it"),
        (stacks.CHAT + "ctx-size = 9\n", "ctx-size: is none of vllm's"),
        (LLAMA.replace("model =", 'runner = "pooling"\nmodel ='), "only writes text here"),
        (LLAMA.replace("llama-server", "ollama"), "'vllm', 'nim' or 'llama-server'"),
        (
            stacks.CHAT + "max-num-seqs = 8\nmax-num-queued-reqs = 8\n",
            "max-num-queued-reqs: must be more than max-num-seqs",
        ),
        (LLAMA + 'hf-repo = "x"\n', "is no argument a profile may set"),
    ],
)
def test_what_a_kind_cannot_do_is_refused(serving: str, problem: str) -> None:
    with pytest.raises(BadUsage, match=problem):
        stacks.profile(stacks.profile_text(serving))


def test_a_release_of_vllm_says_nothing_of_kinds() -> None:
    release = stacks.release()
    assert "kind" not in release.serving["chat"].model_dump(mode="json")
    assert release.serving["chat"].kind is KindName.VLLM


def test_what_only_vllm_can_measure_is_refused_for_others() -> None:
    release, *_ = made(LLAMA)
    with pytest.raises(BadUsage, match="llama-server; only vllm is measured"):
        basis.serving_of(release)


def test_no_kind_takes_what_runs_code_or_leads_out() -> None:
    for kind in KINDS.values():
        for word in ("trust-remote", "plugin", "middleware", "hf-", "url", "api-key", "host"):
            assert not [one for one in kind.arguments if word in one]


@given(st.dictionaries(st.sampled_from(["a", "b", "c"]), st.text() | st.integers() | st.booleans()))
def test_each_value_stays_one_word(arguments: dict[str, Any]) -> None:
    words = list(engine_kinds._flags(arguments, "no-"))
    values = [value for value in arguments.values() if not isinstance(value, bool)]
    assert len(words) == len(arguments) + len(values)
