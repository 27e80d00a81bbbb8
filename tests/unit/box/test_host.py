from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from packaging.utils import parse_wheel_filename

from aibox.box import host

WAIT = "import time; print(flush=True); time.sleep(60)"
TABLE = """\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:21C2 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 111 1
   1: 0100007F:21C2 0100007F:9C40 01 00000000:00000000 00:00000000 00000000  1000        0 222 1
   2: 0100007F:21C3 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 333 1
"""


def test_only_sockets_that_listen_on_the_port_count() -> None:
    assert host.listening_inodes([TABLE, TABLE.replace("111", "444")], 0x21C2) == {111, 444}


def test_the_python_tag_names_interpreter_and_platform() -> None:
    version = f"cp{sys.version_info.major}{sys.version_info.minor}-"
    assert host.python_tag().startswith(version)
    assert not set(host.python_tag()) & set(" /.")


def test_pure_packages_fit_every_host() -> None:
    pure = parse_wheel_filename("demo-1.0-py3-none-any.whl")[3]
    assert pure <= set(host.wheel_tags())


def test_a_port_is_free_until_somebody_listens_and_then_names_its_holder() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert not host.port_is_free("127.0.0.1", port)
        assert [found.pid for found in host.holders(port)] == [os.getpid()]
    assert host.port_is_free("127.0.0.1", port)
    assert host.holders(port) == ()


def test_a_process_of_the_box_is_told_by_mark_and_folder(tmp_path: Path) -> None:
    with running(WAIT, tmp_path, {host.MARK: "x"}) as (ours, _):
        assert [found.pid for found in host.box_processes(tmp_path)] == [ours]


def test_neither_the_mark_nor_the_folder_alone_makes_a_process_ours(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    with running(WAIT, tmp_path, {}), running(WAIT, tmp_path / "other", {host.MARK: "x"}):
        assert host.box_processes(tmp_path) == ()


def test_what_a_service_started_in_its_group_belongs_to_the_box(tmp_path: Path) -> None:
    script = (
        "import subprocess; child = subprocess.Popen(['sleep', '60'], cwd='/', env={});"
        "print(child.pid, flush=True); child.wait()"
    )
    with running(script, tmp_path, {host.MARK: "x"}) as (leader, child):
        found = {item.pid for item in host.box_processes(tmp_path)}
    assert found == {leader, int(child)}


def test_the_caller_never_counts_itself(tmp_path: Path) -> None:
    script = (
        "from aibox.box import host; from pathlib import Path;"
        "print(len(host.box_processes(Path.cwd())), flush=True)"
    )
    variables = {host.MARK: "x", "PYTHONPATH": str(Path(host.__file__).parents[2])}
    with running(script, tmp_path, variables) as (_, found):
        assert found.strip() == "0"


def test_a_box_that_is_not_there_has_no_processes(tmp_path: Path) -> None:
    assert host.box_processes(tmp_path / "none") == ()


def test_the_port_of_a_box_is_told_from_that_of_a_stranger(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert not host.is_answered_by(tmp_path, server.getsockname()[1])
    script = (
        "import socket; server = socket.create_server(('127.0.0.1', 0));"
        "print(server.getsockname()[1], flush=True); server.accept()"
    )
    with running(script, tmp_path, {host.MARK: "x"}) as (_, port):
        assert host.is_answered_by(tmp_path, int(port))


@contextmanager
def running(script: str, folder: Path, variables: dict[str, str]) -> Iterator[tuple[int, str]]:
    """A process in `folder` in a group of its own, and the first line it says."""
    child = subprocess.Popen(
        [sys.executable, "-c", script],
        cwd=folder,
        env={"PATH": os.environ["PATH"], **variables},
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert child.stdout is not None
    try:
        yield child.pid, child.stdout.readline()
    finally:
        with suppress(ProcessLookupError):
            os.killpg(child.pid, 9)
        child.communicate()


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ('ID=debian\nVERSION_ID="13"\n', "debian-13"),
        ("ID=ubuntu\nVERSION_ID='24.04'\n", "ubuntu-24.04"),
        ('ID="rocky"\nVERSION_ID="9.4"\n', "rocky-9"),
        ("ID=debian\n", "debian"),
        ("", ""),
    ],
)
def test_the_system_is_named_as_package_sets_name_it(tmp_path: Path, text: str, name: str) -> None:
    (tmp_path / "os-release").write_text(text)
    assert host.operating_system(tmp_path / "os-release") == name


def test_a_host_that_does_not_say_what_it_is_has_no_packages(tmp_path: Path) -> None:
    assert host.operating_system(tmp_path / "os-release") == ""
