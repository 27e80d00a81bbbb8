"""A site: an ordinary user in a network namespace with nothing but loopback, and media by hand."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from .journey import Done, free_port, listen

NOBODY = 65534


@dataclass(frozen=True)
class Site:
    """Types commands as somebody whose machine reaches nobody."""

    namespace: str
    home: Path
    path: str = "/usr/bin:/bin"
    port: int = field(default_factory=free_port)

    @property
    def box(self) -> Path:
        return self.home / ".local" / "share" / "aibox"

    @property
    def program(self) -> Path:
        """The command line in the box: what remains when the medium is gone."""
        return self.box / "bin" / "aibox"

    def types(self, program: Path, *words: str | Path, code: int = 0) -> Done:
        """Run a launcher to its end; anything but the expected exit code is a failure."""
        done = self.tries(program, *words)
        assert done.code == code, f"{words} ended with {done.code}:\n{done.out}\n{done.err}"
        return done

    def tries(self, program: Path, *words: str | Path) -> Done:
        alone = ["ip", "netns", "exec", self.namespace]
        somebody = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--"]
        command = [*alone, *somebody, "sh", str(program), *map(str, words)]
        return listen(command, self.home, self.surroundings())

    def surroundings(self) -> dict[str, str]:
        home = str(self.home)
        return {
            "PATH": self.path,
            "HOME": home,
            "LANG": "C.UTF-8",
            # Where no systemd manager answers.
            "XDG_RUNTIME_DIR": home,
        }

    def asks(self, question: str) -> Any:
        return json.loads(self.types(self.program, "ask", question, "--json").out)

    def interfaces(self) -> list[str]:
        """The network interfaces that this machine has."""
        told = subprocess.run(
            ["ip", "-json", "-netns", self.namespace, "link"],
            check=True,
            capture_output=True,
            text=True,
        )
        return [link["ifname"] for link in json.loads(told.stdout)]


@contextmanager
def site(*, python: bool = True) -> Iterator[Site]:
    """A new site with an empty home; its processes and its network are gone afterwards.

    Without `python` the machine has every program but the Pythons.
    """
    name = f"aibox-{os.getpid()}-{free_port()}"
    # Short: sockets have short paths. World-readable above, the home is somebody's own.
    base = Path(mkdtemp(prefix="aibox-site-"))
    base.chmod(0o755)
    home = base / "집 h"
    home.mkdir(mode=0o700)
    os.chown(home, NOBODY, NOBODY)
    subprocess.run(["ip", "netns", "add", name], check=True)
    try:
        subprocess.run(["ip", "-netns", name, "link", "set", "lo", "up"], check=True)
        yield Site(name, home) if python else Site(name, home, str(_no_python(base / "bin")))
    finally:
        # Everything that was started in the namespace is still in it, and only that.
        found = subprocess.run(["ip", "netns", "pids", name], capture_output=True, text=True)
        for pid in found.stdout.split():
            subprocess.run(["kill", "-9", pid], check=False)
        subprocess.run(["ip", "netns", "del", name], check=True)
        shutil.rmtree(base, ignore_errors=True)


def _no_python(folder: Path) -> Path:
    folder.mkdir()
    for program in (*Path("/usr/bin").iterdir(), *Path("/usr/sbin").iterdir()):
        link = folder / program.name
        if not program.name.startswith(("python", "pip")) and not link.exists():
            link.symlink_to(program)
    return folder
