"""A small bundle on a medium, the host it is started on, and a double of the command line in it."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from bundle_doubles import launcher_files, write_bundle
from wheel_maker import make_wheel

COMMAND_LINE_DOUBLE = b"""
import json, os, sys, tiny
print(json.dumps({"arguments": sys.argv[1:], "folder": os.getcwd(), "python": sys.executable,
                  "bundle": os.environ.get("AIBOX_BUNDLE"), "umask": os.umask(0)}))
sys.exit(7)
"""
# What any server has; no Python.
TOOLS = (
    *("sh", "cat", "cp", "cut", "dirname", "env", "flock", "getent", "grep", "id", "mkdir", "mv"),
    *("readlink", "rm", "sha256sum", "sleep", "sync", "tar", "uname", "wc"),
)


@dataclass(frozen=True)
class BundleOnHost:
    """The bundle in `root`, started by somebody whose home is `home`."""

    root: Path
    home: Path

    @property
    def box(self) -> Path:
        return self.home / "box of 내 것"

    @property
    def folder(self) -> Path:
        """Where its program is unpacked."""
        digest = hashlib.sha256((self.root / "program.txt").read_bytes()).hexdigest()
        return self.box / "programs" / digest[:16]

    def blob(self, path: str) -> Path:
        """The blob of a file of the program."""
        for line in (self.root / "program.txt").read_text(encoding="utf-8").splitlines():
            words = line.split(" ", 4)
            if words[0] == "file" and words[4] == path:
                return self.root / "blobs" / "sha256" / words[2]
        raise LookupError(path)

    def surroundings(self) -> dict[str, str]:
        """Any index that is asked is a closed port: whatever works did without one."""
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("PIP_", "AIBOX_", "XDG_"))
        }
        # pip asks a Rust compiler for its version; where that is a stub, it writes to the home.
        path = os.pathsep.join(
            folder
            for folder in kept["PATH"].split(os.pathsep)
            if not shutil.which("rustc", path=folder)
        )
        index = {"PIP_INDEX_URL": "http://127.0.0.1:9/simple", "PIP_CONSTRAINT": "/nowhere"}
        own = {"PATH": path, "HOME": str(self.home), "AIBOX_HOME": str(self.box)}
        return {**kept, **index, **own}

    def start(self, *arguments: str, **more: str) -> subprocess.Popen[str]:
        """Start it as the leader of a process group of its own."""
        return start(self, self.root / "aibox", *arguments, **more)

    def run(self, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
        return ended(self.start(*arguments, **more))

    def refused(self, **more: str) -> str:
        """What it says when it does not start; its last line is the exit code."""
        done = self.run(**more)
        assert done.stdout == ""
        return f"{done.stderr}{done.returncode}"


def start(host: BundleOnHost, program: Path, *arguments: str, **more: str) -> subprocess.Popen[str]:
    # The medium has no executable files, so the shell is named.
    return subprocess.Popen(
        ["/bin/sh", program, *arguments],
        env={**host.surroundings(), **more},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def ended(process: subprocess.Popen[str]) -> subprocess.CompletedProcess[str]:
    out, err = process.communicate(timeout=100)
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def make_bundle(base: Path, **more: object) -> BundleOnHost:
    """One in a path with spaces and Korean; `more` goes to `write_bundle`."""
    host = BundleOnHost(base / "USB 스틱 (1)" / "my box", base / "홈 folder")
    host.root.mkdir(parents=True)
    host.home.mkdir()
    wheel = make_wheel(base, {"tiny.py": b""}, name="tiny")
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    files = {
        **launcher_files(),
        "installer/aibox/__main__.py": (COMMAND_LINE_DOUBLE, False),
        "requirements/cli.lock": (f"tiny==1.0 \\\n    --hash=sha256:{digest}\n".encode(), False),
        "docs/manual/ko/설치 안내.md": ("설치\n".encode() * 1000, False),
    }
    write_bundle(host.root, files, [wheel], **more)  # type: ignore[arg-type]
    return host
