"""Rendered configuration: a pure function of release, site and the release's own templates.

The only module that knows Jinja. No clock, no random, no environment: the same input gives
the same bytes, so a digest of the output means something. Undefined names are errors.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import jinja2

from aibox import compose_values, digest, placement, prerequisites
from aibox.errors import BadUsage, Failed, Fault
from aibox.lock import Role
from aibox.profile import Runtime
from aibox.release import Release
from aibox.site import Site

RAG_TOML = "config/rag.toml"
# Output path in a generation -> template in the release.
FILES = {
    RAG_TOML: "rag/rag.toml.j2",
    "config/supervisord.conf": "process/supervisord.conf.j2",
}
# The same for containers, besides COMPOSE and PREREQUISITES; those of a service exist with it.
FILES_OF_SERVICE = {
    "web": {RAG_TOML: "rag/rag.toml.j2"},
    "gateway": {"config/Caddyfile": "gateway/Caddyfile.j2"},
    "qdrant": {"config/qdrant.yaml": "qdrant/config.yaml.j2"},
}
COMPOSE, COMPOSE_TEMPLATE = "config/compose.yaml", "compose/compose.yaml.j2"
PREREQUISITES = "config/footing.json"
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
    release: Release,
    site: Site,
    environment: str,
    templates: Mapping[str, bytes],
    *,
    architecture: str = "x86_64",
    certificate: str = "",
) -> Rendered:
    """Render every configuration file of a generation.

    `environment` is the id of the installed wheels; `templates` maps template path to content.
    Containers also depend on the `architecture` of the host, as its kernel names it, and on the
    digest of the site's own `certificate`, "" without one.
    """
    context = {
        "release": release.id,
        "services": placement.services(release, site),
        "tuning": release.tuning.model_dump(mode="json"),
        "embedding": _embedding(release, site),
        "site": site.model_dump(mode="json"),
        "corpus": _digest_of(release, Role.DOCUMENTS),
    }
    if release.runtime is Runtime.CONTAINER:
        return _Containers(release, site, templates, context, architecture).render(certificate)
    inputs = service_inputs(release, site, environment)
    own = {
        "server": site.server.model_dump(mode="json"),
        "engine": site.engine.model_dump(mode="json"),
        "vectors": None,
        "rerank": None,
        "small": None,
        "environment": environment,
        "inputs": inputs,
    }
    filled = _Templates(templates)
    files = {path: filled.fill(name, {**context, **own}) for path, name in FILES.items()}
    return Rendered(files, inputs)


class _Containers:
    """Rendering of a box of containers: files, then each service, then what puts them together."""

    def __init__(
        self,
        release: Release,
        site: Site,
        templates: Mapping[str, bytes],
        context: Mapping[str, object],
        architecture: str,
    ) -> None:
        self._release = release
        self._site = site
        self._templates = _Templates(templates)
        self._architecture = architecture
        self._context = {
            **context,
            **compose_values.common(release, site, architecture),
            "server": compose_values.server(release),
            "engine": compose_values.answering(release, site),
            "vectors": compose_values.vectors(release, site),
            "rerank": compose_values.reranking(release, site),
            "small": compose_values.small(release, site),
        }
        self._services = placement.services(release, site)
        self._engines = {
            name: compose_values.engine(release, name, architecture)
            for name in release.serving
            if name in self._services
        }

    def render(self, certificate: str) -> Rendered:
        files = dict(self._files())
        blocks = {name: self._block(name) for name in self._services}
        inputs = {
            name: digest.of_json([block, *self._read_by(name, files, certificate)])
            for name, block in blocks.items()
        }
        compose = self._fill(COMPOSE_TEMPLATE, {"blocks": blocks, "inputs": inputs})
        return Rendered({**files, COMPOSE: compose, PREREQUISITES: self._prerequisites()}, inputs)

    def _files(self) -> Iterator[tuple[str, bytes]]:
        for service in self._services:
            for path, name in FILES_OF_SERVICE.get(service, {}).items():
                yield path, self._fill(name, {})
        for service, values in self._engines.items():
            if values["kind"].settings:
                yield f"config/{service}.serve.yaml", self._fill("vllm/serve.yaml.j2", values)
            yield f"config/{service}.ask.py", self._fill("vllm/ask.py.j2", values)

    def _block(self, service: str) -> str:
        """The service's own part of the Compose file, without the label of its inputs."""
        values = self._engines.get(service, {})
        name = "engine" if values else service
        return self._fill(f"compose/{name}.yaml.j2", values).decode()

    def _read_by(
        self, service: str, files: Mapping[str, bytes], certificate: str
    ) -> Sequence[object]:
        """What a service reads besides its own part of the Compose file."""
        found = compose_values.reads(self._release, service, files, certificate)
        if service != "ingest":
            return found
        # Of rag.toml, these alone.
        tuning = self._release.tuning.model_dump(mode="json", include=set(INDEX_TUNING))
        return [*found, tuning, self._context["embedding"], self._context["vectors"]]

    def _prerequisites(self) -> bytes:
        caches = {name: str(values["cache"]) for name, values in self._engines.items()}
        made = prerequisites.make(self._release, self._site, caches)
        return digest.canonical_json(made.model_dump(mode="json")) + b"\n"

    def _fill(self, name: str, values: Mapping[str, object]) -> bytes:
        return self._templates.fill(name, {**self._context, **values})


def render_unit(templates: Mapping[str, bytes], root: str, launcher: str) -> bytes:
    """The systemd user unit that starts the box after a reboot; absolute host paths."""
    return _Templates(templates).fill(UNIT, {"root": root, "launcher": launcher})


def render_system_units(templates: Mapping[str, bytes], root: str) -> dict[str, bytes]:
    """The units of a server by name, for the role stack_units; `root` is the box root there."""
    filled = _Templates(templates)
    return {name: filled.fill(f"container/{name}.j2", {"root": root}) for name in SYSTEM_UNITS}


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
    said = release.embedding.model_dump(mode="json", exclude_none=True)
    if url := compose_values.embedding_url(release, site):
        key = f"/run/secrets/{prerequisites.key_of('embedding')}"
        own = {"url": url, "api_key_file": key, "in_box": True}
        return {**said, **own}
    if site.embedding is None:
        raise BadUsage(
            "embedding-endpoint-missing",
            "this release carries an embedding model, but the site names no endpoint serving it",
            context=release.embedding.model,
            hint="add [embedding] url to the site file, then: ./aibox plan --inventory FILE",
            fault=Fault.YOU,
        )
    return {**said, "url": site.embedding.url}


class _Templates:
    """The release's own templates; what one imports is found among them as well."""

    def __init__(self, templates: Mapping[str, bytes]) -> None:
        self._environment = jinja2.Environment(
            undefined=jinja2.StrictUndefined,
            autoescape=False,  # noqa: S701 - quoted by the filters below, as each format has it
            trim_blocks=True,
            lstrip_blocks=True,
            keep_trailing_newline=True,
            loader=jinja2.FunctionLoader(_reader(templates)),
        )
        filters = {"toml": toml_value, "json": json_value, "compose": compose_value}
        self._environment.filters |= filters

    def fill(self, name: str, context: Mapping[str, object]) -> bytes:
        """One of them filled; raises `Failed` (`template-broken`)."""
        try:
            return self._environment.get_template(name).render(context).encode()
        except (UnicodeDecodeError, jinja2.TemplateError) as error:
            raise Failed(
                "template-broken",
                f"the template {name} cannot be rendered: {error}",
                hint="check the release's templates, then: ./aibox lock --check",
                fault=Fault.US,
            ) from error


def _reader(templates: Mapping[str, bytes]) -> Callable[[str], str | None]:
    return lambda name: templates[name].decode() if name in templates else None


def compose_value(value: object) -> str:
    """A YAML literal in a Compose file, in which `$` is not Compose's own."""
    return json_value(value).replace("$", "$$")


def json_value(value: object) -> str:
    """A JSON literal, which YAML and Python read as well."""
    return json.dumps(value, allow_nan=False, sort_keys=True)


def toml_value(value: object) -> str:
    """A TOML literal for a string, number, boolean or list of them."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False).replace("\x7f", "\\u007f")
