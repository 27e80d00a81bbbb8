"""Folders and secrets of containers: made once, given to one reader each, never made over."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest

from aibox.box import prerequisites, secrets
from aibox.box.filesystem import Filesystem, Kind, Operation
from aibox.errors import AiboxError, Failed, NeedsPerson
from aibox.prerequisites import (
    AUTHORITY,
    CERTIFICATE,
    KEY,
    SITE_ENGINE_AUTHORITY,
    SITE_TLS,
    Copy,
    Folder,
    Prerequisites,
    Secret,
    path_of_secret,
)

ME = os.getuid()
pytestmark = pytest.mark.skipif(
    ME != 0 and os.getgid() != ME, reason="files can be given to a group of one's own alone"
)
OTHER = 70001 if ME == 0 else ME
USERS = {"app": OTHER, "chat": ME or 70004, "gateway": OTHER}


def make(**changes: object) -> Prerequisites:
    values = {
        "users": {**USERS},
        "folders": (Folder(path="data/rag", user="app"),),
        "secrets": (Secret(name="chat-api-key", readers=("app", "chat")),),
        "copies": (),
        **changes,
    }
    return Prerequisites.model_construct(**values)


def provide(root: Path, wanted: Prerequisites | None = None) -> tuple[str, ...]:
    return prerequisites.provide(Filesystem(), root, wanted or make())


def owner(path: Path) -> tuple[int, int]:
    facts = path.lstat()
    return facts.st_uid, stat.S_IMODE(facts.st_mode)


def test_a_secret_is_made_once_and_each_reader_has_its_own_file(tmp_path: Path) -> None:
    assert set(provide(tmp_path)) >= {"secrets/chat-api-key"}
    original = tmp_path / "secrets" / "chat-api-key"
    text = original.read_text()
    assert len(bytes.fromhex(text.strip())) == 32
    assert owner(original) == (ME, 0o600)
    for reader in ("app", "chat"):
        mine = tmp_path / path_of_secret(reader, "chat-api-key")
        assert (mine.read_text(), owner(mine)) == (text, (USERS[reader], 0o600))
        assert owner(mine.parent) == (ME, 0o700)
    assert provide(tmp_path) == ()
    assert original.read_text() == text


def test_two_boxes_do_not_share_a_secret(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        provide(tmp_path / name)
    texts = {(tmp_path / name / "secrets/chat-api-key").read_text() for name in ("one", "two")}
    assert len(texts) == 2


def test_a_readers_file_is_put_right_and_the_original_never_changes(tmp_path: Path) -> None:
    provide(tmp_path)
    original = (tmp_path / "secrets/chat-api-key").read_text()
    mine = tmp_path / "secrets/app/chat-api-key"
    mine.write_text("something else")
    mine.chmod(0o644)
    assert provide(tmp_path) == ("secrets/chat-api-key",)
    assert (mine.read_text(), owner(mine)) == (original, (OTHER, 0o600))


@pytest.mark.parametrize("damage", ["empty", "short", "open", "link", "folder"])
def test_a_damaged_secret_needs_a_person_and_is_left_alone(tmp_path: Path, damage: str) -> None:
    (tmp_path / "secrets").mkdir()
    path = tmp_path / "secrets/chat-api-key"
    good = "ab" * 32 + "\n"
    if damage == "link":
        (tmp_path / "elsewhere").write_text(good)
        path.symlink_to(tmp_path / "elsewhere")
    elif damage == "folder":
        path.mkdir()
    else:
        path.write_text({"empty": "", "short": "ab", "open": good}[damage])
        path.chmod(0o644 if damage == "open" else 0o600)
    with pytest.raises(NeedsPerson) as caught:
        provide(tmp_path)
    assert caught.value.reference == "secret-damaged"
    assert good.strip() not in str(caught.value.__dict__)
    assert not (tmp_path / "secrets/app").exists()


def test_a_folder_belongs_to_its_user_with_all_that_is_in_it(tmp_path: Path) -> None:
    inside = tmp_path / "data/rag/uploads"
    inside.mkdir(parents=True)
    (inside / "left").write_text("")
    (inside / "link").symlink_to("/etc/passwd")
    provide(tmp_path)
    assert {owner(path)[0] for path in (inside.parent, inside, *inside.iterdir())} == {OTHER}
    assert Path("/etc/passwd").stat().st_uid == 0


def test_what_is_in_the_way_of_a_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "data").symlink_to("/tmp")
    with pytest.raises(Failed, match="data is not a folder"):
        provide(tmp_path)


def test_files_of_the_site_are_copied_for_their_reader(tmp_path: Path) -> None:
    root = tmp_path / "box"
    root.mkdir()
    chain, key = tmp_path / "site.crt", tmp_path / "site.key"
    chain.write_text("certificate")
    key.write_text("key")
    key.chmod(0o600)
    wanted = make(
        folders=(Folder(path=SITE_TLS, user="gateway"),),
        copies=(
            Copy(source=str(chain), path=CERTIFICATE, user="gateway"),
            Copy(source=str(key), path=KEY, user="gateway"),
        ),
    )
    assert KEY in provide(root, wanted)
    assert (root / KEY).read_text() == "key"
    assert owner(root / KEY) == (OTHER, 0o600)
    assert provide(root, wanted) == ()
    chain.write_text("renewed")
    assert provide(root, wanted) == (CERTIFICATE,)
    key.chmod(0o640)
    with pytest.raises(Failed) as caught:
        provide(root, wanted)
    assert caught.value.reference == "site-secret-open"
    key.unlink()
    with pytest.raises(Failed) as caught:
        provide(root, wanted)
    assert caught.value.reference == "site-file-unreadable"


def test_who_vouches_for_an_endpoint_is_no_secret_and_is_copied(tmp_path: Path) -> None:
    root, authority = tmp_path / "box", tmp_path / "ca.pem"
    root.mkdir()
    authority.write_text("certificate")
    authority.chmod(0o644)
    target = path_of_secret("app", SITE_ENGINE_AUTHORITY)
    copies = (Copy(source=str(authority), path=target, user="gateway"),)
    assert target in provide(root, make(copies=copies))
    assert owner(root / target) == (OTHER, 0o600)


def test_the_authority_of_the_gateway_is_found_under_one_name(tmp_path: Path) -> None:
    wanted = make(folders=(Folder(path="tls/gateway", user="gateway"),))
    provide(tmp_path, wanted)
    made = tmp_path / "tls/gateway/pki/authorities/local"
    made.mkdir(parents=True)
    (made / "root.crt").write_text("authority")
    assert (tmp_path / AUTHORITY).read_text() == "authority"
    assert provide(tmp_path, wanted) == ()


def test_a_cut_at_any_step_leaves_a_whole_secret_or_none(tmp_path: Path) -> None:
    step = 0
    while True:
        root = tmp_path / str(step)
        root.mkdir()
        left = step

        def cut(operation: Operation) -> None:
            nonlocal left
            if left == 0:
                raise OSError(5, "cut", str(operation.path))
            left -= 1

        try:
            prerequisites.provide(Filesystem(cut), root, make())
        except AiboxError:
            step += 1
        else:
            break
        original = root / "secrets/chat-api-key"
        before = original.read_text() if original.exists() else None
        provide(root)
        assert before in (None, original.read_text())
        assert (root / "secrets/app/chat-api-key").read_text() == original.read_text()
        assert {path.name for path in (root / "secrets").iterdir()} == {
            "app",
            "chat",
            "chat-api-key",
        }
    assert step > 20


def test_the_footing_of_a_generation_reads_back_or_is_damaged(tmp_path: Path) -> None:
    (tmp_path / "config").mkdir()
    wanted = Prerequisites(users={"app": 70002}, folders=(), secrets=(), copies=())
    (tmp_path / prerequisites.FILE).write_text(json.dumps(wanted.model_dump(mode="json")))
    assert prerequisites.read(tmp_path) == wanted
    (tmp_path / prerequisites.FILE).write_text('{"users": 1}')
    with pytest.raises(NeedsPerson):
        prerequisites.read(tmp_path)


def test_a_secret_is_durable_before_it_has_its_name(tmp_path: Path) -> None:
    seen: list[tuple[Kind, str]] = []
    wanted = Secret(name="x", readers=())
    secrets.provide(
        Filesystem(lambda operation: seen.append((operation.kind, operation.path.name))),
        tmp_path,
        wanted,
        USERS,
    )
    assert seen.index((Kind.SYNC_FILE, ".x.new")) < seen.index((Kind.LINK, "x"))
    assert seen[-1] == (Kind.SYNC_DIRECTORY, "secrets")
