"""Rendered configuration: a pure function of release, site and the release's own templates.

The only module that knows Jinja. No clock, no random, no environment: the same input gives
the same bytes, so a digest of the output means something. Undefined names are errors.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

import jinja2

from aibox import digest
from aibox.errors import BadUsage, Failed, Fault
from aibox.lock import Role
from aibox.release import Release
from aibox.site import Site

# Output path in a generation -> template in the release.
FILES = {
    "config/rag.toml": "rag/rag.toml.j2",
    "config/supervisord.conf": "process/supervisord.conf.j2",
}
# Tuning that shapes chunks and vectors; the rest is read by the web process alone.
INDEX_TUNING = ("chunk_size", "chunk_overlap", "bm25_k1", "bm25_b")
UNIT = "process/aibox.service.j2"
# Units of a server, by the name systemd knows them by.
SYSTEM_UNITS = ("aibox.service", "aibox@.service", "aibox-resume.service")


@dataclass(frozen=True, slots=True)
class Rendered:
    """`files` by path in a generation; `inputs` says per service what it depends on (digests)."""

    files: Mapping[str, bytes]
    inputs: Mapping[str, str]


def render(
    release: Release, site: Site, environment: str, templates: Mapping[str, bytes]
) -> Rendered:
    """Render every configuration file of a generation.

    `environment` is the id of the installed wheels; `templates` maps template path to content.
    """
    inputs = service_inputs(release, site, environment)
    context = {
        "release": release.id,
        "services": release.services,
        "tuning": release.tuning.model_dump(mode="json"),
        "embedding": _embedding(release, site),
        "site": site.model_dump(mode="json"),
        "environment": environment,
        "corpus": _digest_of(release, Role.DOCUMENTS),
        "inputs": inputs,
    }
    files = {path: _fill(name, templates, context) for path, name in FILES.items()}
    return Rendered(files, inputs)


def render_unit(templates: Mapping[str, bytes], root: str, launcher: str) -> bytes:
    """The systemd user unit that starts the box after a reboot; absolute host paths."""
    return _fill(UNIT, templates, {"root": root, "launcher": launcher})


def render_system_units(templates: Mapping[str, bytes], root: str) -> dict[str, bytes]:
    """The units of a server by name, for the role stack_units; `root` is the box root there."""
    return {name: _fill(f"container/{name}.j2", templates, {"root": root}) for name in SYSTEM_UNITS}


def service_inputs(release: Release, site: Site, environment: str) -> dict[str, str]:
    """Per service, the digest of what it reads: equal digests need no restart."""
    common = [
        environment,
        _digest_of(release, Role.APP),
        release.tuning.model_dump(mode="json", include=set(INDEX_TUNING)),
        _embedding(release, site),
    ]
    documents = _digest_of(release, Role.DOCUMENTS)
    extra: dict[str, list[object]] = {
        "vectors": [],
        "ingest": [documents],
        "web": [release.id, documents, site.model_dump(mode="json")],
    }
    return {name: digest.of_json([*common, *extra[name]]) for name in release.services}


def _digest_of(release: Release, role: Role) -> str:
    return digest.of_json([[item.target, item.sha256] for item in release.of_role(role)])


def _embedding(release: Release, site: Site) -> dict[str, object] | None:
    if release.embedding is None:
        return None
    if site.embedding is None:
        raise BadUsage(
            "embedding-endpoint-missing",
            "this release carries an embedding model, but the site names no endpoint serving it",
            context=release.embedding.model,
            hint="add [embedding] url to the site file, then: ./aibox plan --inventory FILE",
            fault=Fault.YOU,
        )
    return {**release.embedding.model_dump(mode="json"), "url": site.embedding.url}


def _fill(name: str, templates: Mapping[str, bytes], context: Mapping[str, object]) -> bytes:
    environment = jinja2.Environment(
        undefined=jinja2.StrictUndefined,
        autoescape=False,  # noqa: S701 - TOML, ini and unit files, quoted by the filters below
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["toml"] = toml_value
    try:
        return environment.from_string(templates[name].decode()).render(context).encode()
    except (KeyError, UnicodeDecodeError, jinja2.TemplateError) as error:
        raise Failed(
            "template-broken",
            f"the template {name} cannot be rendered: {error}",
            hint="check the release's templates, then: ./aibox lock --check",
            fault=Fault.US,
        ) from error


def toml_value(value: object) -> str:
    """A TOML literal for a string, number, boolean or list of them."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False).replace("\x7f", "\\u007f")
