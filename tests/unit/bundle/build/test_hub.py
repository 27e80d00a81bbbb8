"""Models from a hub: what is pinned, what is fetched, and what every refusal is called."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import constants

from aibox.bundle.build import hub, hub_api, transfer
from aibox.bundle.build.cache import BlobCache
from aibox.errors import AiboxError, BadUsage, ExitCode, Failed, Fault, VerificationRefused
from aibox.pins import ModelFile, ModelPin, Redistribution, State
from aibox.profile import ModelWish
from aibox.progress import Progress
from flaky_server import Faults, FlakyServer, serving
from loopback_hub import LoopbackHub, Repository, commit_of, loopback_hub
from weight_files import safetensors, small_safetensors, tensors

NAME = "example-org/tiny-model"
FILES: dict[str, bytes | Path] = {
    "model.safetensors": small_safetensors(bytes(range(256)) * 400),
    "config.json": b'{"model_type": "bert"}',
    "1_Pooling/config.json": b"{}",
    "tokenizer.json": b'{"version": "1.0"}',
    "vocab.txt": b"[PAD]\nhello\n",
    "LICENSE": b"Apache License\n",
    "README.md": b"# tiny\n",
    "pytorch_model.bin": b"\x80\x02}q\x00.",
    ".gitattributes": b"*.bin filter=lfs\n",
}
WISH = ModelWish(name="tiny", repository=NAME)
CHOSEN = [
    "1_Pooling/config.json",
    "LICENSE",
    "config.json",
    "model.safetensors",
    "tokenizer.json",
    "vocab.txt",
]


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfer, "FIRST_DELAY_S", 0.0)
    monkeypatch.setattr(hub_api, "FIRST_DELAY_S", 0.0)
    for name in ("HF_TOKEN", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[LoopbackHub]:
    with loopback_hub(Repository(NAME, dict(FILES))) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.address() + "/")
        yield server


@pytest.fixture
def repository(server: LoopbackHub) -> Repository:
    return server.repositories[NAME]


@pytest.fixture
def cache(place: Path) -> BlobCache:
    return BlobCache(place / "cache")


def silent(_progress: Progress) -> None:
    pass


def classify(licence: str) -> Redistribution:
    return Redistribution.ALLOW if licence == "apache-2.0" else Redistribution.OPERATOR_ONLY


def resolve(
    cache: BlobCache,
    wish: ModelWish = WISH,
    previous: ModelPin | None = None,
    token_file: Path | None = None,
) -> ModelPin:
    return hub.resolve(wish, previous, cache, silent, token_file=token_file, classify=classify)


def refusal(cache: BlobCache, wish: ModelWish = WISH, token: Path | None = None) -> AiboxError:
    with pytest.raises(AiboxError) as caught:
        resolve(cache, wish, token_file=token)
    return caught.value


def a_token(place: Path, text: str = LoopbackHub.good_token, mode: int = 0o600) -> Path:
    path = place / "token"
    path.write_text(text + "\n")
    path.chmod(mode)
    return path


def unresolved(repository: Repository, *files: ModelFile) -> ModelPin:
    return ModelPin(
        name="tiny",
        licence="unknown",
        redistribution=Redistribution.OPERATOR_ONLY,
        owner="example-org",
        source="a table",
        state=State.UNRESOLVED,
        repository=repository.name,
        revision=repository.commit,
        files=files,
    )


def test_a_wish_becomes_a_pin_of_every_chosen_byte(
    server: LoopbackHub, repository: Repository, cache: BlobCache
) -> None:
    pin = resolve(cache)
    assert pin.state is State.RESOLVED
    assert pin.revision == repository.commit
    assert pin.source == f"hf:{NAME}@{repository.commit}"
    assert (pin.licence, pin.redistribution) == ("apache-2.0", Redistribution.ALLOW)
    assert (pin.owner, pin.gated) == ("example-org", False)
    assert [file.path for file in pin.files] == CHOSEN
    for file in pin.files:
        assert file.sha256 == repository.sha256(file.path)
        assert file.size == len(FILES[file.path])


def test_weights_are_not_fetched_to_be_pinned(server: LoopbackHub, cache: BlobCache) -> None:
    resolve(cache)
    assert not [asked for asked in server.asked if "safetensors" in asked.path]


def test_the_hub_is_asked_as_ourselves_and_told_nothing_more(
    server: LoopbackHub, cache: BlobCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    def telemetry() -> str:
        raise AssertionError("asked for the program we run under")

    monkeypatch.setattr("huggingface_hub.utils._headers.detect_agent", telemetry)
    hub.fetch(resolve(cache), cache, silent)
    known = ("/api/models/", f"/{NAME}/resolve/", "/lfs/")
    assert all(asked.path.startswith(known) for asked in server.asked)
    agents = {asked.headers.get("user-agent", "") for asked in server.asked}
    assert all("agent/" not in agent and "torch" not in agent for agent in agents)
    assert any("aibox/" in agent for agent in agents)


def test_every_file_of_a_pin_comes_into_the_cache(
    server: LoopbackHub, repository: Repository, cache: BlobCache
) -> None:
    pin = resolve(cache)
    server.faults = Faults(drop_after=30_000, drops=2)
    hub.fetch(pin, cache, silent)
    for file in pin.files:
        path = BlobCache(cache.folder).find(str(file.sha256), file.size or 0)
        assert path is not None
        assert path.read_bytes() == FILES[file.path]
    asked = len(server.asked)
    hub.fetch(pin, cache, silent)
    assert len(server.asked) == asked


def test_a_pin_of_the_same_commit_saves_the_hashing(server: LoopbackHub, place: Path) -> None:
    pin = resolve(BlobCache(place / "one"))
    server.asked.clear()
    assert resolve(BlobCache(place / "two"), previous=pin) == pin
    assert len(server.asked) == 1


def test_a_moved_branch_is_pinned_anew(
    server: LoopbackHub, repository: Repository, cache: BlobCache
) -> None:
    before = resolve(cache)
    repository.commit = repository.branches["main"] = commit_of("second")
    repository.files["config.json"] = b'{"model_type": "other"}'
    after = resolve(cache, previous=before)
    assert after.revision == commit_of("second")
    assert after.files[2].sha256 == repository.sha256("config.json")


def test_an_unresolved_pin_keeps_its_commit(
    server: LoopbackHub, repository: Repository, cache: BlobCache
) -> None:
    repository.branches["main"] = commit_of("somewhere else")
    digest = repository.sha256("model.safetensors")
    pin = unresolved(repository, ModelFile(path="model.safetensors", sha256=digest))
    done = hub.complete(pin, cache, silent, token_file=None, classify=classify)
    assert done.state is State.RESOLVED
    assert done.revision == repository.commit
    assert [file.path for file in done.files] == CHOSEN
    assert hub.complete(done, cache, silent, token_file=None, classify=classify) is done


@pytest.mark.parametrize("path", ["model.safetensors", "config.json"])
def test_what_was_pinned_of_a_commit_cannot_change(
    server: LoopbackHub, repository: Repository, cache: BlobCache, path: str
) -> None:
    pin = unresolved(repository, ModelFile(path=path, sha256="0" * 64))
    with pytest.raises(VerificationRefused) as caught:
        resolve(cache, previous=pin)
    assert caught.value.reference == "model-changed"
    assert path in caught.value.context


def test_an_unresolved_pin_is_not_fetched(repository: Repository, cache: BlobCache) -> None:
    with pytest.raises(Failed) as caught:
        hub.fetch(unresolved(repository), cache, silent)
    assert caught.value.reference == "model-unresolved"


@pytest.mark.parametrize(
    ("card", "licence"),
    [
        ({"license": "mit"}, "mit"),
        ({"license": "other", "license_name": "exaone"}, "exaone"),
        ({"license": "other"}, "other"),
        ({"license": ["mit", "apache-2.0"]}, "mit, apache-2.0"),
        ({"license": "evil\n\x1b[31m"}, "evil??[31m"),
        ({}, "unknown"),
    ],
)
def test_the_licence_is_that_of_the_card(
    repository: Repository, cache: BlobCache, card: dict[str, object], licence: str
) -> None:
    repository.card = card
    assert resolve(cache).licence == licence


def test_a_gated_model_wants_accepted_terms(
    server: LoopbackHub, repository: Repository, cache: BlobCache, place: Path
) -> None:
    repository.gated = True
    for token in (None, a_token(place, "hf_of_somebody_else")):
        error = refusal(cache, token=token)
        assert error.reference == "model-gated"
        assert error.fault is Fault.YOU
        assert "hf_of" not in str(error)
    pin = resolve(cache, token_file=a_token(place))
    assert pin.gated
    hub.fetch(pin, cache, silent, token_file=a_token(place))


def test_gated_weights_are_named_when_they_are_fetched(
    server: LoopbackHub, repository: Repository, cache: BlobCache
) -> None:
    pin = resolve(cache)
    repository.gated = True
    with pytest.raises(Failed) as caught:
        hub.fetch(pin, cache, silent)
    assert caught.value.reference == "model-gated"


def test_a_private_model_looks_missing_to_strangers(
    server: LoopbackHub, repository: Repository, cache: BlobCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository.token = LoopbackHub.good_token
    assert "strangers" in refusal(cache).message
    monkeypatch.setenv("HF_TOKEN", LoopbackHub.good_token)
    assert resolve(cache).files


@pytest.mark.parametrize(
    ("wish", "reference"),
    [
        (ModelWish(name="x", repository="example-org/nothing"), "model-missing"),
        (ModelWish(name="x", repository=NAME, revision="v9"), "revision-missing"),
        (ModelWish(name="x", repository="a--b/c..d"), "model-missing"),
        (ModelWish(name="x", repository=NAME, patterns=("*.onnx",)), "model-empty"),
    ],
)
def test_a_wrong_wish_is_the_packagers_to_correct(
    server: LoopbackHub, cache: BlobCache, wish: ModelWish, reference: str
) -> None:
    error = refusal(cache, wish)
    assert (error.reference, error.fault) == (reference, Fault.YOU)
    assert error.hint.endswith("./aibox lock")


def test_a_wrong_token_is_told_from_a_missing_model(
    server: LoopbackHub, cache: BlobCache, place: Path
) -> None:
    error = refusal(cache, token=a_token(place, "hf_wrong"))
    assert error.reference == "hub-token-refused"
    assert "hf_wrong" not in str(error)


@pytest.mark.parametrize("text", ["", "two words", "x" * 600, "한글"])
def test_a_token_file_holds_a_token(place: Path, text: str) -> None:
    with pytest.raises(BadUsage) as caught:
        hub_api.read_token(a_token(place, text))
    assert caught.value.reference == "hub-token-unusable"
    assert not text or text not in str(caught.value)


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604])
def test_a_token_file_is_for_its_owner_alone(place: Path, mode: int) -> None:
    with pytest.raises(BadUsage) as caught:
        hub_api.read_token(a_token(place, mode=mode))
    assert "0600" in caught.value.context


def test_no_token_is_taken_from_elsewhere(
    server: LoopbackHub, cache: BlobCache, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(a_token(place)))
    resolve(cache)
    assert not [asked for asked in server.asked if "authorization" in map(str.lower, asked.headers)]
    with pytest.raises(BadUsage):
        hub_api.read_token(place / "none")


def test_no_network_is_the_hosts_fault(cache: BlobCache, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:1")
    error = refusal(cache)
    assert (error.reference, error.fault) == ("hub-unreachable", Fault.HOST)


def test_offline_mode_is_named(cache: BlobCache, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert refusal(cache).reference == "hub-offline-mode"


def test_a_busy_hub_is_asked_again(server: LoopbackHub, cache: BlobCache) -> None:
    server.faults.statuses = [503, 429]
    assert resolve(cache).files
    server.faults.statuses = [500] * 9
    assert refusal(cache).reference == "hub-busy"


@pytest.mark.parametrize(
    "answer",
    [
        b"<html>Log in to the network</html>",
        b"[]",
        b"{}",
        b'{"id": "example-org/tiny-model"}',
        b'{"id": "example-org/tiny-model", "sha": "main", "siblings": []}',
        b'{"id": "example-org/tiny-model", "siblings": [1]}',
        b'{"id": "x", "siblings": [{"rfilename": "a", "lfs": {"size": 1}}]}',
    ],
)
def test_an_answer_that_is_none_is_named(
    cache: BlobCache, monkeypatch: pytest.MonkeyPatch, answer: bytes
) -> None:
    with serving(FlakyServer()) as portal:
        portal.put(f"/api/models/{NAME}/revision/main", answer)
        monkeypatch.setenv("HF_ENDPOINT", portal.address())
        assert refusal(cache).reference == "hub-answer-odd"


def test_a_model_that_moved_to_another_owner_is_not_followed(
    server: LoopbackHub, repository: Repository, cache: BlobCache
) -> None:
    repository.name = "somebody-else/tiny-model"
    error = refusal(cache)
    assert error.reference == "model-moved"
    assert "somebody-else/tiny-model" in error.message


@pytest.mark.parametrize(
    ("path", "data", "said"),
    [
        ("pytorch_model.bin", b"\x80\x02.", "pickle"),
        ("modeling_tiny.py", b"import os", "program code"),
        ("config.json", b'{"auto_map": {"AutoModel": "modeling.X"}}', "auto_map"),
        ("tokenizer_config.json", b'{"chat_template": "{{ x.__class__ }}"}', "__class__"),
        ("vocab.txt", b"PK\x03\x04", "zip"),
    ],
)
def test_more_than_data_is_refused_when_it_is_pinned(
    server: LoopbackHub, repository: Repository, cache: BlobCache, path: str, data: bytes, said: str
) -> None:
    repository.files[path] = data
    wish = WISH.model_copy(update={"patterns": (*WISH.patterns, path)})
    error = refusal(cache, wish)
    assert (error.reference, error.exit_code) == ("model-refused", ExitCode.VERIFICATION_REFUSED)
    assert path in error.context
    assert said in error.context


def test_weights_are_judged_when_they_are_fetched(
    server: LoopbackHub, repository: Repository, cache: BlobCache
) -> None:
    overlap = tensors(a=("U8", [4], [0, 4]), b=("U8", [4], [2, 6]))
    repository.files["model.safetensors"] = safetensors(overlap, bytes(6))
    with pytest.raises(VerificationRefused) as caught:
        hub.fetch(resolve(cache), cache, silent)
    assert caught.value.reference == "model-refused"
    assert "model.safetensors" in caught.value.context


def test_a_hub_that_lies_about_weights_is_found_out(
    server: LoopbackHub, repository: Repository, cache: BlobCache
) -> None:
    repository.lies["model.safetensors"] = "1" * 64
    pin = resolve(cache)
    server.moved[f"/lfs/{'1' * 64}"] = f"/lfs/{repository.sha256('model.safetensors')}"
    with pytest.raises(VerificationRefused) as caught:
        hub.fetch(pin, cache, silent)
    assert caught.value.reference == "download-refused"
    assert "model.safetensors" in caught.value.message


def test_a_hub_that_sends_other_small_files_than_it_lists_is_found_out(
    server: LoopbackHub, repository: Repository, cache: BlobCache
) -> None:
    repository.lies["config.json"] = "2" * 40
    error = refusal(cache)
    assert error.reference == "model-changed"
    assert "config.json" in error.context


def test_a_large_file_outside_of_lfs_is_odd(
    cache: BlobCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    siblings = [
        {"rfilename": "a.safetensors", "size": 1 << 40},
        {"rfilename": "b.safetensors", "lfs": {"sha256": "x", "size": 1, "pointerSize": 1}},
    ]
    for sibling in siblings:
        info = {"id": NAME, "sha": commit_of("first"), "siblings": [sibling]}
        with serving(FlakyServer()) as server:
            server.put(f"/api/models/{NAME}/revision/main", json.dumps(info).encode())
            monkeypatch.setenv("HF_ENDPOINT", server.address())
            assert refusal(cache).reference == "hub-answer-odd"
