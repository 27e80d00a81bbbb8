"""A thin client of the OCI distribution interface: one repository of one registry.

Only reading: manifests and configurations into memory, and for layers an address and the headers
to ask with, so that `download` fetches them. TLS is always checked; plain http is for registries on
this host. What identifies us goes to the registry and to the token server it names, never to the
storage that it redirects to.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import httpx

from aibox import digest
from aibox.bundle.build import registry_errors as errors
from aibox.bundle.build.registry_credentials import Credentials
from aibox.bundle.build.registry_token import (
    TOKEN_LIMIT,
    Challenge,
    Token,
    challenges,
    choose,
    parse_token,
)
from aibox.bundle.images.manifest import INDEXES, MANIFEST_BYTES, MANIFESTS
from aibox.bundle.images.reference import ImageReference, is_loopback
from aibox.pins import Blob

ATTEMPTS = 4
FIRST_DELAY_S = 0.5
REDIRECTS = 5
_ACCEPT = {"Accept": ", ".join(sorted(INDEXES | MANIFESTS))}
_OWN_TYPES = "application/vnd."
_SHARE_OF_LIFE = 0.75
"""A token is renewed after this share of its life: a clock may run differently over there."""


@dataclass(frozen=True, slots=True)
class Document:
    """A manifest or an index as the registry gave it; the digest is of these bytes."""

    data: bytes
    media_type: str

    @property
    def blob(self) -> Blob:
        return Blob(sha256=digest.of_bytes(self.data), size=len(self.data))


class Registry:
    """The repository of `reference`. `headers` may be called from several threads."""

    def __init__(
        self,
        reference: ImageReference,
        web: httpx.Client,
        credentials: Credentials | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.reference = reference
        self._web, self._credentials = web, credentials
        self._clock, self._sleep = clock, sleep
        self._turn = threading.RLock()
        self._challenge: Challenge | None = None
        self._token: Token | None = None
        self._asked = 0.0
        self._greeted = False

    def manifest(self, name: str) -> Document:
        """The manifest or index of a tag or of `sha256:<hex>`.

        Raises `Failed` (`image-unknown`, `image-denied`, `registry-rate-limit`,
        `registry-unreachable`, `registry-answer`), or `VerificationRefused` (`image-differs`) for
        bytes that are not what was asked for, or not what the registry itself calls them.
        """
        answer = self._ask(f"manifests/{name}", _ACCEPT, MANIFEST_BYTES)
        found = "sha256:" + digest.of_bytes(answer.data)
        said = answer.headers.get("Docker-Content-Digest", "")
        for expected in (name, said):
            if expected.startswith("sha256:") and expected != found:
                raise errors.differs(self.reference, expected, found)
        media_type = answer.headers.get("Content-Type", "").partition(";")[0].strip().lower()
        # Plain file servers say "application/json" or nothing: only a type of its own is a word.
        return Document(answer.data, media_type if media_type.startswith(_OWN_TYPES) else "")

    def blob(self, blob: Blob, limit: int) -> bytes:
        """A small blob, whole; raises like `manifest`."""
        answer = self._ask(f"blobs/sha256:{blob.sha256}", {}, min(limit, blob.size))
        found = digest.of_bytes(answer.data)
        if found != blob.sha256:
            raise errors.differs(self.reference, f"sha256:{blob.sha256}", f"sha256:{found}")
        return answer.data

    def blob_address(self, sha256: str) -> str:
        """Where a blob is asked for, with `headers`."""
        return self._address(f"blobs/sha256:{sha256}")

    def headers(self) -> Mapping[str, str]:
        """What identifies us to the registry now; a token that is about to end is renewed."""
        with self._turn:
            self._greet()
            if self._challenge is None:
                return {}
            if self._challenge.scheme == "bearer":
                return {"Authorization": f"Bearer {self._fresh_token().value}"}
            return {"Authorization": self._credentials.basic} if self._credentials else {}

    def forget_token(self) -> bool:
        """Take the token out of use because the registry does; False if there is none."""
        with self._turn:
            had, self._token = self._token is not None, None
            return had

    def _address(self, path: str) -> str:
        return f"{self.reference.api}/v2/{self.reference.repository}/{path}"

    def _greet(self) -> None:
        """Learn once how the registry wants to be asked."""
        if not self._greeted:
            self._learn(self._send(f"{self.reference.api}/v2/", {}, TOKEN_LIMIT))
            self._greeted = True

    def _learn(self, answer: _Answer) -> None:
        if answer.status == httpx.codes.UNAUTHORIZED:
            offered = challenges(answer.headers.get_list("WWW-Authenticate"))
            self._challenge = choose(offered)
            if self._challenge is None:
                raise errors.unknown_challenge(self.reference)

    def _ask(self, path: str, headers: Mapping[str, str], limit: int) -> _Answer:
        """A good answer. What a first 401 teaches is used once: a token may have ended early."""
        answer = self._send(self._address(path), {**headers, **self.headers()}, limit)
        if answer.status == httpx.codes.UNAUTHORIZED:
            with self._turn:
                self._learn(answer)
                self.forget_token()
            answer = self._send(self._address(path), {**headers, **self.headers()}, limit)
        if answer.status != httpx.codes.OK:
            known = self._credentials.source if self._credentials else ""
            raise errors.answered(
                self.reference, answer.status, answer.headers, _said(answer.data), known
            )
        return answer

    def _fresh_token(self) -> Token:
        now = self._clock()
        if self._token is None or now - self._asked > self._token.life_s * _SHARE_OF_LIFE:
            self._token, self._asked = self._new_token(), now
        return self._token

    def _new_token(self) -> Token:
        parameters = self._challenge.parameters if self._challenge else {}
        realm = self._realm(parameters.get("realm", ""))
        query = {"scope": f"repository:{self.reference.repository}:pull"}
        if service := parameters.get("service"):
            query = {"service": service, **query}
        basic = {"Authorization": self._credentials.basic} if self._credentials else {}
        answer = self._send(str(realm.copy_merge_params(query)), basic, TOKEN_LIMIT)
        token = parse_token(answer.data) if answer.status == httpx.codes.OK else None
        if token is None:
            known = self._credentials.source if self._credentials else ""
            raise errors.no_token(
                self.reference, realm.host, answer.status, answer.headers, _said(answer.data), known
            )
        return token

    def _realm(self, text: str) -> httpx.URL:
        """The token server; a password goes there, so it has TLS or is on this host as we are."""
        try:
            url = httpx.URL(text)
        except httpx.InvalidURL:
            raise errors.unknown_challenge(self.reference) from None
        local = self.reference.is_local and is_loopback(url.host)
        if not url.host or (url.scheme != "https" and not (url.scheme == "http" and local)):
            raise errors.unknown_challenge(self.reference)
        return url

    def _send(self, address: str, headers: Mapping[str, str], limit: int) -> _Answer:
        """One question, asked again while the network or the server is in trouble."""
        reason = ""
        for attempt in range(ATTEMPTS):
            if attempt:
                self._sleep(FIRST_DELAY_S * 2.0 ** (attempt - 1))
            try:
                answer = self._follow(httpx.URL(address), headers, limit)
            except httpx.TransportError as error:
                reason = str(error) or type(error).__name__
                continue
            if answer.status < 500:
                return answer
            reason = f"the server answered {answer.status}"
        raise errors.unreachable(self.reference, httpx.URL(address).host, reason)

    def _follow(self, url: httpx.URL, headers: Mapping[str, str], limit: int) -> _Answer:
        """Follow redirects; away from where it was asked, nothing identifies us."""
        first = _origin(url)
        for _ in range(REDIRECTS):
            sent = {
                name: value
                for name, value in headers.items()
                if name != "Authorization" or _origin(url) == first
            }
            answer = self._read(url, sent, limit)
            if answer.target is None:
                return answer
            if (url.scheme, answer.target.scheme) == ("https", "http"):
                raise errors.misdirected(self.reference, "a redirect from https to http")
            url = answer.target
        raise errors.misdirected(self.reference, f"more than {REDIRECTS} redirects")

    def _read(self, url: httpx.URL, headers: Mapping[str, str], limit: int) -> _Answer:
        sent = {**headers, "Accept-Encoding": "identity"}
        with self._web.stream("GET", url, headers=sent, follow_redirects=False) as response:
            if response.has_redirect_location:
                target = errors.joined(self.reference, url, response.headers["Location"])
                return _Answer(response.status_code, response.headers, b"", target)
            data = bytearray()
            for chunk in response.iter_raw():
                data += chunk
                if len(data) > limit:
                    if response.is_success:
                        raise errors.too_large(self.reference, limit)
                    break
            return _Answer(response.status_code, response.headers, bytes(data[:limit]))


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    headers: httpx.Headers
    data: bytes
    target: httpx.URL | None = None


def _origin(url: httpx.URL) -> tuple[str, str, int | None]:
    return url.scheme, url.host, url.port


def _said(data: bytes) -> str:
    """What a registry says of its refusal, for people: codes and messages of its errors."""
    try:
        raw = json.loads(data)
        items = raw["errors"][:3] if isinstance(raw, dict) else []
        text = "; ".join(f"{item.get('code', '')}: {item.get('message', '')}" for item in items)
    except (ValueError, RecursionError, KeyError, TypeError, AttributeError):
        return ""
    return "".join(one for one in text[:300] if one.isprintable())
