"""`aibox lock` against a hub, a registry and a web server on loopback: from wishes to a release."""

from __future__ import annotations

import dataclasses
import datetime
import json
import struct
from pathlib import Path

import pytest

import pin_examples as pins
import small_project
from aibox import lock as locks
from aibox import locking, release
from aibox.bundle.build.review import Change
from aibox.content import Content
from aibox.errors import AiboxError, VerificationRefused
from aibox.locking import Sources
from aibox.pins import State
from aibox.profile import ModelWish
from flaky_server import serving
from image_maker import make_image, tar
from loopback_hub import LoopbackHub, Repository, commit_of
from pin_examples import DoubleOfResolvers
from registry_double import registry_double
from small_project import pylock, write_profile

DAY = datetime.date(2026, 11, 1)
ONE = pylock(("one", "1.0", "one"))
HEADER = json.dumps({"w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
WEIGHTS = struct.pack("<Q", len(HEADER)) + HEADER + b"\0\0\0\0"
FILES = {"model.safetensors": WEIGHTS, "config.json": b"{}", "README.md": b"# nothing"}
WISH = ModelWish(name="tiny", repository="maker/tiny")


@pytest.fixture
def content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Content:
    monkeypatch.setenv("AIBOX_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("aibox.bundle.build.hub_api.FIRST_DELAY_S", 0.0)
    monkeypatch.setenv("REGISTRY_AUTH_FILE", str(tmp_path / "no auth.json"))
    return small_project.make(tmp_path / "project")


def update(content: Content, *upgrade: str) -> tuple[Change, ...]:
    real = locking.resolvers(lambda _: None, Sources())
    packages = DoubleOfResolvers(ONE).resolvers()
    mixed = dataclasses.replace(real, wheels=packages.wheels, describe=packages.describe)
    return locking.update(content, (), upgrade, lambda _: None, mixed, DAY)


def hub_of(commit: str = commit_of("first")) -> LoopbackHub:
    hub = LoopbackHub()
    hub.add(Repository("maker/tiny", dict(FILES), commit=commit, branches={"main": commit}))
    return hub


def test_wishes_become_pins_of_every_byte(
    content: Content, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(hub_of()) as hub, registry_double() as registry:
        monkeypatch.setenv("HF_ENDPOINT", hub.address())
        registry.hold(make_image([tar({"bin/a": b"a"})]), "1")
        image = pins.image_wish(reference=f"{registry.registry}/demo/app:1")
        write_profile(content, model=[WISH], image=[image])
        update(content)
        made = locking.release_of(content, "local")
    assert release.unresolved(made) == ()
    assert [file.path for file in made.models[0].files] == ["config.json", "model.safetensors"]
    assert made.images[0].platforms[0].platform == "linux/amd64"
    assert update(content) == ()  # nobody is there to be asked any more
    assert locking.check(content, ()) == ()


def test_a_pin_of_the_catalogue_is_completed_at_its_commit(
    content: Content, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = pins.unresolved_model("tiny", revision=commit_of("first"))
    catalogued(content, known)
    write_profile(content, model=[WISH])
    with serving(hub_of()) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.address())
        update(content)
    (pin,) = locks.load(content.lockfile).model
    assert (pin.state, pin.revision) == (State.RESOLVED, known.revision)


def catalogued(content: Content, known: pins.ModelPin) -> None:
    update(content)
    lock = locks.load(content.lockfile).model_copy(update={"model": (known,)})
    content.lockfile.write_text(locks.dump(lock))


def test_a_hub_with_other_bytes_than_the_catalogue_says_is_refused(
    content: Content, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = pins.ModelFile(path="model.safetensors", sha256=pins.sha("other weights"))
    catalogued(content, pins.unresolved_model("tiny", revision=commit_of("first"), files=(wrong,)))
    write_profile(content, model=[WISH])
    before = content.lockfile.read_bytes()
    with serving(hub_of()) as hub, pytest.raises(VerificationRefused):
        monkeypatch.setenv("HF_ENDPOINT", hub.address())
        update(content)
    assert content.lockfile.read_bytes() == before


def test_an_upgrade_of_a_model_moves_to_the_newest_commit(
    content: Content, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_profile(content, model=[WISH])
    with serving(hub_of()) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.address())
        update(content)
    with serving(hub_of(commit_of("second"))) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.address())
        changes = update(content, "tiny")
    names = {change.name for change in changes}
    assert "model.tiny revision" in names
    assert locks.load(content.lockfile).sequence == 2


def test_without_a_hub_a_wish_that_was_never_pinned_is_an_error(
    content: Content, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    write_profile(content, model=[WISH])
    with pytest.raises(AiboxError) as caught:
        update(content)
    assert caught.value.reference == "hub-unreachable"
    assert not content.lockfile.exists()
