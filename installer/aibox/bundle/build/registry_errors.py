"""What can go wrong between us and a registry, said so that one knows what to do."""

from __future__ import annotations

import httpx

from aibox.bundle.images.reference import ImageReference
from aibox.errors import AiboxError, Failed, Fault, VerificationRefused

_LOG_IN = "log in (skopeo login REGISTRY) if the image is not public, then: ./aibox lock"
_ASK = "ask whoever runs the registry, then: ./aibox lock"


def answered(
    reference: ImageReference, status: int, headers: httpx.Headers, said: str, credentials: str
) -> AiboxError:
    """The registry refused; `credentials` is the file they are from, "" for none."""
    if status == httpx.codes.NOT_FOUND:
        return Failed(
            "image-unknown",
            f"the registry {reference.registry} does not have {reference.repository}"
            f":{reference.tag} (any more)",
            context=said or f"the answer was {status}",
            hint="correct the image's name and tag in the profile, then: ./aibox lock",
            fault=Fault.YOU,
        )
    if status in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
        return _denied(reference, status, said, credentials)
    if status == httpx.codes.TOO_MANY_REQUESTS:
        return rate_limit(reference, headers, said)
    return Failed(
        "registry-answer",
        f"the registry {reference.registry} gave an answer that is of no use",
        context=f"{reference}: status {status} {said}".strip(),
        hint=_ASK,
        fault=Fault.UPSTREAM,
    )


def rate_limit(reference: ImageReference, headers: httpx.Headers, said: str) -> Failed:
    """Too many questions; the registry may say when to ask again."""
    wait = headers.get("Retry-After", "").strip()
    seconds = f"{wait} s" if wait.isascii() and wait.isdigit() else wait or "unknown"
    return Failed(
        "registry-rate-limit",
        f"the registry {reference.registry} wants to be asked less often",
        context=f"{reference}: ask again after: {seconds[:40]} {said}".strip(),
        hint="wait that long; more is allowed to those who " + _LOG_IN,
        fault=Fault.UPSTREAM,
    )


def no_token(
    reference: ImageReference,
    host: str,
    status: int,
    headers: httpx.Headers,
    said: str,
    credentials: str,
) -> AiboxError:
    """The token server at `host` gave no token."""
    if status == httpx.codes.TOO_MANY_REQUESTS:
        return rate_limit(reference, headers, said)
    if status == httpx.codes.OK:
        said = "no token in its answer"
    return _denied(reference, status, f"token server {host}: {said}".strip(), credentials)


def _denied(reference: ImageReference, status: int, said: str, credentials: str) -> Failed:
    who = f"with the credentials of {credentials}" if credentials else "without credentials"
    return Failed(
        "image-denied",
        f"the registry {reference.registry} does not give {reference.repository} to us {who}; "
        "the image may also not exist",
        context=f"{reference}: status {status} {said}".strip(),
        hint="check the image's name; " + _LOG_IN,
        fault=Fault.YOU,
    )


def unreachable(reference: ImageReference, host: str, reason: str) -> Failed:
    """No answer, or only of a server in trouble."""
    return Failed(
        "registry-unreachable",
        f"the registry {reference.registry} does not answer",
        context=f"{reference}: {host}: {reason}",
        hint="check network, proxy (HTTPS_PROXY) and certificates (SSL_CERT_FILE), then: "
        "./aibox lock",
        fault=Fault.HOST,
    )


def differs(reference: ImageReference, expected: str, found: str) -> VerificationRefused:
    """Other bytes than the digest's."""
    return VerificationRefused(
        "image-differs",
        f"the registry {reference.registry} gave other bytes than their digest names",
        context=f"{reference}: expected {expected[:80]}, the bytes are {found}",
        hint="something changes what you fetch (a proxy, a damaged mirror); take another way, "
        "then: ./aibox lock",
        fault=Fault.UPSTREAM,
    )


def too_large(reference: ImageReference, limit: int) -> VerificationRefused:
    """More bytes than such an answer may have."""
    return VerificationRefused(
        "registry-answer-too-large",
        f"the registry {reference.registry} sent more than the {limit} bytes that may be",
        context=str(reference),
        hint=_ASK,
        fault=Fault.UPSTREAM,
    )


def unknown_challenge(reference: ImageReference) -> Failed:
    """The registry wants something that we do not do, or a password sent in the open."""
    return Failed(
        "registry-challenge",
        f"the registry {reference.registry} asks for a way to log in that is not supported",
        context="supported are Basic and Bearer, over TLS unless it is on this host",
        hint=_ASK,
        fault=Fault.UPSTREAM,
    )


def misdirected(reference: ImageReference, facts: str) -> Failed:
    """A redirect that is not followed."""
    return Failed(
        "registry-misdirected",
        f"the registry {reference.registry} sends us where we do not go",
        context=f"{reference}: {facts}",
        hint=_ASK,
        fault=Fault.UPSTREAM,
    )


def joined(reference: ImageReference, url: httpx.URL, location: str) -> httpx.URL:
    """The address of a redirect."""
    try:
        target = url.join(location)
    except httpx.InvalidURL:
        raise misdirected(reference, "a redirect to no address") from None
    if target.scheme not in ("http", "https") or not target.host:
        raise misdirected(reference, "a redirect to no address")
    return target


def lacks_platform(reference: ImageReference, wanted: str, found: str) -> Failed:
    """The image is not made for an architecture that a profile requires."""
    return Failed(
        "image-lacks-platform",
        f"{reference} has no build for {wanted}",
        context=f"it has: {found or 'none'}",
        hint="wish for another image, or for fewer architectures in the profile, then: "
        "./aibox lock",
        fault=Fault.YOU,
    )
