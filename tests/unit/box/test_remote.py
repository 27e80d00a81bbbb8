"""Other hosts over a real sshd on loopback: what can go wrong is told apart, files are resumed."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

import ssh_server as ssh
from aibox.box.remote import Login, Remote, ssh_failure
from aibox.errors import AiboxError, Failed, VerificationRefused
from aibox.orders import Order, Progress, Step
from ssh_server import SshServer

pytestmark = pytest.mark.skipif(bool(ssh.REASON), reason=ssh.REASON)
OTHER_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIEilyk5DxiONUdnMt3J6Vvwqv+jotGOIywdParRI2dkb"
MEMBER = """\
import json, sys
print("unpacking", file=sys.stderr, flush=True)
for line in sys.stdin:
    order = json.loads(line)
    if order["step"] == "alive":
        continue
    if order["step"] == "gate":
        sys.exit(1)
    told = {"progress": {"step": "stage", "message": "half"}}
    print(json.dumps(told), flush=True)
    if order["step"] == "commit":
        error = {"reference": "disk-full", "message": "no room", "hint": "df -h",
                 "fault": "the host", "exit_code": 4, "context": "x"}
        print(json.dumps({"error": error}), flush=True)
    else:
        print(json.dumps({"done": {"step": order["step"]}}), flush=True)
"""
"""A double of the command line on the other host: it answers, fails and dies as it is told."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshServer]:
    with ssh.ssh_server(tmp_path_factory.mktemp("ssh") / "server") as running:
        yield running


def refused(login: Login) -> AiboxError:
    with pytest.raises(Failed) as caught:
        Remote(login).require_usable()
    return caught.value


def copy(remote: Remote, source: Path, names: list[str], target: Path) -> list[str]:
    lines: list[str] = []
    lists = target.parent / "lists"
    lists.mkdir(exist_ok=True)
    remote.copy(source, names, str(target), on_line=lines.append, on_tick=lambda: None, lists=lists)
    return lines


def test_a_usable_host_tells_its_architecture(server: SshServer) -> None:
    assert Remote(server.login).require_usable() in ("x86_64", "aarch64")


def test_a_host_that_does_not_listen_is_unreachable(server: SshServer) -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        error = refused(replace(server.login, port=bound.getsockname()[1]))
    assert error.reference == "host-unreachable"
    assert "box1" in error.message


def test_a_key_that_the_host_does_not_know_is_refused(server: SshServer, tmp_path: Path) -> None:
    ssh._run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / "wrong"))
    error = refused(replace(server.login, key_file=str(tmp_path / "wrong")))
    assert error.reference == "ssh-refused"
    assert "ssh-copy-id" in error.hint


def test_a_host_with_another_key_is_not_spoken_to(server: SshServer) -> None:
    error = refused(server.known_as(OTHER_KEY))
    assert error.reference == "ssh-host-key"


def test_sudo_that_wants_a_password_is_told_with_the_way_out(
    server: SshServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.with_program("id", "#!/bin/sh\n# A double of id: not root.\necho 1000\n")
    server.with_program("sudo", ssh.SUDO_ASKS)
    try:
        error = refused(server.login)
    finally:
        server.with_program("sudo", ssh.SUDO)
        (server.bin / "id").unlink()
    assert error.reference == "sudo-needs-password"
    assert "NOPASSWD" in error.hint
    assert error.message.startswith("the host box1")


def test_a_host_without_rsync_is_told(server: SshServer) -> None:
    server.with_program("rsync", "#!/bin/sh\n# A double: as if there were none.\nexit 127\n")
    try:
        assert refused(server.login).reference == "rsync-missing"
    finally:
        (server.bin / "rsync").unlink()


def test_files_arrive_closed_to_others(server: SshServer, tmp_path: Path) -> None:
    source, target = tmp_path / "from here", tmp_path / "to"
    (source / "blobs").mkdir(parents=True)
    (source / "blobs" / "a b'c").write_bytes(b"x" * 100_000)
    (source / "not asked for").write_bytes(b"y")
    remote = Remote(server.login)
    remote.require_usable()
    remote.make_folder(str(target))
    copy(remote, source, ["blobs/a b'c"], target)
    assert (target / "blobs" / "a b'c").read_bytes() == b"x" * 100_000
    assert (target / "blobs" / "a b'c").stat().st_mode & 0o777 == 0o600
    assert not (target / "not asked for").exists()


def test_a_file_that_was_begun_is_gone_on_with(server: SshServer, tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.mkdir()
    target.mkdir()
    (source / "big").write_bytes(bytes(range(256)) * 40_000)
    (target / "big").write_bytes((source / "big").read_bytes()[:5_000_000])
    (target / "big").chmod(0o600)
    begun = (target / "big").stat().st_ino
    lines = copy(Remote(server.login), source, ["big"], target)
    assert (target / "big").read_bytes() == (source / "big").read_bytes()
    # Sent as a whole it would be another file.
    assert (target / "big").stat().st_ino == begun
    assert any("100%" in line for line in lines)


def test_a_copy_that_cannot_be_written_says_so(server: SshServer, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "a").write_bytes(b"x")
    (tmp_path / "in-the-way").write_bytes(b"")
    with pytest.raises(Failed, match="did not get all files") as caught:
        copy(Remote(server.login), source, ["a"], tmp_path / "in-the-way")
    assert caught.value.reference == "copy-failed"


@pytest.fixture
def told(server: SshServer, tmp_path: Path) -> tuple[Remote, list[str], list[Progress]]:
    program = tmp_path / "member.py"
    program.write_text(MEMBER)
    return Remote(server.login), ["python3", str(program)], []


def test_a_session_answers_step_by_step(told: tuple[Remote, list[str], list[Progress]]) -> None:
    remote, words, heard = told
    session = remote.session(words, heard.append)
    assert session.ask(Order(step=Step.HOLD)) == {"step": "hold"}
    assert session.ask(Order(step=Step.PLAN)) == {"step": "plan"}
    session.close()
    assert Progress(step="stage", message="half") in heard
    assert Progress(step="start", message="unpacking") in heard


def test_what_fails_there_fails_here_with_the_name_of_the_host(
    told: tuple[Remote, list[str], list[Progress]],
) -> None:
    remote, words, heard = told
    session = remote.session(words, heard.append)
    with pytest.raises(VerificationRefused, match="the host box1: no room") as caught:
        session.ask(Order(step=Step.COMMIT))
    session.close()
    assert (caught.value.reference, caught.value.hint) == ("disk-full", "df -h")


@pytest.mark.parametrize("how", ["dies", "is cut"])
def test_a_session_that_is_lost_is_told(
    how: str, told: tuple[Remote, list[str], list[Progress]]
) -> None:
    remote, words, heard = told
    session = remote.session(words, heard.append)
    if how == "is cut":
        session.cut()
    with pytest.raises(Failed, match="box1") as caught:
        session.ask(Order(step=Step.GATE))
    session.close()
    assert caught.value.reference in ("host-lost", "host-unreachable")


def test_a_host_without_a_box_is_no_lost_host(server: SshServer, tmp_path: Path) -> None:
    session = Remote(server.login).session([str(tmp_path / "bin" / "aibox")], lambda _: None)
    with pytest.raises(Failed, match="nothing is installed on the host box1"):
        session.ask(Order(step=Step.STATUS))
    session.close()


def test_ssh_words_are_told_apart() -> None:
    login = Login("a", "10.0.0.1", "ann")
    for text, reference in (
        ("ann@10.0.0.1: Permission denied (publickey).", "ssh-refused"),
        ("Host key verification failed.", "ssh-host-key"),
        ("ssh: connect to host 10.0.0.1 port 22: No route to host", "host-unreachable"),
        ("", "host-unreachable"),
    ):
        assert ssh_failure(login, text).reference == reference, json.dumps(text)
