"""`aibox lock` as a whole: what is written, what is only said, and that a check asks nobody."""

from __future__ import annotations

import datetime
from pathlib import Path

import pytest

import pin_examples as pins
import small_project
from aibox import lock as locks
from aibox import locking
from aibox.bundle.build.review import Change
from aibox.content import Content
from aibox.errors import AiboxError, BadUsage, Failed, Fault
from pin_examples import DoubleOfResolvers
from small_project import pylock, write_profile

DAY = datetime.date(2026, 11, 1)
ONE = pylock(("one", "1.0", "one"))
AWAY = Failed("hub-away", "the hub does not answer", hint="./aibox lock", fault=Fault.HOST)


@pytest.fixture
def content(tmp_path: Path) -> Content:
    return small_project.make(tmp_path)


def update(content: Content, double: DoubleOfResolvers, *upgrade: str) -> tuple[Change, ...]:
    return locking.update(content, (), upgrade, lambda _: None, double.resolvers(), DAY)


def states(found: tuple[Change, ...]) -> dict[str, str]:
    return {item.name: item.state.value for item in found}


def test_a_lock_is_written_once_and_then_up_to_date(content: Content) -> None:
    assert states(update(content, DoubleOfResolvers(ONE))) == {"models.lock": "changed"}
    written = content.lockfile.read_bytes()
    assert update(content, DoubleOfResolvers()) == ()
    assert locking.check(content, ()) == ()
    assert content.lockfile.read_bytes() == written
    assert locks.load(content.lockfile).date == DAY


def test_a_failed_resolution_writes_nothing(content: Content) -> None:
    update(content, DoubleOfResolvers(ONE))
    written = content.lockfile.read_bytes()
    write_profile(content, model=[pins.model_wish()])
    with pytest.raises(AiboxError, match="does not answer"):
        update(content, DoubleOfResolvers(small=AWAY))
    assert content.lockfile.read_bytes() == written


def test_a_check_says_what_is_missing_stale_and_unresolved(content: Content) -> None:
    wishes = [pins.model_wish(), pins.model_wish("large")]
    write_profile(content, model=wishes, image=[pins.image_wish()])
    found = {"small": pins.unresolved_model(), "large": pins.model("large")}
    update(content, DoubleOfResolvers(ONE, engine=pins.image(), **found))
    assert states(locking.check(content, ())) == {"model.small": "unresolved"}
    write_profile(
        content,
        model=[*wishes, pins.model_wish("new")],
        image=[pins.image_wish(reference="registry.example/maker/engine:v2")],
    )
    before = content.lockfile.read_bytes()
    assert states(locking.check(content, ())) == {
        "model.small": "unresolved",
        "model.new": "missing",
        "image.engine": "stale",
    }
    assert content.lockfile.read_bytes() == before


def test_a_check_sees_changed_files_and_requirements_without_asking(content: Content) -> None:
    update(content, DoubleOfResolvers(ONE))
    path = content.app_requirements
    path.write_text(path.read_text().replace("dependencies = [", 'dependencies = [\n  "new",', 1))
    (content.root / "stacks/prompts/system.txt").write_text("Be brief.\n")
    content.program_requirements.write_text("other==1.0\n")
    assert states(locking.check(content, ())) == {
        "prompts/system.txt": "changed",
        "wheel": "stale",
        "program": "stale",
    }


@pytest.mark.parametrize(
    ("path", "data", "reference"),
    [
        ("requirements/cli.lock", None, "requirements-missing"),
        ("stacks/rag/app/pyproject.toml", None, "requirements-missing"),
        ("stacks/rag/app/pyproject.toml", b"\xff", "requirements-unreadable"),
        ("stacks/rag/app/pyproject.toml", b"[project", "requirements-invalid"),
        ("stacks/rag/app/pyproject.toml", b"", "requirements-invalid"),
        ("stacks/rag/app/pyproject.toml", b"project.dependencies = [1]", "requirements-invalid"),
        ("stacks/rag/golden.toml", None, "golden-missing"),
        ("stacks/rag/golden.toml", b"\xff", "golden-unreadable"),
    ],
)
def test_a_file_of_the_checkout_that_is_gone_or_garbage_is_told(
    content: Content, path: str, data: bytes | None, reference: str
) -> None:
    update(content, DoubleOfResolvers(ONE))
    if data is None:
        (content.root / path).unlink()
    else:
        (content.root / path).write_bytes(data)
    for command in (
        lambda: locking.check(content, ()),
        lambda: update(content, DoubleOfResolvers(ONE)),
    ):
        with pytest.raises(BadUsage) as caught:
            command()
        assert caught.value.reference == reference
        assert path in caught.value.message
        assert caught.value.hint.endswith("./aibox lock")


def test_a_check_without_a_lock_is_refused(content: Content) -> None:
    with pytest.raises(BadUsage, match="does not exist"):
        locking.check(content, ())


def test_what_stays_unresolved_is_said_after_writing(content: Content) -> None:
    write_profile(content, model=[pins.model_wish()])
    update(content, DoubleOfResolvers(ONE, small=pins.unresolved_model()))
    (content.root / "stacks/prompts/system.txt").write_text("Be brief.\n")
    assert states(update(content, DoubleOfResolvers(small=AWAY))) == {
        "prompts/system.txt": "changed",
        "model.small": "unresolved",
    }


def test_a_build_does_not_put_up_with_what_stays_unresolved(content: Content) -> None:
    write_profile(content, model=[pins.model_wish()])
    update(content, DoubleOfResolvers(ONE, small=pins.unresolved_model()))
    double = DoubleOfResolvers(small=AWAY)
    with pytest.raises(Failed, match="does not answer"):
        locking.update(content, (), (), lambda _: None, double.resolvers(), DAY, strict=True)


def test_an_upgrade_is_reviewable(content: Content) -> None:
    write_profile(content, model=[pins.model_wish()])
    update(content, DoubleOfResolvers(ONE, small=pins.model()))
    moved = pins.model(revision=pins.NEWER)
    (change,) = update(content, DoubleOfResolvers(small=moved), "small")
    assert (change.name, change.current, change.desired) == (
        "model.small revision",
        "1" * 12,
        "2" * 12,
    )


def test_the_release_carries_the_pins_of_its_wishes(content: Content) -> None:
    write_profile(content, model=[pins.model_wish()])
    update(content, DoubleOfResolvers(ONE, small=pins.model()))
    assert locking.release_of(content, "local").models == (pins.model(),)


def test_a_new_command_line_gets_a_sequence_of_its_own(content: Content) -> None:
    update(content, DoubleOfResolvers(ONE))
    before = locks.load(content.lockfile)
    later = DAY + datetime.timedelta(days=1)
    assert locking.advance(content, later) == before.sequence + 1
    after = locks.load(content.lockfile)
    assert after == before.model_copy(update={"sequence": before.sequence + 1, "date": later})
