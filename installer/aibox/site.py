"""Site values: what differs from place to place. Never part of a release, never a secret.

A secret is named by the path of a 0600 file. `inventory.example` shows every key.
"""

from __future__ import annotations

import ipaddress
import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, ValidationError, model_validator

from aibox.schema import Model, Name, invalid, read_toml

VERSION = 1
DEFAULT_PORT = 8642
LONGEST_NAME = 253
LOOPBACK_NAMES = ("localhost", "127.0.0.1", "::1")
"""Names by which a container box always answers, to this host alone."""

_LABEL = "[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
_HOST_NAME = re.compile(rf"{_LABEL}(\.{_LABEL})*", re.ASCII)


class Server(Model):
    """Where the web page and the API listen. The `process` runtime serves loopback only."""

    host: Literal["127.0.0.1"] = "127.0.0.1"
    port: Annotated[int, Field(ge=1024, le=65535)] = DEFAULT_PORT


class Engine(Model):
    """Who writes answers: quotes (`extractive`), or any OpenAI-compatible endpoint (`openai`)."""

    kind: Literal["extractive", "openai"] = "extractive"
    url: Annotated[str, Field(pattern=r"^(https?://\S+)?$")] = ""
    model: str = ""
    api_key_file: str = ""

    @model_validator(mode="after")
    def _openai_needs_url_and_model(self) -> Engine:
        if self.kind == "openai" and not (self.url and self.model):
            raise ValueError("an openai engine needs both url and model")
        if self.kind == "extractive" and (self.url or self.model or self.api_key_file):
            raise ValueError('url, model and api_key_file need kind = "openai"')
        return self


class EmbeddingEndpoint(Model):
    """Where the release's embedding model is served (OpenAI-compatible)."""

    url: Annotated[str, Field(pattern=r"^https?://\S+$")]


def _is_name(name: str) -> str:
    """A host name or an address in the one form that browsers send and certificates hold."""
    if _is_address(name):
        if str(ipaddress.ip_address(name)) != name:
            raise ValueError(f"write it as {ipaddress.ip_address(name)}")
        return name
    if len(name) > LONGEST_NAME or not _HOST_NAME.fullmatch(name):
        raise ValueError(
            "must be a host name (small letters, digits, - and dots; others as xn--...) or an "
            "address, without port and https"
        )
    return name


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _is_own_address(address: str) -> str:
    if address and not _is_address(address):
        raise ValueError("must be an address of this server, or empty for all of them")
    return address


def _is_absolute(path: str) -> str:
    if path and (not path.startswith("/") or "\0" in path or "\n" in path):
        raise ValueError("must be an absolute path")
    return path


HostName = Annotated[str, AfterValidator(_is_name)]
AbsolutePath = Annotated[str, AfterValidator(_is_absolute)]
MemoryMib = Annotated[int, Field(ge=64, le=16 * 1024 * 1024)]


class Container(Model):
    """What a box of containers (the `container` runtime) needs to know of its place.

    The gateway listens on `address` (empty: all) and `port`, over TLS alone, and answers to
    `names` and to this host itself. Its certificate is the site's own (`certificate_file` with
    the chain, `key_file` of mode 0600), or one of the box's own authority. `air_gapped` lets
    preflight insist that no network leads out. `memory_mib` replaces limits of services.
    """

    address: Annotated[str, AfterValidator(_is_own_address)] = ""
    port: Annotated[int, Field(ge=1, le=65535)] = 443
    names: tuple[HostName, ...] = ()
    certificate_file: AbsolutePath = ""
    key_file: AbsolutePath = ""
    air_gapped: bool = False
    memory_mib: dict[Name, MemoryMib] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _goes_together(self) -> Container:
        if bool(self.certificate_file) != bool(self.key_file):
            raise ValueError("certificate_file and key_file need one another")
        if self.certificate_file and not self.names:
            raise ValueError("a certificate needs names: those it was made for")
        if len(set(self.names)) != len(self.names):
            raise ValueError("names: one is there twice")
        if len(self.addresses) > 1:
            # Who asks by address does not say which one he asked, so only one can have its
            # certificate.
            raise ValueError("names: only one address can be among them, the others as host names")
        if reserved := set(self.names) & set(LOOPBACK_NAMES):
            raise ValueError(f"names: {sorted(reserved)[0]} is always there; leave it out")
        return self

    @property
    def addresses(self) -> tuple[str, ...]:
        """Those of `names` that are addresses: at most one."""
        return tuple(name for name in self.names if _is_address(name))


class Site(Model):
    """One site file, or its defaults."""

    version: int = VERSION
    server: Server = Server()
    engine: Engine = Engine()
    embedding: EmbeddingEndpoint | None = None
    container: Container = Container()


def load(path: Path) -> Site:
    """Read a site file; raises `BadUsage` with the path of whatever is wrong in it."""
    return read_toml(
        path, Site, what="site", version=VERSION, command=f"./aibox plan --inventory {path}"
    )


def with_name(site: Site, host: str) -> Site:
    """The site with a name for its server: what the `host` calls itself, unless the site says.

    A host whose name no browser could type keeps none, and is reached from itself alone.
    """
    if site.container.names:
        return site
    values = site.container.model_dump() | {"names": (host.lower(),)}
    try:
        return site.model_copy(update={"container": Container.model_validate(values)})
    except ValidationError:
        return site


def make_engine(url: str, model: str, api_key_file: str) -> Engine:
    """An `openai` engine from command-line values; raises `BadUsage` for a malformed one."""
    try:
        return Engine(kind="openai", url=url, model=model, api_key_file=api_key_file)
    except ValidationError as error:
        raise invalid(
            error,
            what="engine",
            source="--engine-url and --engine-model",
            command="./aibox install --engine-url http://127.0.0.1:11434/v1 --engine-model NAME",
        ) from error


def check_secret_file(path: Path) -> str:
    """Why `path` cannot hold a secret, or an empty string when it can (a 0600 file)."""
    if not path.is_file():
        return f"{path} is not a file"
    if path.stat().st_mode & 0o077:
        return f"{path} can be read by others; run: chmod 600 {path}"
    return ""
