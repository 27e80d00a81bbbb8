"""A real sshd on loopback for this user alone; `sudo` there is a double that obeys."""

from __future__ import annotations

import contextlib
import getpass
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from aibox.box.remote import Login

SSHD = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
REASON = (
    ""
    if SSHD and shutil.which("ssh") and shutil.which("rsync")
    else "there is no ssh to test with: apt-get install openssh-client openssh-server rsync"
)
SUDO = """\
#!/bin/sh
# A double of sudo: nobody becomes anybody else.
[ "$1" != -n ] || shift
exec "$@"
"""
SUDO_ASKS = "#!/bin/sh\necho 'sudo: a password is required' >&2\nexit 1\n"
_CONFIG = """\
Port {port}
ListenAddress 127.0.0.1
HostKey {folder}/host
AuthorizedKeysFile {folder}/key.pub
StrictModes no
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
PidFile none
Subsystem sftp internal-sftp
SetEnv PATH={folder}/bin:/usr/bin:/bin
"""


@dataclass(frozen=True)
class SshServer:
    """`login` gets in; `bin` holds what is found there before the system's programs."""

    folder: Path
    login: Login

    @property
    def bin(self) -> Path:
        return self.folder / "bin"

    def with_program(self, name: str, text: str) -> None:
        """Have a program there under a name."""
        path = self.bin / name
        path.write_text(text)
        path.chmod(0o755)

    def known_as(self, key: str) -> Login:
        """A login that expects this host key."""
        known = self.folder / "other_hosts"
        known.write_text(f"[127.0.0.1]:{self.login.port} {key}\n")
        return replace(self.login, known_hosts=known)


@contextlib.contextmanager
def ssh_server(folder: Path) -> Iterator[SshServer]:
    """Runs for the length of the block."""
    assert SSHD is not None
    (folder / "bin").mkdir(parents=True)
    for name in ("host", "key"):
        _run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name))
    port = _free_port()
    (folder / "config").write_text(_CONFIG.format(port=port, folder=folder))
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)
    public = (folder / "host.pub").read_text().split()
    (folder / "known").write_text(f"[127.0.0.1]:{port} {public[0]} {public[1]}\n")
    login = Login(
        name="box1",
        address="127.0.0.1",
        user=getpass.getuser(),
        port=port,
        key_file=str(folder / "key"),
        known_hosts=folder / "known",
    )
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen([SSHD, "-D", "-e", "-f", str(folder / "config")], stderr=log)
        try:
            _await(port)
            made = SshServer(folder, login)
            made.with_program("sudo", SUDO)
            yield made
        finally:
            server.terminate()
            server.wait()


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _await(port: int) -> None:
    for _ in range(100):
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.05)
    raise AssertionError("sshd does not listen")
