"""What the templates of a container box are filled with. Pure: release and site in, values out.

Service by service; the names of the networks, mounts and headers are the templates' own matter.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from aibox import digest, objects, placement, prerequisites
from aibox.errors import BadUsage, Fault
from aibox.hardware import PeerToPeer
from aibox.lock import Role
from aibox.pins import ImagePin
from aibox.release import Release
from aibox.serving import ENGINES, Runner, Serving, image_of
from aibox.site import LOOPBACK_NAMES, Site, asks_by_name, is_of_this_host

APP_PORT = placement.OWN_PORTS["web"]
TAG_DIGITS = 16
UPLOAD_LIMIT_MB = 220
"""More than the application takes (200 MiB and the form around it), so that it is the one to say
what is wrong with a file that is too large."""
MEMORY_MIB = {"gateway": 256, "web": 1536, "ingest": 3072, "qdrant": 4096}
"""Limits where neither profile nor site says otherwise."""
SHUTDOWN_S = 120
SMALL_SILENCE_S = 5.0
"""How long the small model may be silent before the large one answers in its place."""
ANSWER_GRACE_S = 60
"""How long an answer in the works may go on when its service is told to stop. Whoever stands
behind it (the engine) waits longer, and so does whoever stands before it (the gateway)."""
CONCURRENT_ANSWERS = 32
"""Where the engine does not say how many it works at together."""
CANARY_S = 40
"""How long the question of a health check waits for its answer."""
STALLED_S = 120
"""For how long an engine may compute nothing although it was asked, at least."""


def image_tag(release: Release, service: str, architecture: str) -> str:
    """The name under which the box loads the image of a service: its digest is part of it."""
    image = image_pin(release, service)
    config = objects.platform(image, architecture).config.sha256
    return f"aibox/{image.name}:{config[:TAG_DIGITS]}"


def image_pin(release: Release, service: str) -> ImagePin:
    """The pin of the image that a service runs. Profiles are checked to wish for it."""
    served = release.serving.get(service)
    name = served.image if served else image_of(service, release.service_images)
    return next(image for image in release.images if image.name == name)


def memory_mib(release: Release, site: Site) -> dict[str, int]:
    """The limit of each service in MiB; `BadUsage` when the site limits one that does not exist."""
    if unknown := sorted(set(site.container.memory_mib) - set(release.services)):
        raise BadUsage(
            "memory-of-unknown-service",
            f"the site limits the memory of {unknown[0]!r}, which this release does not run",
            context=f"it runs: {', '.join(release.services)}",
            hint="correct [container.memory_mib], then: ./aibox plan --inventory FILE",
            fault=Fault.YOU,
        )
    of_profile = {name: served.memory_mib for name, served in release.serving.items()}
    known = {**MEMORY_MIB, **of_profile, **site.container.memory_mib}
    return {name: known[name] for name in placement.services(release, site)}


def common(release: Release, site: Site, architecture: str) -> dict[str, Any]:
    """What every template may use."""
    asked, here = _endpoints(release, site), placement.services(release, site)
    outside = set(asked)
    return {
        "image_tags": {name: image_tag(release, name, architecture) for name in here},
        "users": {name: prerequisites.USERS[prerequisites.user_of(name)] for name in here},
        "memory_mib": memory_mib(release, site),
        "secrets_of": {name: secrets_of(release, site, name) for name in ("web", "ingest")},
        "secret_files": dict(sorted(_secret_files(release, site))),
        "qdrant_key": prerequisites.QDRANT_KEY,
        "app_port": APP_PORT,
        "web_stop_s": ANSWER_GRACE_S + 10,
        "gateway_grace_s": ANSWER_GRACE_S + 15,
        "gateway_stop_s": ANSWER_GRACE_S + 25,
        "app_upstream": placement.endpoint(release, site, "web"),
        "upload_limit_mb": UPLOAD_LIMIT_MB,
        "elsewhere": bool(outside.intersection(here)),
        "asking_by_name": {n for n, urls in asked.items() if any(map(asks_by_name, urls))},
        **_networks(release, site, outside),
        **_names(site),
    }


def _networks(release: Release, site: Site, outside: set[str]) -> dict[str, Any]:
    """The networks of each service here, and the ports at which other hosts of the box ask."""
    published, reaching = placement.published(release, site), placement.reaching(release, site)
    networks = {name: ["inside"] for name in placement.services(release, site)}
    for name, its in networks.items():
        if name in published or name in reaching:
            its.append("peers")
        elif name == "gateway":
            # One of both: from a second network its answers would not find their way.
            its.append("outside")
        if name in outside:
            its.append("elsewhere")
    return {
        "networks_of": networks,
        "networks": {network for its in networks.values() for network in its},
        "published": {
            name: {
                "address": site.hosts[site.member].address,
                "port": port,
                "target": placement.OWN_PORTS[name],
            }
            for name, port in published.items()
        },
    }


def secrets_of(release: Release, site: Site, service: str) -> list[str]:
    """The secrets that a service of the application gets: ingest asks the embedding model alone."""
    of_app = [item.name for item in prerequisites.secrets(release) if "app" in item.readers]
    if service == "ingest":
        others = {
            prerequisites.key_of(name)
            for name, one in ENGINES.items()
            if service not in one.asked_by
        }
        return [name for name in of_app if name not in others]
    of_site = [prerequisites.SITE_ENGINE_KEY] if site.engine.api_key_file else []
    of_site += [prerequisites.SITE_ENGINE_AUTHORITY] if site.engine.ca_file else []
    return of_app + of_site


def _secret_files(release: Release, site: Site) -> Iterator[tuple[str, str]]:
    pairs = {("app", name) for name in secrets_of(release, site, "web")}
    pairs |= {
        (reader, item.name) for item in prerequisites.secrets(release) for reader in item.readers
    }
    here = {prerequisites.user_of(name) for name in placement.services(release, site)}
    for reader, name in pairs:
        if reader in here:
            yield f"{reader}.{name}", f"../../{prerequisites.path_of_secret(reader, name)}"


def _names(site: Site) -> dict[str, Any]:
    """The gateway's addresses as Caddy writes them, and who it is to those who name nobody."""
    addresses = site.container.addresses
    return {
        "default_name": next(iter(addresses), "127.0.0.1"),
        "loopback_names": [_address(name) for name in LOOPBACK_NAMES],
        "names": [_address(name) for name in site.container.names],
    }


def _address(name: str) -> str:
    return f"https://[{name}]:8443" if ":" in name else f"https://{name}:8443"


# -- engines ------------------------------------------------------------------------------------


def engine(release: Release, service: str, architecture: str) -> dict[str, Any]:
    """What the templates of one model service may use besides `common`."""
    served = release.serving[service]
    arguments = dict(served.arguments)
    shutdown_s = int(arguments.pop("shutdown-timeout", SHUTDOWN_S))
    values = {
        "service": service,
        "serving": served.model_dump(mode="json"),
        "key": prerequisites.key_of(service),
        "cache": cache(release, service, architecture),
        "cdi_devices": [f"nvidia.com/gpu={index}" for index in served.gpus],
        "without_peers": len(served.gpus) > 1 and _are_apart(release),
        "tensor_parallel": served.tensor_parallel,
        "chat_template": _chat_template(release, served),
        "arguments": dict(sorted(arguments.items())),
        "shutdown_timeout_s": shutdown_s,
        "stop_grace_s": (shutdown_s if served.engine.drains else 0) + 30,
        "ready_deadline_s": int(release.gate.ready_deadline_s),
        "question": _question(service, served),
        "own_port": placement.OWN_PORTS[service],
        "metrics_path": served.engine.metrics_path,
        "canary_timeout_s": CANARY_S,
        "stalled_s": max(STALLED_S, int(2 * release.gate.question_deadline_s)),
        "kind": served.engine,
        "weights_file": _weights_file(release, served),
    }
    return {**values, "command": served.engine.command(values)}


def _weights_file(release: Release, served: Serving) -> str:
    """The file that an engine is given which takes one: the first where weights are cut."""
    pin = next(model for model in release.models if model.name == served.model)
    suffix = served.engine.one_file
    found = [file.path for file in pin.files if suffix and file.path.endswith(suffix)]
    if suffix and not found:
        raise BadUsage(
            "weights-of-another-engine",
            f"the model {pin.name} has no {suffix}, which {served.kind.value} reads",
            hint="name one that has, or another kind of engine, then: ./aibox lock",
            fault=Fault.YOU,
        )
    return min(found, default="")


def _are_apart(release: Release) -> bool:
    """Whether the GPUs do not reach one another's memory."""
    return release.hardware is not None and release.hardware.peer_to_peer is PeerToPeer.OFF


def cache(release: Release, service: str, architecture: str) -> str:
    """The folder of what an engine compiles, of its own for each image, model and arguments."""
    served = release.serving[service]
    parts = [
        image_tag(release, service, architecture),
        model_digest(release, served),
        served.model_dump(mode="json", include={"gpus", "arguments"}),
    ]
    return f"{prerequisites.CACHES}/{service}-{digest.of_json(parts)[:TAG_DIGITS]}"


def model_digest(release: Release, served: Serving) -> str:
    """What names the weights of a model."""
    pin = next(model for model in release.models if model.name == served.model)
    return digest.of_json([[file.path, file.sha256] for file in pin.files])


def _chat_template(release: Release, served: Serving) -> str:
    pin = next(model for model in release.models if model.name == served.model)
    name = "chat_template.jinja"
    is_there = served.runner is Runner.GENERATE and name in {file.path for file in pin.files}
    return name if is_there else ""


def _question(service: str, served: Serving) -> tuple[str, dict[str, object]]:
    """Path and body of a small question that only a working engine answers."""
    if served.runner is Runner.GENERATE:
        return "/v1/completions", {"model": served.model, "prompt": "1", "max_tokens": 1}
    if service == "rerank":
        return "/score", {"model": served.model, "text_1": "1", "text_2": "1"}
    return "/v1/embeddings", {"model": served.model, "input": "1"}


# -- the application ----------------------------------------------------------------------------


def server(release: Release) -> dict[str, Any]:
    """[server] of rag.toml: behind the gateway, which knows the names.

    As many answers at once as the box's own engine works at together, and as many again wait.
    """
    chat = release.serving.get("chat")
    said = chat.arguments.get(chat.engine.together) if chat else None
    together = int(said or CONCURRENT_ANSWERS)
    return {
        "host": "0.0.0.0",  # noqa: S104 - of its own network, where only the gateway asks
        "port": APP_PORT,
        "behind_gateway": True,
        "max_concurrent_answers": together,
        "max_waiting_questions": together,
        "stop_grace_s": ANSWER_GRACE_S,
        "allowed_hosts": ["*"],
    }


def vectors(release: Release, site: Site) -> dict[str, Any] | None:
    """[vectors] of rag.toml; None leaves the index in a process of the application."""
    if "qdrant" not in release.services:
        return None
    return {
        "kind": "server",
        "url": f"http://{placement.endpoint(release, site, 'qdrant')}",
        "api_key_file": f"/run/secrets/{prerequisites.QDRANT_KEY}",
    }


def answering(release: Release, site: Site) -> dict[str, Any]:
    """[engine] of rag.toml: what the site names, else the box's own model, else none."""
    if site.engine.kind == "openai":
        said = site.engine.model_dump(mode="json")
        for field, name in (
            ("api_key_file", prerequisites.SITE_ENGINE_KEY),
            ("ca_file", prerequisites.SITE_ENGINE_AUTHORITY),
        ):
            if said.get(field):
                said[field] = f"/run/secrets/{name}"
        return said
    served = release.serving.get("chat")
    if served is None:
        return site.engine.model_dump(mode="json")
    return {
        "kind": "openai",
        "url": f"http://{placement.endpoint(release, site, 'chat')}/v1",
        "model": served.model,
        "api_key_file": f"/run/secrets/{prerequisites.key_of('chat')}",
        "in_box": True,
    }


def embedding_url(release: Release, site: Site) -> str | None:
    """Where the box itself serves the embedding model, if it does."""
    if "embedding" not in release.serving:
        return None
    return f"http://{placement.endpoint(release, site, 'embedding')}/v1"


def reranking(release: Release, site: Site) -> dict[str, Any] | None:
    """[rerank] of rag.toml; None leaves the passages in the order of the search."""
    if release.rerank is None or "rerank" not in release.serving:
        return None
    return {
        "url": f"http://{placement.endpoint(release, site, 'rerank')}/v1",
        "api_key_file": f"/run/secrets/{prerequisites.key_of('rerank')}",
        **release.rerank.model_dump(mode="json"),
    }


def small(release: Release, site: Site) -> dict[str, Any] | None:
    """[small] of rag.toml, who answers simple questions; None leaves all to [engine].

    It steps aside where the site names who answers: whoever did wants its answers.
    """
    served = release.serving.get("small")
    if served is None or site.engine.kind == "openai":
        return None
    return {
        "kind": "openai",
        "url": f"http://{placement.endpoint(release, site, 'small')}/v1",
        "model": served.model,
        "api_key_file": f"/run/secrets/{prerequisites.key_of('small')}",
        "timeout_s": SMALL_SILENCE_S,
        "in_box": True,
    }


def _endpoints(release: Release, site: Site) -> dict[str, list[str]]:
    """The services that ask endpoints outside of the box, which the site names, and their URLs."""
    asked: dict[str, list[str]] = {}
    if release.embedding is not None and not embedding_url(release, site) and site.embedding:
        url = _from_a_container("embedding.url", site.embedding.url)
        asked = {"web": [url], "ingest": [url]}
    if site.engine.kind == "openai":
        asked.setdefault("web", []).append(_from_a_container("engine.url", site.engine.url))
    return asked


def _from_a_container(key: str, url: str) -> str:
    """The URL; refused where it leads back into the container that asks."""
    if is_of_this_host(url):
        raise BadUsage(
            "endpoint-in-container",
            f"{key}: {url} is the container of the application itself, not this server",
            context="a service of this server must listen on an address that containers reach",
            hint="name it by that address: ./aibox install --engine-url http://ADDRESS:PORT/v1"
            " --engine-model NAME",
            fault=Fault.YOU,
        )
    return url


# -- what a service reads -----------------------------------------------------------------------


def reads(
    release: Release, service: str, files: Mapping[str, bytes], certificate: str
) -> list[str]:
    """What a service reads besides its own part of the Compose file, for the digest of it.

    `files` are the rendered ones; `certificate` is the digest of the site's own.
    """
    served = release.serving.get(service)
    if served is not None:
        names = (f"config/{service}.serve.yaml", f"config/{service}.ask.py")
        its = [name for name in names if name in files]
        return [model_digest(release, served), *_digests(files, its)]
    match service:
        case "gateway":
            return [certificate, *_digests(files, ("config/Caddyfile",))]
        case "qdrant":
            return _digests(files, ("config/qdrant.yaml",))
        case "web":
            roles = [_role(release, role) for role in (Role.APP, Role.PROMPTS)]
            return [*roles, *_digests(files, ("config/rag.toml",))]
        case _:
            return [_role(release, role) for role in (Role.APP, Role.DOCUMENTS)]


def _digests(files: Mapping[str, bytes], names: Sequence[str]) -> list[str]:
    return [digest.of_bytes(files[name]) for name in names]


def _role(release: Release, role: Role) -> str:
    return digest.of_json([[item.target, item.sha256] for item in release.of_role(role)])
