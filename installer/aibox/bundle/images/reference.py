"""The name of an image: registry, repository, tag. Pure; what is malformed is refused.

The grammar is that of the OCI distribution specification, and the reading of short names is
Docker's: without a registry `docker.io` is meant, and there `library/` for a name of one part.
A digest is never part of a name here: a pin holds it in a field of its own.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass

from aibox.errors import BadUsage, Fault

DEFAULT_REGISTRY = "docker.io"
DEFAULT_TAG = "latest"
LONGEST_REPOSITORY = 255

_ALIASES = {"index.docker.io": DEFAULT_REGISTRY, "registry-1.docker.io": DEFAULT_REGISTRY}
_API_HOSTS = {DEFAULT_REGISTRY: "registry-1.docker.io"}
_LABEL = r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?"
_HOST = re.compile(rf"({_LABEL}(?:\.{_LABEL})*)(?::([1-9][0-9]{{0,4}}))?", re.ASCII)
_PART = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_REPOSITORY = re.compile(rf"{_PART}(?:/{_PART})*", re.ASCII)
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}", re.ASCII)


@dataclass(frozen=True, slots=True)
class ImageReference:
    """Where an image is asked for: `registry` is host[:port], `repository` its path there."""

    registry: str
    repository: str
    tag: str

    def __str__(self) -> str:
        return f"{self.registry}/{self.repository}:{self.tag}"

    @property
    def host(self) -> str:
        """The registry without its port."""
        return self.registry.partition(":")[0]

    @property
    def is_local(self) -> bool:
        """Whether the registry is on this host: the only one that is spoken to without TLS."""
        return is_loopback(self.host)

    @property
    def api(self) -> str:
        """The address of the registry's interface, without a path."""
        scheme = "http" if self.is_local else "https"
        return f"{scheme}://{_API_HOSTS.get(self.registry, self.registry)}"


def parse(text: str) -> ImageReference:
    """Read `[registry/]repository[:tag]`.

    Raises `BadUsage` (`image-name-invalid`) for everything else, digests included.
    """
    if "@" in text:
        raise _refusal(text, "a digest has no place in a name; the lock file holds it in a field")
    registry, path = _split_registry(text)
    repository, colon, tag = path.partition(":")
    if registry == DEFAULT_REGISTRY and "/" not in repository:
        repository = f"library/{repository}"
    if len(repository) > LONGEST_REPOSITORY or _REPOSITORY.fullmatch(repository) is None:
        raise _refusal(text, f"{repository[:80]!r} is no repository (lower case, parts by /)")
    if colon and _TAG.fullmatch(tag) is None:
        raise _refusal(text, f"{tag[:80]!r} is no tag")
    return ImageReference(registry, repository, tag or DEFAULT_TAG)


def is_loopback(host: str) -> bool:
    """Whether a host name or address can only mean this machine."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _split_registry(text: str) -> tuple[str, str]:
    first, slash, rest = text.partition("/")
    # Docker's rule: only a dot, a port or "localhost" makes the first part a registry.
    if not slash or not ("." in first or ":" in first or first == "localhost"):
        return DEFAULT_REGISTRY, text
    match = _HOST.fullmatch(first)
    if match is None or int(match[2] or 0) > 65535:
        raise _refusal(text, f"{first[:80]!r} is no registry (host or host:port, lower case)")
    return _ALIASES.get(first, first), rest


def _refusal(text: str, reason: str) -> BadUsage:
    return BadUsage(
        "image-name-invalid",
        "this is not the name of an image",
        context=f"{text[:200]!r}: {reason}",
        hint="write [registry/]repository:tag in the profile, then: ./aibox lock",
        fault=Fault.YOU,
    )
