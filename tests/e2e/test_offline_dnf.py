"""The real dnf installs from the signed folder and takes away again, with a database in memory."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from ansible_runs import ROLES
from package_archives import a_key, publish_rpms
from package_maker import make_rpm, needs_dnf

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.timeout(300),
    needs_dnf,
    pytest.mark.skipif(os.geteuid() != 0, reason="dnf installs as root: run ./test e2e as root"),
    pytest.mark.skipif(shutil.which("unshare") is None, reason="apt-get install util-linux"),
]

# The database of rpm and what dnf remembers, each in memory for one room of mounts.
ROOM = """
for folder in "$(rpm --eval '%{_dbpath}')" /var/lib/dnf /var/log; do
    mkdir -p "$folder"
    mount -t tmpfs tmpfs "$folder"
done
rpm --initdb
exec "$@"
"""
# Calls modules one after the other, as Ansible would, and prints what they answer.
CALLS = """
import importlib, json, sys
from pathlib import Path
import ansible.module_utils
sys.path.insert(0, sys.argv[1] + "/library")
ansible.module_utils.__path__.append(sys.argv[1] + "/module_utils")
import offline_packages, offline_repository
said = []
for name, given in json.loads(sys.argv[2]):
    if name == "repository":
        said.append(offline_repository.know(given, check=False))
    else:
        folder = Path(given["records"]).parent / f"room{len(said)}"
        folder.mkdir()
        try:
            said.append(offline_packages.answer(given, folder))
        except offline_packages.Refused as error:
            said.append({"refused": str(error)})
print(json.dumps(said))
"""


def call(home: Path, *calls: tuple[str, Mapping[str, object]]) -> list[dict[str, Any]]:
    role = str(ROLES / "offline_repo")
    words = [sys.executable, "-c", CALLS, role, json.dumps(calls, default=str)]
    room = ["unshare", "--mount", "--propagation", "private", "sh", "-euc", ROOM, "sh"]
    surroundings = {**os.environ, "HOME": str(home)}  # Debian's rpm has its database there
    done = subprocess.run(
        [*room, *words], env=surroundings, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    answers: list[dict[str, Any]] = json.loads(done.stdout.splitlines()[-1])
    return answers


def test_packages_come_are_written_down_and_go(tmp_path: Path) -> None:
    source = tmp_path / "repository"
    source.mkdir()
    made = [
        make_rpm(tmp_path, "aibox-test-tool", requires=["aibox-test-library"]),
        make_rpm(tmp_path, "aibox-test-library"),
        make_rpm(tmp_path, "aibox-test-other"),
    ]
    publish_rpms(source, made, a_key(tmp_path / "signing"))
    work, key = tmp_path / "work", source / "aibox-packages.asc"
    folder = {"work": work, "source": source, "key": key, "format": "rpm"}
    request = {
        "owner": "role",
        "records": tmp_path / "records",
        "work": work,
        "format": "rpm",
        "packages": ["aibox-test-tool"],
        "held": [],
    }
    planned, there, again, missing, gone, empty = call(
        tmp_path,
        ("repository", folder),
        ("packages", {**request, "state": "present"}),
        ("packages", {**request, "state": "planned"}),
        ("packages", {**request, "state": "present", "packages": ["aibox-test-absent"]}),
        ("packages", {**request, "state": "absent"}),
        ("packages", {**request, "state": "leaving"}),
    )
    assert planned == {"changed": True, "pending": False}
    assert there["brought"] == ["aibox-test-library", "aibox-test-tool"]
    assert again["pending"] is False
    assert "aibox-test-absent" in missing["refused"]
    assert gone["taken"] == ["aibox-test-library", "aibox-test-tool"]
    assert empty["pending"] is False
    assert list((tmp_path / "records").iterdir()) == []
