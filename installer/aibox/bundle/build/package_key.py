"""The OpenPGP key that signs the repositories of a packager's bundles, and its signatures.

apt and dnf know no other signatures. The key is made once and kept beside the packager's other
signing keys; its age and the time of every signature are given, not taken from the clock, and
Ed25519 signs without chance: the same repository is signed by the same bytes.
"""

from __future__ import annotations

import datetime
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from aibox import process
from aibox.bundle.build import programs
from aibox.errors import BadUsage, Failed, Fault

FILE = "packages.key"
USER = "aibox packages"
AGAIN = "./aibox bundle build"

# Long past, so that no box with a slow clock takes the key for one from the future.
_MADE = "20200101T000000!"
_LIMIT_S = 120.0
_LIMIT_BYTES = 1 << 20


@dataclass(frozen=True)
class PackageKey:
    """A key pair: `secret` is the path of a file of mode 0600, `public` the key for others.

    `armoured` is the public key as text, which rpm wants.
    """

    secret: Path
    fingerprint: str
    public: bytes
    armoured: bytes

    def sign(self, text: bytes, date: datetime.date, *, inline: bool) -> bytes:
        """A signature of midnight (UTC) of `date`: around the text (`inline`), or apart from it."""
        with _home(self.secret) as home:
            (home / "text").write_bytes(text)
            mode = "--clear-sign" if inline else "--detach-sign"
            self._gpg(home, date, "--armor", mode, home / "text")
            return (home / "out").read_bytes()

    def _gpg(self, home: Path, date: datetime.date, *words: str | Path) -> None:
        when = f"{date:%Y%m%d}T000000!"
        options = ("--digest-algo", "SHA512", "--local-user", self.fingerprint)
        _gpg(home, "--faked-system-time", when, *options, "--output", home / "out", *words)


def load_or_make(folder: Path) -> PackageKey:
    """The key in a packager's signing folder; made if there is none yet.

    Raises `BadUsage` (`package-key-exposed`, `package-key-damaged`) and `Failed`
    (`tool-missing`, `package-key-unwritable`).
    """
    programs.require({"gpg": "gpg", "gpgconf": "gpgconf"}, AGAIN)
    secret = folder / FILE
    if not secret.exists():
        _make(secret)
    _require_private(secret)
    return _read(secret)


def _make(secret: Path) -> None:
    with _home() as home:
        options = ("--faked-system-time", _MADE, "--passphrase", "")
        _gpg(home, *options, "--quick-generate-key", USER, "ed25519", "sign", "never")
        _gpg(home, "--armor", "--output", home / "out", "--export-secret-keys")
        _publish(home / "out", secret)


def _publish(source: Path, secret: Path) -> None:
    """Whole or not at all, and readable by its owner alone from the first moment on."""
    part = secret.with_name(secret.name + ".part")
    try:
        part.unlink(missing_ok=True)
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(source.read_bytes())
            stream.flush()
            os.fsync(stream.fileno())
        # Two builds at once must not end up with two keys: the first one stays.
        os.link(part, secret)
    except FileExistsError:
        pass
    except OSError as error:
        raise Failed(
            "package-key-unwritable",
            "the key for package repositories cannot be kept",
            context=f"{error.filename or secret}: {error.strerror}",
            hint=f"make the signing folder writable, then: {AGAIN}",
            fault=Fault.HOST,
        ) from error
    finally:
        part.unlink(missing_ok=True)


def _require_private(secret: Path) -> None:
    mode = secret.stat().st_mode & 0o777
    if mode & 0o077:
        raise BadUsage(
            "package-key-exposed",
            "others can read the key that signs package repositories",
            context=f"{secret} has mode {mode:04o} instead of 0600",
            hint=f"remove it if others had access, else: chmod 600 {secret}; then: {AGAIN}",
            fault=Fault.YOU,
        )


def _read(secret: Path) -> PackageKey:
    with _home(secret) as home:
        lines = _gpg(home, "--with-colons", "--list-secret-keys", check=False)
        prints = [line.split(":")[9] for line in lines if line.startswith("fpr:")]
        if len(prints) != 1:
            raise _damaged(secret, f"it holds {len(prints)} keys instead of one")
        _gpg(home, "--output", home / "out", "--export", prints[0])
        _gpg(home, "--armor", "--output", home / "text", "--export", prints[0])
        public, armoured = (home / "out").read_bytes(), (home / "text").read_bytes()
        return PackageKey(secret, prints[0].lower(), public, armoured)


@contextmanager
def _home(secret: Path | None = None) -> Iterator[Path]:
    """A GnuPG home of its own; the agent that gpg starts in it ends with it."""
    with programs.workspace("gpg") as home:
        home.chmod(0o700)
        try:
            if secret is not None:
                if secret.stat().st_size > _LIMIT_BYTES:
                    raise _damaged(secret, "it is too long for a key")
                _gpg(home, "--import", secret, check=False)
            yield home
        finally:
            process.run(
                ["gpgconf", "--kill", "all"], environment=_environment(home), timeout_s=_LIMIT_S
            )
            shutil.rmtree(home / "private-keys-v1.d", ignore_errors=True)


def _gpg(home: Path, *words: str | Path, check: bool = True) -> Sequence[str]:
    options = ("--batch", "--yes", "--no-tty", "--quiet", "--pinentry-mode", "loopback")
    done = process.run(
        ["gpg", *options, *words], environment=_environment(home), timeout_s=_LIMIT_S
    )
    if done.status and check:
        raise Failed(
            "package-key-unusable",
            "gpg could not use the key that signs package repositories",
            context="; ".join(done.lines[-3:]),
            hint=f"see what gpg complains about, then: {AGAIN}",
            fault=Fault.HOST,
        )
    return done.lines


def _environment(home: Path) -> dict[str, str]:
    return process.environment({"GNUPGHOME": str(home)})


def _damaged(secret: Path, facts: str) -> BadUsage:
    return BadUsage(
        "package-key-damaged",
        "the key that signs package repositories cannot be read",
        context=f"{secret}: {facts}",
        hint=f"bring it back from your backup, or remove it for a new one, then: {AGAIN}",
        fault=Fault.YOU,
    )
