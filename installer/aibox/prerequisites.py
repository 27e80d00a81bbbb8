"""What the containers of a release stand on outside of any generation: users, folders, secrets.

Pure. A container runs as a number that nobody else on the host has and sees its own folders and
secrets alone. It is rendered into the generation (`config/footing.json`), so that whoever starts
one makes what it needs, also after a rollback.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Annotated

from pydantic import Field

from aibox import placement
from aibox.release import Release
from aibox.schema import Model, Name, RelativePath
from aibox.serving import ENGINES
from aibox.site import AbsolutePath, Site

# Between the numbers that systemd and distributions give away and those of user namespaces.
USERS = {
    "gateway": 70001,
    "app": 70002,
    "qdrant": 70003,
    **{name: one.user for name, one in ENGINES.items()},
}
USER_OF = {"web": "app", "ingest": "app"}
"""The user of a service is the service itself, but for these."""

SECRETS = "secrets"
CACHES = "cache"
SITE_TLS = "tls/site"
CERTIFICATE, KEY = f"{SITE_TLS}/certificate.pem", f"{SITE_TLS}/key.pem"
AUTHORITY = "tls/ca.pem"
AUTHORITY_OF_GATEWAY = "gateway/pki/authorities/local/root.crt"
"""Where the gateway keeps the certificate of its own authority, below the folder of `AUTHORITY`."""

QDRANT_KEY = "qdrant-api-key"
SITE_ENGINE_KEY = "site-engine-api-key"
SITE_ENGINE_AUTHORITY = "site-engine-ca"
"""No secret, and handed to the application as one: it is the site's, and nobody else asks there."""


class Folder(Model):
    """A folder below the box root that belongs to one user, mode 0700."""

    path: RelativePath
    user: Name


class Secret(Model):
    """A secret that the box makes itself, `secrets/<name>`, and who may read it.

    Each reader has a file of his own with the same text, `secrets/<reader>/<name>`.
    """

    name: Name
    readers: tuple[Name, ...]


class Copy(Model):
    """A file of the site, at an absolute path, that one user gets a copy of (mode 0600)."""

    source: AbsolutePath
    path: RelativePath
    user: Name


class Prerequisites(Model):
    """All of it. Paths are relative to the box root."""

    users: dict[Name, Annotated[int, Field(ge=1000)]]
    folders: tuple[Folder, ...]
    secrets: tuple[Secret, ...]
    copies: tuple[Copy, ...]


def user_of(service: str) -> str:
    """The name of the user that a service runs as."""
    return USER_OF.get(service, service)


def key_of(engine: str) -> str:
    """The name of the secret that a model service asks for."""
    return f"{engine}-api-key"


def secrets(release: Release) -> tuple[Secret, ...]:
    """Every secret of a release, with those who read it."""
    found = [
        Secret(name=key_of(name), readers=("app", name))
        for name in ENGINES
        if name in release.serving
    ]
    if "qdrant" in release.services:
        found.append(Secret(name=QDRANT_KEY, readers=("app", "qdrant")))
    return tuple(found)


def shared(release: Release, site: Site) -> dict[str, tuple[str, ...]]:
    """The secrets that several hosts need: name -> the host that makes it, then the others."""
    found = {}
    for secret in secrets(release):
        groups = {
            placement.GROUP_OF[name] for name in release.services if user_of(name) in secret.readers
        }
        hosts = [name for name, host in site.hosts.items() if groups.intersection(host.groups)]
        if len(hosts) > 1:
            found[secret.name] = tuple(sorted(hosts))
    return found


def path_of_secret(reader: str, name: str) -> str:
    """Where the reader's own file of a secret lies, below the box root."""
    return f"{SECRETS}/{reader}/{name}"


def make(release: Release, site: Site, caches: dict[str, str]) -> Prerequisites:
    """The prerequisites of a release at a site; `caches` are folders of the engines by service.

    On one host of several it is that of the services there.
    """
    used = sorted({user_of(name) for name in placement.services(release, site)})
    folders = [
        Folder(path=path, user=user)
        for user, path in (
            ("app", "data/rag"),
            ("qdrant", "data/qdrant"),
            ("gateway", "tls/gateway"),
        )
        if user in used
    ]
    if site.container.certificate_file:
        folders.append(Folder(path=SITE_TLS, user="gateway"))
    folders += [Folder(path=path, user=name) for name, path in sorted(caches.items())]
    return Prerequisites(
        users={name: USERS[name] for name in used},
        folders=tuple(folders),
        secrets=tuple(_read_by(used, secrets(release))),
        copies=tuple(_copies(site)),
    )


def _read_by(users: Sequence[str], found: Iterable[Secret]) -> Iterator[Secret]:
    for secret in found:
        if readers := tuple(user for user in secret.readers if user in users):
            yield Secret(name=secret.name, readers=readers)


def _copies(site: Site) -> list[Copy]:
    found = []
    if site.container.certificate_file:
        for source, path in (
            (site.container.certificate_file, CERTIFICATE),
            (site.container.key_file, KEY),
        ):
            found.append(Copy(source=source, path=path, user="gateway"))
    for source, name in (
        (site.engine.api_key_file, SITE_ENGINE_KEY),
        (site.engine.ca_file, SITE_ENGINE_AUTHORITY),
    ):
        if source:
            found.append(Copy(source=source, path=path_of_secret("app", name), user="app"))
    return found
