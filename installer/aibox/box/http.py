"""Speaks to the services of this box, and by construction to nobody else.

The address is a loopback address or the client is not made; proxies of the environment are
ignored and redirects are not followed, so no request can leave the host.
"""

from __future__ import annotations

import io
import ipaddress
import json
import os
import re
import shlex
import ssl
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx

from aibox.errors import BadUsage, Failed, Fault

JSON_TIMEOUT_S = 30.0
CONNECT_TIMEOUT_S = 3.0
_PRIVATE_KEY = b"PRIVATE KEY-----"
_SUCCESS = range(200, 300)
_REFUSED = range(400, 500)
_COMMAND = re.compile(r"(?<![\w./])aibox (?=(docs|status|health|doctor|start|gc)\b)")


@dataclass(frozen=True, slots=True)
class Answer:
    """A reply: HTTP status and the decoded JSON body (None when the body is not JSON)."""

    status: int
    body: Any


@dataclass(frozen=True, slots=True)
class Tls:
    """How a box that speaks TLS proves itself: a certificate for `name`, vouched for by
    `authority` (a file with the box's own authority, or with the certificate itself)."""

    authority: Path
    name: str


class Loopback:
    """A client of one port of this host. Use as a context manager.

    With `tls` it speaks TLS, and to the box alone. Raises `Failed` while the box has no
    certificate yet.
    """

    def __init__(
        self,
        port: int,
        host: str = "127.0.0.1",
        *,
        timeout_s: float = JSON_TIMEOUT_S,
        tls: Tls | None = None,
    ) -> None:
        self.address = f"http{'s' if tls else ''}://{_loopback(host)}:{port}"
        self._extensions = {"sni_hostname": tls.name} if tls else {}
        self._client = httpx.Client(
            base_url=self.address,
            verify=_trusting(tls),
            timeout=httpx.Timeout(timeout_s, connect=CONNECT_TIMEOUT_S),
            trust_env=False,
            follow_redirects=False,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._client.close()

    def ask(self, method: str, path: str, body: object = None) -> Answer:
        """One request with a JSON body (none when `body` is None); any status is an `Answer`.

        Raises `Failed` when nobody answers or the answer takes too long.
        """
        content = None if body is None else json.dumps(body, ensure_ascii=False).encode()
        headers = {} if body is None else {"Content-Type": "application/json"}
        with self._explained():
            reply = self._client.request(
                method,
                _local(path),
                content=content,
                headers=headers,
                extensions=self._extensions,
            )
        return Answer(reply.status_code, _decoded(reply.content))

    def call(self, method: str, path: str, body: object = None) -> Any:
        """Like `ask`, for callers that need success: returns the JSON body, and raises what the
        service said went wrong (`BadUsage` for 4xx, `Failed` otherwise).
        """
        return _successful(self.ask(method, path, body))

    def upload(
        self,
        path: str,
        files: Sequence[tuple[str, Path]],
        *,
        field: str = "file",
        on_bytes: Callable[[int], None] | None = None,
        timeout_s: float = 600.0,
    ) -> Any:
        """POST files as multipart form data, streamed from disk; returns the JSON body.

        `files` holds (name to show, path on disk); `on_bytes` gets the size of every piece read.
        """
        with ExitStack() as stack, self._explained():
            opened = [
                (field, (name, stack.enter_context(_Watched(source, on_bytes))))
                for name, source in files
            ]
            reply = self._client.post(
                _local(path),
                files=opened,
                extensions=self._extensions,
                timeout=httpx.Timeout(timeout_s, connect=CONNECT_TIMEOUT_S),
            )
        return _successful(Answer(reply.status_code, _decoded(reply.content)))

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except httpx.TimeoutException as error:
            raise Failed(
                "box-too-slow",
                "the box did not answer in time",
                context=self.address,
                hint="see which service is busy with: ./aibox status",
                fault=Fault.HOST,
            ) from error
        except httpx.HTTPError as error:
            raise Failed(
                "box-not-answering",
                "the box does not answer",
                context=f"{self.address}: {error}",
                hint="start it with: ./aibox start",
                fault=Fault.HOST,
            ) from error


class _Watched(io.BufferedReader):
    """A file that reports every piece read from it.

    Its size was told before its first byte: one that grows or shrinks meanwhile is refused.
    """

    def __init__(self, path: Path, on_bytes: Callable[[int], None] | None) -> None:
        try:
            super().__init__(io.FileIO(path))
        except OSError as error:
            raise _unreadable(path, error.strerror or str(error)) from error
        self._path = path
        self._on_bytes = on_bytes
        self._left = os.fstat(self.fileno()).st_size

    def read(self, size: int | None = -1, /) -> bytes:
        try:
            data = super().read(size)
        except OSError as error:
            raise _unreadable(self._path, error.strerror or str(error)) from error
        self._left -= len(data)
        if self._left < 0 or (self._left and not data and size):
            raise _unreadable(self._path, "its size changed meanwhile")
        if self._on_bytes is not None and data:
            self._on_bytes(len(data))
        return data


def _trusting(tls: Tls | None) -> ssl.SSLContext:
    """What trusts one authority (or none) and nothing of the host's."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if tls is None:
        return context
    # A site's own certificate vouches for itself: its authority need not be on this host.
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    try:
        context.load_verify_locations(tls.authority)
    except (OSError, ssl.SSLError) as error:
        raise Failed(
            "box-certificate-missing",
            f"the certificate of the box cannot be read: {error}",
            context=str(tls.authority),
            hint="it is made when the gateway starts: ./aibox start",
            fault=Fault.HOST,
        ) from error
    return context


def check_authority(path: Path) -> str:
    """Why `path` holds no certificates (PEM) that could vouch, or an empty string."""
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(path)
        holds_a_key = _PRIVATE_KEY in _beginning(path)
    except OSError as error:
        return f"{path}: {error.strerror or error}"
    return f"{path} holds a private key, which nobody needs here" if holds_a_key else ""


def check_certificate(certificate: Path, key: Path) -> str:
    """Why a certificate (PEM, its chain may follow) and its key cannot serve now, or ""."""
    from cryptography import x509  # Who only asks a box how it is does not wait for it.

    try:
        own = x509.load_pem_x509_certificates(_beginning(certificate))[0]
    except OSError as error:
        return f"{certificate}: {error.strerror or error}"
    except ValueError:
        return f"{certificate} holds no certificate (PEM)"
    begins, ends = own.not_valid_before_utc, own.not_valid_after_utc
    if not begins <= datetime.now(UTC) <= ends:
        return f"{certificate} is valid from {begins:%Y-%m-%d} to {ends:%Y-%m-%d}"
    try:
        # With an empty passphrase, or a key that has one would be asked for at the terminal.
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key, password="")
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            return f"{key} is not the key of {certificate}"
        return f"{key} holds no key that can be used (PEM, without a passphrase)"
    except OSError as error:
        return f"{key}: {error.strerror or error}"
    return ""


def _beginning(path: Path) -> bytes:
    """More than any chain of certificates has; what has no end is not read to it."""
    with path.open("rb") as file:
        return file.read(1 << 20)


def _loopback(host: str) -> str:
    """The address in the form a URL takes it; raises `BadUsage` for any other host."""
    try:
        address = ipaddress.ip_address("127.0.0.1" if host == "localhost" else host.strip("[]"))
    except ValueError:
        address = None
    if address is None or not address.is_loopback:
        raise BadUsage(
            "host-not-loopback",
            f"the box is only spoken to on this host, not at {host!r}",
            hint="use 127.0.0.1 as the host in the site file, then: ./aibox status",
            fault=Fault.YOU,
        )
    return f"[{address}]" if address.version == 6 else str(address)


def _local(path: str) -> str:
    # "//host/x" and "http://host/x" would replace the address of the client.
    if not path.startswith("/") or path.startswith("//"):
        raise ValueError(f"a path of this box begins with one slash: {path!r}")
    return path


def _unreadable(path: Path, why: str) -> BadUsage:
    return BadUsage(
        "file-unreadable",
        f"{path} cannot be read: {why}",
        hint=f"check the name and its mode with: ls -l {shlex.quote(str(path.parent))}",
        fault=Fault.YOU,
    )


def _decoded(content: bytes) -> Any:
    try:
        return json.loads(content)
    except ValueError:
        return None


def _successful(answer: Answer) -> Any:
    if answer.status in _SUCCESS:
        return answer.body
    body = answer.body if isinstance(answer.body, Mapping) else {}
    told = body.get("error")
    said: Mapping[str, object] = told if isinstance(told, Mapping) else {}
    kind = BadUsage if answer.status in _REFUSED else Failed
    raise kind(
        str(said.get("reference", "box-refused")),
        str(said.get("message", f"the box answered with HTTP status {answer.status}")),
        hint=_hint(str(said.get("hint") or "")),
        fault=_fault(said.get("fault")),
    )


def _hint(said: str) -> str:
    """What the service says to do, with a command at its end: it speaks to browsers as well."""
    told = _COMMAND.sub("./aibox ", said)
    if "./aibox " in told:
        return told
    ours = "see what the box says of itself with: ./aibox status"
    return f"{told.rstrip('.')}; or {ours}" if told and "aibox " not in told else ours


def _fault(said: object) -> Fault:
    return next((fault for fault in Fault if fault.value == said), Fault.US)
