"""A real box, done wrong on purpose: killed commands, taken ports, small disks, bad documents.

One journey over one installed box; every test leaves it serving.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from .journey import Person, free_port, wait_until

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]

QUESTION = "How do I roll back a failed upgrade?"
INSTALL = ("install", "--profile", "local")
KILL_WHEN = (
    "[verify]",
    "[preflight]",
    "[provision]",
    "[stage]",
    "[activate]",
    "[services]",
    "[gate] waiting|[gate] rollback-en",
    "[gate] annual-leave-ko",
)


@pytest.fixture(scope="module")
def box(person: Person) -> Iterator[Person]:
    """An installed box; stopped at the end, with nothing left running."""
    person.types("install", "--profile", "local", "--port", str(person.port))
    yield person
    person.types("stop")
    assert person.processes() == {}


def lock_with_top_k(person: Person, value: int) -> Path:
    text = (person.checkout / "models.lock").read_text(encoding="utf-8")
    path = person.home / f"top_k_{value}.lock"
    path.write_text(re.sub(r"(?m)^top_k = .*$", f"top_k = {value}", text), encoding="utf-8")
    return path


def status(person: Person) -> Any:
    return person.types("status", "--json").json


def answers(person: Person) -> bool:
    return bool(person.types("ask", QUESTION, "--json").json["grounded"])


def kill_when(person: Person, line: str, *words: str) -> bool:
    """Run a command and SIGKILL it (not its children) at its first line that matches."""
    expected = "|".join(re.escape(part) for part in line.split("|"))
    with subprocess.Popen(
        [str(person.checkout / "aibox"), *words],
        cwd=person.checkout,
        env=person.surroundings(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        for said in process.stderr:
            if re.match(expected, said):
                os.kill(process.pid, signal.SIGKILL)
                return True
    return False


def recover_when_free(person: Person) -> list[str]:
    """Recover once the children of a killed command have ended: they hold the box until then."""
    taken: list[str] = []

    def is_free() -> bool:
        done = person.tries("recover", "--json")
        assert done.code == 0 or "error[box-busy]" in done.err, done.err
        taken.extend(done.json["steps"] if done.code == 0 else [])
        return done.code == 0

    wait_until(is_free, 60, "the children of a killed command have ended")
    return taken


@pytest.mark.parametrize(("number", "line"), list(enumerate(KILL_WHEN)))
def test_an_upgrade_killed_at_any_step_leaves_a_whole_box(
    box: Person, number: int, line: str, figure: Callable[[str], None]
) -> None:
    before = status(box)["release"]
    lock = lock_with_top_k(box, 10 + number)
    assert kill_when(box, line, "upgrade", "--lockfile", str(lock), "--yes")
    steps = recover_when_free(box)
    found = status(box)
    assert found["state"] == "running"
    assert answers(box)
    assert found["release"] == before or "finish what was committed" in steps
    box.types("upgrade", "--lockfile", str(lock), "--yes")
    assert status(box)["release"] != before
    assert all(fact["outcome"] for fact in box.types("history", "--json").json)
    figure(f"upgrade killed at {line}: recovery took {steps or ['nothing']}")


@pytest.mark.parametrize("line", ["[activate]", "[gate]"])
def test_a_killed_rollback_leaves_a_whole_box(box: Person, line: str) -> None:
    assert kill_when(box, line, "rollback")
    recover_when_free(box)
    assert status(box)["state"] == "running"
    assert answers(box)
    box.types("rollback")
    assert answers(box)


def test_two_commands_at_once_do_not_mix(box: Person) -> None:
    lock = lock_with_top_k(box, 40)
    with subprocess.Popen(
        [str(box.checkout / "aibox"), "upgrade", "--lockfile", str(lock), "--yes"],
        cwd=box.checkout,
        env=box.surroundings(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as first:
        assert first.stderr is not None
        next(line for line in first.stderr if line.startswith("[stage]"))
        second = box.types("rollback", code=1)
        assert "error[box-busy]" in second.err
        first.stderr.read()
        assert first.wait(600) == 0
    assert answers(box)


def test_a_taken_port_is_refused_before_anything_changes(box: Person) -> None:
    generation = status(box)["generation"]
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        done = box.types("install", "--port", str(port), "--yes", code=3)
    assert f"{port}" in done.err
    assert status(box)["generation"] == generation
    assert answers(box)


def test_a_flipped_bit_is_found_and_mended_by_installing_again(box: Person) -> None:
    prompt = next((box.box / "current/tree/prompts").glob("system.txt"))
    data = bytearray(prompt.read_bytes())
    data[0] ^= 1
    prompt.chmod(0o644)
    prompt.write_bytes(data)
    assert box.types("doctor", code=1).err.count("error[doctor-found-faults]") == 1
    lock = lock_with_top_k(box, 40)
    box.types("install", "--lockfile", str(lock), "--yes")
    box.types("doctor")
    assert answers(box)


def test_a_damaged_environment_is_built_again(box: Person) -> None:
    package = next((box.box / "environments").glob("*/lib/python3*/site-packages/starlette"))
    (package / "applications.py").write_text("raise SystemExit('damaged')\n")
    box.types("stop")
    box.types("start")
    assert answers(box)


def test_a_disk_that_is_too_small_is_refused(box: Person, tmp_path: Path) -> None:
    if os.geteuid() != 0 or shutil.which("mkfs.ext4") is None:
        pytest.skip("needs root and e2fsprogs: run ./test e2e as root with mkfs.ext4 installed")
    image, mount = tmp_path / "small.img", tmp_path / "mount"
    mount.mkdir()
    with image.open("wb") as stream:
        stream.truncate(64 << 20)
    subprocess.run(["mkfs.ext4", "-q", str(image)], check=True)
    mounted = subprocess.run(["mount", "-o", "loop", str(image), str(mount)], check=False)
    if mounted.returncode:
        pytest.skip("loop mounts are not allowed here: run ./test e2e on a host that allows them")
    try:
        other = {**box.surroundings(), "AIBOX_HOME": str(mount / "box")}
        done = subprocess.run(
            [str(box.checkout / "aibox"), *INSTALL, "--port", str(free_port())],
            env=other,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 3, done.stderr
        assert "disk space" in done.stderr
    finally:
        subprocess.run(["umount", str(mount)], check=True)


def test_documents_good_and_bad_are_told_apart(box: Person, tmp_path: Path) -> None:
    folder = tmp_path / "자료 모음"
    folder.mkdir()
    (folder / "출장 여비 규정.md").write_text(
        "# 출장 여비 규정\n\n## 숙박비\n\n국내 출장 숙박비는 1박에 90,000원을 한도로 지급한다.\n",
        encoding="utf-8",
    )
    (folder / "empty.txt").touch()
    (folder / "broken.docx").write_bytes(b"PK\x03\x04 this is not a document")
    with zipfile.ZipFile(folder / "bomb.docx", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("[Content_Types].xml", b"<Types/>")
        archive.writestr("word/document.xml", b"0" * (200 << 20))
    done = box.types("docs", "add", str(folder), "--json", code=1)
    states = {item["name"]: item["state"] for item in done.json["documents"]}
    ready = {name for name, state in states.items() if state == "ready"}
    assert ready == {"출장 여비 규정.md"}
    told = {*states, *(item["name"] for item in done.json["refused"])}
    assert told == {path.name for path in folder.iterdir()}
    answer = box.types("ask", "국내 출장 숙박비는 얼마까지 지급하나요?", "--json").json
    assert answer["citations"][0]["document"] == "출장 여비 규정.md"
    assert "90,000원" in answer["answer"]


def test_a_removed_document_is_not_cited_any_more(box: Person) -> None:
    listed = box.types("docs", "list", "--json").json["documents"]
    (document,) = [item["id"] for item in listed if item["name"] == "출장 여비 규정.md"]
    box.types("docs", "remove", document)
    answer = box.types("ask", "국내 출장 숙박비는 얼마까지 지급하나요?", "--json").json
    assert "출장 여비 규정.md" not in {item["document"] for item in answer["citations"]}


def test_documents_survive_uninstall_without_purge(box: Person, tmp_path: Path) -> None:
    note = tmp_path / "gate-code.txt"
    note.write_text("The code of the north gate is 4711.\n")
    box.types("docs", "add", str(note))
    box.types("uninstall")
    box.types("install", "--profile", "local", "--port", str(box.port))
    answer = box.types("ask", "What is the code of the north gate?", "--json").json
    assert "4711" in answer["answer"]
