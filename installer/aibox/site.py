"""Site values: what differs from place to place. Never part of a release, never a secret.

A secret is named by the path of a 0600 file. `inventory.example` shows every key.
"""

from __future__ import annotations

import ipaddress
import re
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, ValidationError, model_validator

from aibox.errors import BadUsage, Fault
from aibox.schema import Model, Name, invalid, read_toml

VERSION = 1
DEFAULT_PORT = 8642
LONGEST_NAME = 253
LOOPBACK_NAMES = ("localhost", "127.0.0.1", "::1")
"""Names by which a container box always answers, to this host alone."""

ASKED_BELOW = ("/chat/completions", "/completions", "/embeddings", "/models")
"""What of an endpoint is asked for; people copy its address with it."""

_VISIBLE = re.compile("[!-~]+")
_LABEL = "[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
_HOST_NAME = re.compile(rf"{_LABEL}(\.{_LABEL})*", re.ASCII)


class Server(Model):
    """Where the web page and the API listen. The `process` runtime serves loopback only."""

    host: Literal["127.0.0.1"] = "127.0.0.1"
    port: Annotated[int, Field(ge=1024, le=65535)] = DEFAULT_PORT


def _is_endpoint(url: str) -> str:
    """An address below which OpenAI's protocol is spoken, or nothing."""
    if not url:
        return url
    try:
        parts = urlsplit(url)
        good = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        good = False
    if not good or not _VISIBLE.fullmatch(url):
        raise ValueError("must be http:// or https:// and a host, as http://127.0.0.1:11434/v1 is")
    if "@" in parts.netloc:
        raise ValueError("must hold no name and no password; a key belongs into a file (0600)")
    if parts.query or parts.fragment:
        raise ValueError("must end with its path, without ? and #")
    if paths := [path for path in ASKED_BELOW if parts.path.rstrip("/").endswith(path)]:
        raise ValueError(f"leave out {paths[0]}, which is asked for below it")
    return url


def _is_absolute(path: str) -> str:
    if path and (not path.startswith("/") or "\0" in path or "\n" in path):
        raise ValueError("must be an absolute path")
    return path


AbsolutePath = Annotated[str, AfterValidator(_is_absolute)]
EndpointUrl = Annotated[str, AfterValidator(_is_endpoint)]


class Engine(Model):
    """Who writes answers: quotes (`extractive`), or any OpenAI-compatible endpoint (`openai`).

    `ca_file` (PEM) has the authority of the endpoint's certificate, where it is the site's own.
    """

    kind: Literal["extractive", "openai"] = "extractive"
    url: EndpointUrl = ""
    model: str = ""
    api_key_file: AbsolutePath = ""
    ca_file: Annotated[AbsolutePath, Field(exclude_if=lambda path: not path)] = ""

    @model_validator(mode="after")
    def _openai_needs_url_and_model(self) -> Engine:
        if self.kind == "openai" and not (self.url and self.model):
            raise ValueError("an openai engine needs both url and model")
        given = (self.url, self.model, self.api_key_file, self.ca_file)
        if self.kind == "extractive" and any(given):
            raise ValueError('url, model, api_key_file and ca_file need kind = "openai"')
        if self.ca_file and not self.url.startswith("https:"):
            raise ValueError("ca_file needs a url with https")
        return self


class EmbeddingEndpoint(Model):
    """Where the release's embedding model is served (OpenAI-compatible)."""

    url: Annotated[EndpointUrl, Field(min_length=1)]


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
    """Whether it is an address alone: behind the % of a zone anything may follow."""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return "%" not in name


def _is_own_address(address: str) -> str:
    if address and not _is_address(address):
        raise ValueError("must be an address of this server, or empty for all of them")
    return address


def _is_inside(url: str) -> bool:
    """Whether a URL names an address by number, and none that is reached from everywhere.

    Of a name nobody knows where it leads tomorrow.
    """
    host = urlsplit(url).hostname or ""
    return _is_address(host) and not ipaddress.ip_address(host).is_global


def asks_by_name(url: str) -> bool:
    """Whether whoever asks this URL has to find its host's address first."""
    return not _is_address(urlsplit(url).hostname or "")


def is_of_this_host(url: str) -> bool:
    """Whether a URL leads to whoever asks it."""
    host = urlsplit(url).hostname or ""
    return host == "localhost" or (_is_address(host) and ipaddress.ip_address(host).is_loopback)


Group = Literal["gpu", "vector", "app", "gateway", "monitoring"]
"""What a host is there for."""

HostName = Annotated[str, AfterValidator(_is_name)]
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


def _is_version_4(address: str) -> str:
    try:
        found = ipaddress.IPv4Address(address)
    except ValueError as error:
        raise ValueError("must be an IPv4 address, such as 192.0.2.11") from error
    if found.is_unspecified or found.is_multicast or found.is_reserved:
        raise ValueError(f"{address} is the address of no host")
    return str(found)


Ipv4 = Annotated[str, AfterValidator(_is_version_4)]


class Host(Model):
    """One of several servers. `address` is where the others and this machine reach it.

    `groups` say what runs on it. It is reached by ssh as `user` (empty: who the user's own ssh
    configuration names), who is root or may `sudo` without a password. `host_key` is the server's
    public key; without it ssh must know the server already.
    """

    address: Ipv4
    groups: Annotated[tuple[Group, ...], Field(min_length=1)]
    user: Annotated[str, Field(pattern=r"^([a-z_][a-z0-9_.-]{0,31})?$")] = ""
    port: Annotated[int, Field(ge=1, le=65535)] = 22
    key_file: AbsolutePath = ""
    host_key: Annotated[str, Field(pattern=r"^([a-z0-9@.-]+ [A-Za-z0-9+/=]+)?$")] = ""

    @model_validator(mode="after")
    def _each_group_once(self) -> Host:
        if len(set(self.groups)) != len(self.groups):
            raise ValueError("groups: one is there twice")
        return self


class Together(Model):
    """How several hosts change: `when_one_fails` decides what becomes of the others."""

    when_one_fails: Literal["all-go-back", "others-stay"] = "all-go-back"


class Site(Model):
    """One site file, or its defaults.

    `hosts` are the servers of a box of several, by name; none is a box of one host. On one of
    them `member` is its own name: no site file says it.
    """

    version: int = VERSION
    server: Server = Server()
    engine: Engine = Engine()
    embedding: EmbeddingEndpoint | None = None
    container: Container = Container()
    hosts: dict[Name, Host] = Field(default_factory=dict)
    together: Together = Together()
    member: str = ""

    @model_validator(mode="after")
    def _an_air_gapped_box_asks_nobody_outside(self) -> Site:
        asked = {"engine.url": self.engine.url}
        if self.embedding is not None:
            asked["embedding.url"] = self.embedding.url
        for key, url in asked.items():
            if self.container.air_gapped and url and not _is_inside(url):
                raise ValueError(
                    f"{key}: an air-gapped box asks addresses of its own network alone, by number; "
                    "name one, or leave out container.air_gapped"
                )
        return self

    @model_validator(mode="after")
    def _hosts_differ(self) -> Site:
        addresses = [(host.address, host.port) for host in self.hosts.values()]
        if len(set(addresses)) != len(addresses):
            raise ValueError("hosts: two have the same address")
        if self.member and self.member not in self.hosts:
            raise ValueError(f"member: there is no host {self.member!r}")
        return self


def load(path: Path) -> Site:
    """Read a site file; raises `BadUsage` with the path of whatever is wrong in it."""
    command = f"./aibox plan --inventory {path}"
    site = read_toml(path, Site, what="site", version=VERSION, command=command)
    if site.member:
        raise BadUsage(
            "site-invalid",
            f"{path}: member: is not for a site file; every host is told its own name",
            hint=f"leave it out, then: {command}",
            fault=Fault.YOU,
        )
    return site


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


def with_changes(site: Site, changes: Mapping[str, object]) -> Site:
    """The site with other sections; raises `BadUsage` where they do not go with the rest."""
    try:
        return Site.model_validate({**dict(site), **changes})
    except ValidationError as error:
        raise invalid(
            error,
            what="site",
            source="the options of the command",
            command="./aibox plan --inventory FILE",
        ) from error


def check_secret_file(path: Path) -> str:
    """Why `path` cannot hold a secret, or an empty string when it can (a 0600 file)."""
    try:
        facts = path.stat()
    except (OSError, ValueError) as error:
        return f"{path} is not a file: {getattr(error, 'strerror', None) or error}"
    if not stat.S_ISREG(facts.st_mode):
        return f"{path} is not a file"
    if facts.st_mode & 0o077:
        return f"{path} can be read by others; run: chmod 600 {path}"
    return "" if facts.st_size else f"{path} is empty"
