"""Another host, over ssh: programs, files by rsync, and a session with the command line there.

OpenSSH and rsync are started as programs. No password is ever asked for, a host that is not known
is never spoken to, and a line that is dead is noticed within 15 seconds.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from aibox import process
from aibox.errors import AiboxError, BadUsage, Failed, Fault, told
from aibox.orders import ALIVE_EVERY_S, Order, Progress, Step, answer

CONNECT_S = 10
ANSWER_S = 60.0
COPY_S = 24 * 3600.0
END_S = 20.0
NOT_STARTED = (126, 127)
"""A shell's exit status when there is no such program, or it cannot be started."""
SSH_FAILED = 255
"""ssh's own exit status when the line or the login failed (ssh(1))."""

_KEPT = ("SSH_AUTH_SOCK", "USER", "LOGNAME")
# The cipher is the one that processors have instructions for; a server without it takes another.
_OPTIONS = (
    "BatchMode=yes",
    f"ConnectTimeout={CONNECT_S}",
    "Ciphers=^aes128-gcm@openssh.com",
    "ServerAliveInterval=5",
    "ServerAliveCountMax=3",
    "StrictHostKeyChecking=yes",
    "ForwardAgent=no",
    "ForwardX11=no",
    "PermitLocalCommand=no",
)


@dataclass(frozen=True, slots=True)
class Login:
    """How a host is reached; empty values are left to the user's own ssh configuration.

    `known_hosts` is a file with the host's key alone, None where ssh must know it already.
    """

    name: str
    address: str
    user: str = ""
    port: int = 22
    key_file: str = ""
    known_hosts: Path | None = None


class Remote:
    """A host that can be logged in to as root, or with `sudo` as root."""

    def __init__(self, login: Login) -> None:
        self.login = login
        self._as_root: tuple[str, ...] = ()

    def require_usable(self) -> str:
        """See that it can be worked with; the name of its architecture, as its kernel says.

        Raises `Failed`: `host-unreachable`, `ssh-refused`, `ssh-host-key`, `sudo-needs-password`,
        `sudo-missing`, `rsync-missing`, `ssh-missing`.
        """
        if self._answer(["id", "-u"]).text.strip().splitlines()[-1:] != ["0"]:
            self._as_root = ("sudo", "-n")
            self._require_sudo()
        if self.run(["rsync", "--version"]).status != 0:
            raise self._failed(
                "rsync-missing",
                "has no rsync, which takes the bundle there",
                "install it from the system's own medium, then again: sudo apt-get install rsync",
            )
        return self._answer(["uname", "-m"]).text.strip().splitlines()[-1]

    def run(self, words: Sequence[str], timeout_s: float = ANSWER_S) -> process.Completed:
        """Run a program there as root; its exit status is the caller's to judge."""
        return self._ssh([*self._as_root, *words], timeout_s)

    def make_folder(self, path: str) -> None:
        """Have a folder there that root alone may enter."""
        ended = self.run(["mkdir", "-p", "-m", "700", "--", path])
        if ended.status != 0:
            raise self._failed(
                "host-not-writable",
                f"cannot make {path}",
                f"look what is in the way: ssh {self.login.address} ls -ld {shlex.quote(path)}",
                ended.text[-300:],
            )

    def copy(
        self,
        source: Path,
        names: Sequence[str],
        target: str,
        *,
        on_line: Callable[[str], None],
        on_tick: Callable[[], None],
        lists: Path,
    ) -> None:
        """Copy files of the folder `source`, named relative to it, into the folder `target` there.

        A file that was begun is gone on with; what is there whole is not sent again, and not looked
        into either: whoever takes it in there compares it with its digest. `on_line` gets
        rsync's own progress; `lists` is a private folder for the list of names. Raises `Failed`
        (`copy-failed`, and as `require_usable` does when the line is lost).
        """
        listed = lists / "files"
        listed.write_bytes(b"".join(os.fsencode(name) + b"\0" for name in names))
        ended = process.run(
            [
                "rsync",
                "--recursive",
                "--times",
                "--append",
                "--chmod=D0700,F0600",
                "--info=progress2,name0",
                "--no-human-readable",
                "--timeout=60",
                "--from0",
                f"--files-from={listed}",
                f"--rsh={shlex.join(self._command())}",
                f"--rsync-path={shlex.join([*self._as_root, 'rsync'])}",
                f"{source}/",
                f"{self.login.address}:{target}/",
            ],
            environment=process.environment(keep=_KEPT),
            timeout_s=COPY_S,
            on_line=on_line,
            on_tick=on_tick,
        )
        if ended.status != 0:
            raise self._copy_failed(ended)

    def session(self, words: Sequence[str], on_progress: Callable[[Progress], None]) -> Session:
        """Start the command line there as root and speak with it."""
        command = [*self._command(), self.login.address, shlex.join([*self._as_root, *words])]
        return Session(self.login, command, on_progress)

    def _require_sudo(self) -> None:
        ended = self._ssh(["sudo", "-n", "id", "-u"], ANSWER_S)
        if ended.status == 0:
            return
        if "password" in ended.text:
            raise self._failed(
                "sudo-needs-password",
                f"lets {self._user} become root with a password only, and nobody is asked for one",
                f"let him without for the time of the installation: echo '{self._user} ALL=(ALL) "
                "NOPASSWD: ALL' | sudo tee /etc/sudoers.d/aibox-installer",
                ended.text[-300:],
            )
        raise self._failed(
            "sudo-missing",
            f"does not let {self._user} become root",
            f'name root in the site file: user = "root" in [hosts.{self.login.name}]; then: '
            "./aibox install --inventory FILE",
            ended.text[-300:],
        )

    @property
    def _user(self) -> str:
        return self.login.user or "that user"

    def _answer(self, words: Sequence[str]) -> process.Completed:
        return self._ssh(words, ANSWER_S)

    def _ssh(self, words: Sequence[str], timeout_s: float) -> process.Completed:
        ended = process.run(
            [*self._command(), self.login.address, shlex.join(words)],
            environment=process.environment(keep=_KEPT),
            timeout_s=timeout_s,
        )
        if ended.status == SSH_FAILED:
            raise ssh_failure(self.login, ended.text)
        return ended

    def _command(self) -> list[str]:
        """ssh without the address: options only, no value that is not a path, a name, a number."""
        login = self.login
        command = ["ssh", "-T", "-p", str(login.port)]
        for option in _OPTIONS:
            command += ["-o", option]
        if login.user:
            command += ["-l", login.user]
        if login.key_file:
            command += ["-i", login.key_file, "-o", "IdentitiesOnly=yes"]
        if login.known_hosts is not None:
            command += ["-o", f"UserKnownHostsFile={login.known_hosts}"]
            command += ["-o", "GlobalKnownHostsFile=/dev/null"]
        return command

    def _copy_failed(self, ended: process.Completed) -> Failed:
        if ended.status == SSH_FAILED:
            return ssh_failure(self.login, ended.text)
        return self._failed(
            "copy-failed",
            "did not get all files of the bundle; what arrived is kept",
            "see the room there and the line to it, then give the same command again: "
            f"ssh {self.login.address} df -h",
            " | ".join(ended.lines[-3:]),
        )

    def _failed(self, reference: str, message: str, hint: str, context: str = "") -> Failed:
        return Failed(
            reference,
            f"the host {self.login.name} {message}",
            context=context or self.login.address,
            hint=hint,
            fault=Fault.HOST,
        )


class Session:
    """The command line of another host, told step by step; closed, it undoes what is open."""

    def __init__(
        self, login: Login, command: Sequence[str], on_progress: Callable[[Progress], None]
    ) -> None:
        self._login, self._on_progress = login, on_progress
        self._child = subprocess.Popen(
            command,
            env=process.environment(keep=_KEPT),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            # The terminal's signals are for the command line here, which then ends its sessions.
            start_new_session=True,
        )
        self._writing, self._ended = threading.Lock(), threading.Event()
        self._last_words: list[str] = []
        for work in (self._relay_errors, self._stay_alive):
            threading.Thread(target=work, daemon=True).start()

    @property
    def name(self) -> str:
        """Of the host."""
        return self._login.name

    def ask(self, order: Order) -> dict[str, object]:
        """Have one step done; what came of it.

        Raises what the host raises, with its name in the message, and `Failed` (`host-lost`).
        """
        self._write(order)
        for line in _stream(self._child.stdout):
            said = answer(line)
            if said.progress is not None:
                self._on_progress(said.progress)
            elif said.error is not None:
                raise told(said.error, by=f"the host {self.name}")
            elif said.done is not None:
                return said.done
        raise self._lost()

    def close(self) -> None:
        """End it and wait until the host has put itself in order, as long as the line stands."""
        self._ended.set()
        with self._writing:
            _close(self._child.stdin)
        try:
            self._child.wait(END_S)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()

    def cut(self) -> None:
        """End the line at once; the host notices, and undoes what is open."""
        self._child.kill()

    def _write(self, order: Order) -> None:
        try:
            with self._writing:
                stream = _stream(self._child.stdin)
                stream.write(order.line())
                stream.flush()
        except (OSError, ValueError) as error:
            raise self._lost() from error

    def _stay_alive(self) -> None:
        while not self._ended.wait(ALIVE_EVERY_S):
            try:
                self._write(Order(step=Step.ALIVE))
            except AiboxError:
                return

    def _relay_errors(self) -> None:
        for line in _stream(self._child.stderr):
            text = line.decode("utf-8", "replace").strip()
            if text:
                self._last_words = [*self._last_words[-5:], text]
                self._on_progress(Progress(step="start", message=text))

    def _lost(self) -> AiboxError:
        try:
            status = self._child.wait(END_S)
        except subprocess.TimeoutExpired:
            status = None
        if status in NOT_STARTED:
            return Failed(
                "no-box",
                f"nothing is installed on the host {self.name}",
                context=" | ".join(self._last_words[-1:]) or self._login.address,
                hint="install it with the others: ./aibox install --inventory FILE --bundle BUNDLE",
                fault=Fault.YOU,
            )
        if status == SSH_FAILED:
            failure = ssh_failure(self._login, "\n".join(self._last_words))
            if failure.reference != "host-unreachable":
                return failure
        return Failed(
            "host-lost",
            f"the host {self.name} was lost; it goes back by itself to what served before",
            context=" | ".join(self._last_words[-3:]) or self._login.address,
            hint="when it can be reached again, give the same command again; what it runs: "
            f"ssh {self._login.address} /var/lib/aibox/bin/aibox status",
            fault=Fault.HOST,
        )


def ssh_failure(login: Login, text: str) -> Failed:
    """What ssh's own failure means, by the words it prints (OpenSSH 8 to 10)."""
    facts = " | ".join(text.splitlines()[-3:])
    where = f"{login.address} port {login.port}"
    to = f"{login.user}@{login.address}" if login.user else login.address
    if "Host key verification failed" in text:
        return Failed(
            "ssh-host-key",
            f"the host {login.name} is not known here, or is not the one that is known",
            context=facts,
            hint="compare its key with the one on its console (ssh-keygen -lf "
            f"/etc/ssh/ssh_host_ed25519_key.pub), then: ssh -p {login.port} {to} true; or write it "
            f"to host_key in [hosts.{login.name}]",
            fault=Fault.YOU,
        )
    if "Permission denied" in text or "Too many authentication failures" in text:
        return Failed(
            "ssh-refused",
            f"the host {login.name} does not let this user in",
            context=facts,
            hint=f"name the key in key_file of [hosts.{login.name}], or bring it there: "
            f"ssh-copy-id -p {login.port} {to}",
            fault=Fault.YOU,
        )
    return Failed(
        "host-unreachable",
        f"the host {login.name} cannot be reached",
        context=f"{where}: {facts or 'no answer'}",
        hint=f"see whether it runs and its ssh answers: ssh -p {login.port} {to} true",
        fault=Fault.HOST,
    )


def require_tools() -> None:
    """Raise `BadUsage` (`ssh-missing`) unless ssh and rsync can be started here."""
    for tool, option in (("ssh", "-V"), ("rsync", "--version")):
        try:
            found = (
                process.run(
                    [tool, option], environment=process.environment(), timeout_s=ANSWER_S
                ).status
                == 0
            )
        except AiboxError:
            found = False
        if not found:
            raise BadUsage(
                "ssh-missing",
                f"{tool} is needed here to reach the other hosts, and is not there",
                hint="install it from this system's own medium, then again: "
                "sudo apt-get install openssh-client rsync",
                fault=Fault.HOST,
            )


def _stream(stream: IO[bytes] | None) -> IO[bytes]:
    assert stream is not None
    return stream


def _close(stream: IO[bytes] | None) -> None:
    try:
        _stream(stream).close()
    except OSError:
        return
