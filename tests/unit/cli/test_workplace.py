"""How commands are typed: in a checkout, from a medium, and in a box."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from aibox import content, pipeline
from aibox.cli import app, show, workplace
from aibox.content import Content
from aibox.errors import BadUsage, Failed


@pytest.fixture
def box(place: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A box of somebody whose command line came out of a bundle."""
    root = place / "홈 1" / "box"
    program = root / "programs" / "0123456789abcdef"
    program.mkdir(parents=True)
    (program / "program.txt").write_text("aibox-program 1\n")
    monkeypatch.setenv("AIBOX_HOME", str(root))
    monkeypatch.setenv("HOME", str(place / "home"))
    monkeypatch.delenv("AIBOX_BUNDLE", raising=False)
    monkeypatch.setattr(content, "find", lambda: Content(program))
    return root


def link(box: Path) -> Path:
    path = box / "bin" / "aibox"
    path.parent.mkdir()
    path.write_text("")
    return path


def test_a_checkout_is_typed_as_it_lies() -> None:
    assert show.as_typed("see: ./aibox status") == "see: ./aibox status"


def test_a_box_has_a_link(box: Path) -> None:
    link(box)
    assert show.as_typed("see: ./aibox status") == f"see: '{box}/bin/aibox' status"


def test_below_the_home_the_link_is_short(box: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(box.parent))
    link(box)
    assert show.as_typed("./aibox status") == "~/box/bin/aibox status"


def test_before_there_is_a_box_the_medium_is_typed(
    box: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIBOX_BUNDLE", "/media/USB 스틱/box")
    assert show.as_typed("./aibox install") == "sh '/media/USB 스틱/box/aibox' install"
    link(box)
    assert show.as_typed("./aibox status") == f"'{box}/bin/aibox' status"


def test_without_medium_and_link_the_program_itself_is_typed(box: Path) -> None:
    program = box / "programs" / "0123456789abcdef" / "aibox"
    assert show.as_typed("./aibox install") == f"sh '{program}' install"


def test_a_box_from_a_bundle_is_upgraded_to_something_that_is_named(
    box: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(pipeline, "require_box", lambda _place: None)
    monkeypatch.setattr(sys, "argv", ["aibox", "upgrade", "--json"])
    link(box)
    with pytest.raises(SystemExit) as ended:
        app.main()
    told = json.loads(capsys.readouterr().out)
    assert (ended.value.code, told["reference"]) == (2, "upgrade-to-what")
    assert told["hint"].endswith("/bin/aibox' upgrade --bundle BUNDLE")


@pytest.mark.parametrize("words", ["lock --next", "bundle build --sign DIR", "trust rotate DIR"])
def test_what_a_packager_types_is_typed_in_a_checkout(box: Path, words: str) -> None:
    link(box)
    told = show.as_typed(f"./aibox history; its maker: ./aibox {words}")
    assert told == f"'{box}/bin/aibox' history; its maker: ./aibox {words}"


@pytest.mark.parametrize("mark", ["record.jsonl", "journal/intent.json"])
def test_a_program_in_a_box_means_that_box_even_if_its_first_installation_was_cut_off(
    box: Path, mark: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AIBOX_HOME")
    (box / mark).parent.mkdir(exist_ok=True)
    (box / mark).write_text("")
    assert workplace.box_root() == box


def test_a_program_from_a_medium_means_the_users_box(
    box: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AIBOX_HOME")
    monkeypatch.setenv("XDG_DATA_HOME", "/data")
    assert workplace.box_root() == Path("/data/aibox")


def test_the_box_of_a_server_belongs_to_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AIBOX_HOME", raising=False)
    assert workplace.box_root(server=True) == workplace.SERVER_ROOT


def test_who_may_write_to_the_hosts_box_and_has_none_means_that_one(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AIBOX_HOME", raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(place / "data"))
    monkeypatch.setattr(workplace, "SERVER_ROOT", place / "server")
    (place / "server").mkdir()
    assert workplace.box_root() == place / "data/aibox"
    (place / "server/record.jsonl").write_text("")
    assert workplace.box_root() == place / "server"
    (place / "data/aibox").mkdir(parents=True)
    (place / "data/aibox/record.jsonl").write_text("")
    assert workplace.box_root() == place / "data/aibox"


def test_aibox_home_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIBOX_HOME", "/srv/box")
    assert workplace.box_root(server=True) == Path("/srv/box")


def another_user(monkeypatch: pytest.MonkeyPatch, name: int) -> None:
    """Who asks is somebody else than who made the files of the test."""
    monkeypatch.setattr("os.geteuid", lambda: name)


@pytest.mark.parametrize("mode", [0o755, 0o700])
def test_a_box_of_another_user_is_told_from_none(
    box: Path, monkeypatch: pytest.MonkeyPatch, mode: int
) -> None:
    (box / "record.jsonl").touch()
    real = os.access
    closed = mode == 0o700
    monkeypatch.setattr("os.access", lambda path, need: not closed and real(path, need))
    another_user(monkeypatch, os.geteuid() + 1)
    with pytest.raises(Failed) as caught:
        workplace.workplace(lambda _: None)
    assert caught.value.reference == "box-of-another-user"
    assert re.search(r"sudo (-u \S+ )?\./aibox status$", caught.value.hint)


def test_root_and_the_owner_may_use_a_box_and_anybody_make_one(
    box: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    another_user(monkeypatch, os.geteuid() + 1)
    assert workplace.workplace(lambda _: None).root == box, "there is none yet"
    (box / "record.jsonl").touch()
    for user in (0, box.stat().st_uid):
        another_user(monkeypatch, user)
        assert workplace.workplace(lambda _: None).root == box


@pytest.mark.parametrize(
    "named",
    ["{0}/file", "{0}/file/box", "{0}/{long}", "{0}/a\nb", "~no-such-user-here/box", "{0}/loop/x"],
)
def test_where_no_box_can_lie_none_is_looked_for(
    types: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, named: str
) -> None:
    (tmp_path / "file").write_text("not a folder")
    (tmp_path / "loop").symlink_to("loop")
    root = named.format(tmp_path, long="x" * 5000)
    for command in ("status", "history", "uninstall", "install"):
        words = (command, "--profile", "local") if command == "install" else (command,)
        monkeypatch.setenv("AIBOX_HOME", root)
        ended = types(*words, "--json")
        assert (ended.code, ended.json["reference"]) == (2, "box-root-unusable"), ended.err


def test_whoever_has_no_home_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    for name in ("AIBOX_HOME", "XDG_DATA_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Path, "home", no_home)
    with pytest.raises(BadUsage, match="HOME is not set"):
        workplace.box_root()
