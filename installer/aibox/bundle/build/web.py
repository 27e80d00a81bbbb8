"""Asking a server for bytes: redirects, credentials, and what its answer means.

Proxies and certificates are those of the machine (HTTPS_PROXY, NO_PROXY, SSL_CERT_FILE).
Credentials go to the host they were made for and to no other; messages show addresses without
user, password and query, because signed addresses carry secrets there.
"""

from __future__ import annotations

import datetime
import os
import re
import ssl
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from email.utils import parsedate_to_datetime
from functools import cache
from typing import NoReturn

import httpx

from aibox.errors import BadUsage, Failed, Fault, VerificationRefused

Authorize = Callable[[], Mapping[str, str]]

AGAIN = "give the same command again, it goes on where it stopped: ./aibox bundle build"
REDIRECTS = 10
LONGEST_RETRY_AFTER_S = 300.0
_TIMEOUT = httpx.Timeout(30.0, connect=15.0, pool=None)
_LATER = frozenset({408, 425, 429})
_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)")


class Trouble(Exception):
    """An attempt failed in a way that the next one may not. `after_s`: the server's own wish."""

    def __init__(self, reason: str, *, fault: Fault, after_s: float = 0.0) -> None:
        super().__init__(reason)
        self.reason, self.fault, self.after_s = reason, fault, after_s


@contextmanager
def session(client: httpx.Client | None = None) -> Iterator[httpx.Client]:
    """`client`, or one of its own by the machine's settings, closed at the end.

    An answer that stalls for 30 s counts as broken.
    """
    if client is not None:
        yield client
        return
    try:
        own = httpx.Client(
            verify=_certificates(os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR")),
            timeout=_TIMEOUT,
            limits=httpx.Limits(max_connections=None),
        )
    except (ValueError, OSError, ImportError, httpx.InvalidURL) as error:
        raise BadUsage(
            "network-settings-invalid",
            "the proxy or certificate settings of this machine cannot be used",
            context=str(error),
            hint="correct HTTPS_PROXY, HTTP_PROXY, ALL_PROXY or SSL_CERT_FILE, then " + AGAIN,
            fault=Fault.YOU,
        ) from error
    with own:
        yield own


@cache
def _certificates(_file: str | None, _folder: str | None) -> ssl.SSLContext:
    """Whom to trust, by these settings of the machine; reading it takes 20 ms each time."""
    return httpx.create_ssl_context()


@contextmanager
def opened(
    client: httpx.Client,
    address: str,
    what: str,
    headers: Mapping[str, str],
    authorize: Authorize | None = None,
) -> Iterator[httpx.Response]:
    """The answer to a GET, its body unread: status 200, 206 or 416, redirects followed.

    Raises `Trouble` where a new attempt may help, also for connections that break while the
    caller reads; an `AiboxError` where it cannot.
    """
    url = _url(address, what)
    own = _origin(url)
    try:
        for _ in range(REDIRECTS):
            secret = authorize() if authorize is not None and _origin(url) == own else {}
            sent = {**headers, **secret, "Accept-Encoding": "identity"}
            with client.stream("GET", url, headers=sent, follow_redirects=False) as response:
                if response.next_request is None:
                    _judge(response, what)
                    yield response
                    return
                url = _next(url, response.next_request.url, what)
    except httpx.TransportError as error:
        raise _broken(url, what, error) from error
    raise _failed("download-loops", f"{what}: more than {REDIRECTS} redirects", url)


def shown(url: httpx.URL | str) -> str:
    """An address without its secrets."""
    try:
        url = httpx.URL(url)
    except httpx.InvalidURL:
        return "(not an address)"
    port = f":{url.port}" if url.port else ""
    return f"{url.scheme}://{url.host}{port}{url.path}"


def announced_length(response: httpx.Response, start: int) -> int | None:
    """The length of the whole file (bytes) by the answer's headers; None if they do not say.

    Raises `Trouble` for a part that does not begin at `start`.
    """
    if response.status_code == httpx.codes.PARTIAL_CONTENT:
        found = _RANGE.fullmatch(response.headers.get("Content-Range", ""))
        if found is None or int(found[1]) != start:
            raise Trouble("the server sent another part than was asked for", fault=Fault.UPSTREAM)
        return None if found[3] == "*" else int(found[3])
    length = response.headers.get("Content-Length", "")
    return int(length) if length.isascii() and length.isdigit() else None


def _url(address: str, what: str) -> httpx.URL:
    try:
        url = httpx.URL(address)
    except httpx.InvalidURL as error:
        raise _bad_address(what, str(error)) from error
    if url.scheme not in ("http", "https") or not url.host:
        raise _bad_address(what, f"scheme {url.scheme!r}, host {url.host!r}")
    return url


def _origin(url: httpx.URL) -> tuple[str, str, int | None]:
    return url.scheme, url.host, url.port


def _next(url: httpx.URL, target: httpx.URL, what: str) -> httpx.URL:
    if target.scheme not in ("http", "https") or (url.scheme, target.scheme) == ("https", "http"):
        raise _failed(
            "download-misdirected", f"{what}: a redirect from {url.scheme} to {target.scheme}", url
        )
    return target


def _judge(response: httpx.Response, what: str) -> None:
    status = response.status_code
    if status in (200, 206, 416):
        return
    said = f"the server answered {status} {response.reason_phrase}".strip()
    if status in _LATER or status >= 500:
        raise Trouble(said, fault=Fault.UPSTREAM, after_s=_retry_after(response.headers))
    reference, meaning, fault = _MEANINGS.get(status, _UNEXPECTED)
    raise Failed(
        reference,
        f"{what}: {meaning}",
        context=f"{shown(response.url)}: {said}",
        hint="see what is to be fetched from where, then " + AGAIN,
        fault=fault,
    )


_UNEXPECTED = ("download-unexpected", "the server gave an unexpected answer", Fault.UPSTREAM)
_MEANINGS = {
    401: ("download-denied", "the server wants credentials, or did not like ours", Fault.YOU),
    403: ("download-denied", "the server does not give it to us", Fault.YOU),
    404: ("download-missing", "the server does not have it (any more)", Fault.UPSTREAM),
    407: ("download-denied", "the proxy wants credentials", Fault.HOST),
    410: ("download-missing", "the server does not have it any more", Fault.UPSTREAM),
}


def _retry_after(headers: httpx.Headers) -> float:
    text = headers.get("Retry-After", "").strip()
    if text.isascii() and text.isdigit():
        return min(float(text), LONGEST_RETRY_AFTER_S)
    try:
        wait = parsedate_to_datetime(text) - datetime.datetime.now(datetime.UTC)
    except (ValueError, TypeError):
        return 0.0
    return min(max(wait.total_seconds(), 0.0), LONGEST_RETRY_AFTER_S)


def _broken(url: httpx.URL, what: str, error: httpx.TransportError) -> Trouble | Failed:
    if "CERTIFICATE_VERIFY_FAILED" in str(error):
        return Failed(
            "download-not-trusted",
            f"{what}: the server's certificate is not trusted on this machine",
            context=f"{shown(url)}: {error}",
            hint="if your network inspects TLS, name its certificates in SSL_CERT_FILE, then "
            + AGAIN,
            fault=Fault.HOST,
        )
    if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout | httpx.ProxyError):
        return Trouble(f"{url.host} cannot be reached: {error}", fault=Fault.HOST)
    if isinstance(error, httpx.TimeoutException):
        return Trouble("nothing came for a while", fault=Fault.UPSTREAM)
    return Trouble(f"the connection broke: {error}", fault=Fault.UPSTREAM)


def give_up(address: str, what: str, trouble: Trouble) -> NoReturn:
    """The last attempt failed: whose fault, and that nothing is lost."""
    raise Failed(
        "download-unreachable" if trouble.fault is Fault.HOST else "download-broken",
        f"{what} could not be fetched",
        context=f"{shown(address)}: {trouble.reason}",
        hint="check network and proxy (HTTPS_PROXY), then " + AGAIN,
        fault=trouble.fault,
    ) from trouble


def refusal(what: str, url: httpx.URL | str, facts: str) -> VerificationRefused:
    """The server has other bytes than the pin."""
    return VerificationRefused(
        "download-refused",
        f"{what} is not what its pin says",
        context=f"{shown(url)}: {facts}",
        hint="find out who changed it; only if the change is wanted, pin it anew and review the "
        "difference with: ./aibox lock",
        fault=Fault.UPSTREAM,
    )


def _failed(reference: str, message: str, url: httpx.URL) -> Failed:
    return Failed(
        reference,
        message,
        context=shown(url),
        hint="ask whoever runs the server or mirror, then " + AGAIN,
        fault=Fault.UPSTREAM,
    )


def _bad_address(what: str, facts: str) -> BadUsage:
    return BadUsage(
        "address-invalid",
        f"{what}: this is no address that bytes can be fetched from",
        context=facts,
        hint="correct it in the profile or the lock file, then: ./aibox lock --check",
        fault=Fault.YOU,
    )
