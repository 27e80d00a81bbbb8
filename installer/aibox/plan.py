"""The plan: what will be done to a box, as a pure function of release, site and what it runs now.

What was shown is what runs. Facts of the host may veto a plan (preflight), never change it;
`Target` (interpreter and platform of the host) is chosen before planning, like a site value.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated

from packaging.utils import InvalidWheelFilename, parse_wheel_filename
from pydantic import Field

from aibox import digest, objects, placement
from aibox.difference import Difference, compare
from aibox.errors import BadUsage, Fault
from aibox.lock import Wheel, WheelFile
from aibox.objects import Placed
from aibox.profile import Runtime
from aibox.release import Release
from aibox.render import Rendered
from aibox.schema import Model, RelativePath, Sha256
from aibox.serving import spelt_out
from aibox.site import Site

HTTPS = 443
UNRESOLVED = "unresolved"


class Target(Model):
    """The host: `python` like `cp311-linux_x86_64`, `tags` best first (PEP 425), `architecture`
    as its kernel names it."""

    python: str
    tags: tuple[str, ...]
    architecture: str = "x86_64"


class Wanted(Model):
    """One blob a generation needs, and where it lands in its tree."""

    path: RelativePath
    size: Annotated[int, Field(ge=0)]
    sha256: Sha256


class Plan(Model):
    """Everything a run will do. `digest` names it in the record."""

    release: Sha256
    profile: str
    runtime: str
    site: Site
    python: str
    environment: Sha256
    tree: tuple[Wanted, ...]
    rendered: dict[str, Sha256]
    inputs: dict[str, Sha256]
    steps: tuple[str, ...]
    differences: tuple[Difference, ...]

    @property
    def digest(self) -> str:
        """The digest of what the generation will be; it does not depend on what runs now."""
        return digest.of_json(self._identity())

    def stored(self) -> bytes:
        """`plan.json` of a generation."""
        return digest.canonical_json(self._identity())

    def _identity(self) -> dict[str, object]:
        return self.model_dump(mode="json", exclude={"steps", "differences"})

    @property
    def size(self) -> int:
        """Bytes of all blobs together."""
        return sum(item.size for item in self.tree)


class Current(Model):
    """What the box runs now: its release and the stored identity of its plan."""

    generation: int
    release: Release
    plan: dict[str, object]


def stored_site(stored: bytes) -> Site:
    """The site values in the `plan.json` of a generation."""
    return Site.model_validate(json.loads(stored)["site"])


def address(site: Site, runtime: Runtime) -> str:
    """Where a box of this site is opened in a browser."""
    if runtime is Runtime.PROCESS:
        return f"http://{site.server.host}:{site.server.port}/"
    name = site.container.names[0] if site.container.names else "localhost"
    host = f"[{name}]" if ":" in name else name
    port = site.container.port
    return f"https://{host}/" if port == HTTPS else f"https://{host}:{port}/"


def engine(release: Release, site: Site) -> str:
    """Who writes the answers: what the site names, else the release's own model, else nobody."""
    chat = release.serving.get("chat")
    return chat.kind.value if chat and site.engine.kind == "extractive" else site.engine.kind


def environment_id(wheel_digests: Iterable[str], python: str) -> str:
    """The id of the environment made from these wheels for one interpreter."""
    return digest.of_json({"wheels": sorted(wheel_digests), "python": python})


def select_wheels(wheels: tuple[Wheel, ...], target: Target) -> tuple[WheelFile, ...]:
    """For every package the build this host prefers; `BadUsage` names the first without one."""
    rank = {tag: position for position, tag in enumerate(target.tags)}
    chosen = []
    for wheel in wheels:
        ranked = [(_rank(file.filename, rank), file) for file in wheel.files]
        fitting = [(position, file) for position, file in ranked if position is not None]
        if not fitting:
            raise BadUsage(
                "wheel-does-not-fit",
                f"models.lock has no build of {wheel.name} {wheel.version} for this host",
                context=f"this host: {target.python}",
                hint="use CPython 3.11 to 3.14 on Linux with glibc: ./aibox profiles show local",
                fault=Fault.YOU,
            )
        chosen.append(min(fitting, key=lambda pair: pair[0])[1])
    return tuple(chosen)


def _rank(filename: str, rank: Mapping[str, int]) -> int | None:
    try:
        tags = parse_wheel_filename(filename)[3]
    except InvalidWheelFilename:
        return None
    return min((rank[str(tag)] for tag in tags if str(tag) in rank), default=None)


def make(
    release: Release,
    site: Site,
    target: Target,
    rendered: Rendered,
    wheels: tuple[WheelFile, ...],
    current: Current | None,
    derived: tuple[Placed, ...] = (),
) -> Plan:
    """Everything that follows from the input; nothing is looked up.

    `derived` are files that a bundle made from the release's objects (package repositories).
    """
    part = placement.part(release, site)
    placed = (
        *objects.of_release(part, target.architecture),
        *objects.wheels(wheels),
        *_needed(derived, release, part),
    )
    tree = [Wanted(path=f"tree/{item.path}", size=item.size, sha256=item.sha256) for item in placed]
    return Plan(
        release=release.id,
        profile=release.profile,
        runtime=release.runtime.value,
        site=site,
        python=target.python,
        environment=environment_id([wheel.sha256 for wheel in wheels], target.python),
        tree=tuple(tree),
        rendered={path: digest.of_bytes(data) for path, data in rendered.files.items()},
        inputs=dict(rendered.inputs),
        steps=_steps(rendered, current),
        differences=_differences(release, site, current),
    )


def _needed(derived: Iterable[Placed], release: Release, part: Release) -> Iterator[Placed]:
    """What was made from objects, without the repositories that this part of a release lacks."""
    lacking = {item.name for item in release.packages} - {item.name for item in part.packages}
    for item in derived:
        folders = item.path.split("/")
        if not (item.path.startswith(objects.PACKAGES) and folders[1] in lacking):
            yield item


def _steps(rendered: Rendered, current: Current | None) -> tuple[str, ...]:
    before = current.plan.get("inputs", {}) if current else {}
    known = before if isinstance(before, dict) else {}
    restart = sorted(name for name, value in rendered.inputs.items() if known.get(name) != value)
    return (
        "preflight: judge the host (Ansible role preflight)",
        "provision: folders and the start-up unit (Ansible role box_layout)",
        "stage: fetch what the store lacks, check every byte, seal a generation",
        f"activate: switch, then restart {', '.join(restart) or 'nothing'}",
        "gate: ask the golden questions; commit, or roll back",
    )


def _differences(release: Release, site: Site, current: Current | None) -> tuple[Difference, ...]:
    if current is None:
        return (Difference(name="release", current="(none)", desired=release.id[:12]),)
    before = Site.model_validate(current.plan["site"])
    pairs = {**_flat(current.release), **_flat_site(before)}, {**_flat(release), **_flat_site(site)}
    return compare(*pairs)


def compare_releases(before: Release, after: Release) -> tuple[Difference, ...]:
    """What a reader of two releases wants to know: tuning values, files, packages, questions."""
    return compare(_flat(before), _flat(after))


def _flat(release: Release) -> dict[str, str]:
    values = {
        f"tuning.{name}": json.dumps(value)
        for name, value in release.tuning.model_dump(mode="json").items()
    }
    values |= {f"serving.{key}": text for key, text in spelt_out(release.serving).items()}
    values |= {item.target: item.sha256[:12] for item in release.artifacts}
    values |= {f"wheel.{item.name}": item.version for item in release.wheels}
    values |= {f"golden.{item.id}": item.question for item in release.golden}
    values |= {
        f"model.{item.name}": f"{item.repository}@{item.revision[:12]}" for item in release.models
    }
    values |= {
        f"image.{item.name}": f"{item.reference}@{(item.digest or UNRESOLVED)[:12]}"
        for item in release.images
    }
    values |= {f"file.{item.name}": (item.sha256 or UNRESOLVED)[:12] for item in release.files}
    for packages in release.packages:
        values |= {
            f"package.{packages.name}.{item.name}": item.version for item in packages.packages
        }
    return values


def _flat_site(site: Site) -> dict[str, str]:
    flat: dict[str, str] = {}
    for section, value in site.model_dump(mode="json").items():
        items = value.items() if isinstance(value, dict) else [("", value)]
        flat |= {f"site.{section}.{key}".rstrip("."): json.dumps(item) for key, item in items}
    return flat
