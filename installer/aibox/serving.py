"""What a profile says of the language models it serves: one service each.

The section [serving.NAME] of a profile, where NAME is the service. Its arguments are the engine's
own (`engine_kinds`), frozen: they decide whether a model fits and how many can ask at once, so
they are locked and part of the release. What the box itself decides is not among them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any

from pydantic import AfterValidator, Field

from aibox.engine_kinds import KINDS, Kind, KindName
from aibox.schema import Model, Name

APP_IMAGE = "app"
ROLES = ("gateway", "web", "ingest", "qdrant")
"""The services of a container box that are no models."""
STAGES = "pipeline-parallel-size"
SHARE, FROZEN = "gpu-memory-utilization", "kv-cache-memory-bytes"
"""Of a GPU's memory: the share an engine may take, and the bytes that contexts surely get."""
QUEUE = "max-num-queued-reqs"
"""Of all requests that an engine has at once; over it, it answers 503. The application keeps to
what the engine works at together, so this is for whoever else asks."""
SHUTDOWN = "shutdown-timeout"
SHUTDOWN_BOUNDS_S = (90, 140)
"""How long an engine may go on with answers when it is told to stop: longer than the application
and the gateway wait for them, and shorter than systemd waits for all of it."""


def _known_argument(key: str) -> str:
    if not any(key in kind.arguments for kind in KINDS.values()):
        raise ValueError("is no argument a profile may set; engines' tuning flags are known here")
    return key


def _plain(value: object) -> object:
    if isinstance(value, Mapping):
        for inner in value.values():
            _plain(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            _plain(inner)
    elif not isinstance(value, bool | int | float | str):
        raise ValueError("must be text, a number, true or false, or a list or table of these")
    return value


Argument = Annotated[str, AfterValidator(_known_argument)]
Value = Annotated[Any, AfterValidator(_plain)]


class Runner(StrEnum):
    """What the engine does with a model: write text, or make vectors and scores."""

    GENERATE = "generate"
    POOLING = "pooling"


@dataclass(frozen=True, slots=True)
class Engine:
    """What is the same of a model service in every box.

    `port` is where it listens for other hosts of the box, `user` the number that its container
    runs as, `asked_by` the services of the application that get its key.
    """

    runner: Runner
    port: int
    user: int
    asked_by: tuple[str, ...]


ENGINES: Mapping[str, Engine] = {
    "chat": Engine(Runner.GENERATE, 8000, 70004, ("web",)),
    "small": Engine(Runner.GENERATE, 8003, 70007, ("web",)),
    "embedding": Engine(Runner.POOLING, 8001, 70005, ("web", "ingest")),
    "rerank": Engine(Runner.POOLING, 8002, 70006, ("web",)),
}
"""Services that can be models, in the order in which they start; the application asks them by
these names. `small` answers simple questions beside `chat`. Numbers are never given anew: folders
on boxes belong to them."""


class Serving(Model):
    """One model service. `image` and `model` name wishes of the profile, `kind` its engine.

    `gpus` are indices of the GPUs it gets, tensor parallel over them; none is the CPU, where
    `kv_cache_gib` is the memory for the contexts of running answers. `memory_mib` limits the
    container, `shared_memory_mib` is its /dev/shm.
    """

    kind: KindName = Field(KindName.VLLM, exclude_if=lambda value: value is KindName.VLLM)
    image: Name
    model: Name
    runner: Runner = Runner.GENERATE
    gpus: tuple[Annotated[int, Field(ge=0, le=63)], ...] = ()
    memory_mib: Annotated[int, Field(ge=256)]
    shared_memory_mib: Annotated[int, Field(ge=64)] = 1024
    kv_cache_gib: Annotated[int, Field(ge=1)] | None = None
    arguments: dict[Argument, Value] = Field(default_factory=dict)

    @property
    def engine(self) -> Kind:
        """What is known of its kind of engine."""
        return KINDS[self.kind]

    @property
    def tensor_parallel(self) -> int:
        """Over how many GPUs each layer is spread; 1 on the CPU."""
        return max(1, len(self.gpus) // int(self.arguments.get(STAGES, 1)))


def problems(
    services: Iterable[str],
    serving: Mapping[str, Serving],
    service_images: Mapping[str, str],
    *,
    images: Iterable[str],
    models: Iterable[str],
    gpus: int,
) -> Iterator[str]:
    """What of a container profile does not go together, in words; `gpus` is how many it has."""
    services, images, models = set(services), set(images), set(models)
    for name in sorted(services - {*ROLES, *serving}):
        yield f"services: {name!r} is none of {', '.join(ROLES)} and has no [serving.{name}]"
    for name in (role for role in ROLES if role not in services):
        yield f"services: {name} is missing, and the others need it"
    for name in sorted(set(service_images) - set(ROLES)):
        yield f"service_images.{name}: is none of {', '.join(ROLES)}"
    for name in sorted(services & set(ROLES)):
        if (image := image_of(name, service_images)) not in images:
            yield f"services: {name} runs the image {image!r}, which no [[image]] wishes for"
    for name, item in sorted(serving.items()):
        for problem in _problems(name, item, services, images, models, gpus):
            yield f"serving.{name}: {problem}"
    yield from _taken_twice(serving)


def _problems(
    name: str, item: Serving, services: set[str], images: set[str], models: set[str], gpus: int
) -> Iterator[str]:
    if name not in ENGINES:
        yield f"is none of {', '.join(ENGINES)}"
    elif item.runner is not ENGINES[name].runner:
        yield f"the runner of {name} is not {item.runner.value!r}"
    if name not in services:
        yield "is not among the services"
    if item.image not in images:
        yield f"the image {item.image!r} is not wished for in [[image]]"
    if item.model not in models:
        yield f"the model {item.model!r} is not wished for in [[model]]"
    if len(set(item.gpus)) != len(item.gpus):
        yield "gpus: named twice"
    if missing := [index for index in item.gpus if index >= gpus]:
        yield f"gpus: there is no {missing[0]}; the profile has {gpus}, counted from 0"
    yield from _unlike_its_kind(item)
    least, most = SHUTDOWN_BOUNDS_S
    shutdown = item.arguments.get(SHUTDOWN, least)
    if not isinstance(shutdown, int) or not least <= shutdown <= most:
        yield f"arguments.{SHUTDOWN}: must be seconds between {least} and {most}"
    stages = item.arguments.get(STAGES, 1)
    if not isinstance(stages, int) or stages < 1 or len(item.gpus) % stages:
        yield f"arguments.{STAGES}: must divide the number of gpus"
    if item.gpus and item.kv_cache_gib is not None:
        yield "kv_cache_gib is for the CPU; on GPUs set arguments.kv-cache-memory-bytes"


def _unlike_its_kind(item: Serving) -> Iterator[str]:
    kind = item.engine
    if kind.only_writes and item.runner is not Runner.GENERATE:
        yield f"kind {item.kind.value!r} only writes text here; leave this one to vllm"
    for key in sorted(set(item.arguments) - kind.arguments):
        yield f"arguments.{key}: is none of {item.kind.value}'s that a profile may set"
    together, most = item.arguments.get(kind.together), item.arguments.get(QUEUE)
    if isinstance(together, int) and isinstance(most, int) and most <= together:
        yield f"arguments.{QUEUE}: must be more than {kind.together}, or the box refuses itself"
    for key in kind.required:
        number = item.arguments.get(key)
        if isinstance(number, bool) or not isinstance(number, int) or number < 1:
            yield f"arguments.{key}: {item.kind.value} needs it, a whole number from 1"


def _taken_twice(serving: Mapping[str, Serving]) -> Iterator[str]:
    """Engines may share a GPU only when each says how much of it is his, and no more than is there.

    An engine refuses to start where less is free than its share, also when its contexts are frozen
    by `kv-cache-memory-bytes`. Who writes needs that too: it would else measure the start of a
    neighbour as its own, or stop where one lets go of memory meanwhile.
    """
    for index in sorted({index for item in serving.values() for index in item.gpus}):
        sharing = {name: one for name, one in sorted(serving.items()) if index in one.gpus}
        if len(sharing) > 1:
            yield from _shares(index, sharing)


def _shares(index: int, sharing: Mapping[str, Serving]) -> Iterator[str]:
    shares = {name: one.arguments.get(SHARE) for name, one in sharing.items()}
    for name, share in shares.items():
        if share is None:
            yield f"serving.{name}: shares GPU {index}; set arguments.{SHARE}"
        elif isinstance(share, bool) or not isinstance(share, int | float):
            yield f"serving.{name}: arguments.{SHARE}: must be a number"
        if sharing[name].runner is Runner.GENERATE and FROZEN not in sharing[name].arguments:
            yield f"serving.{name}: shares GPU {index}; set arguments.{FROZEN}"
    total = sum(share for share in shares.values() if isinstance(share, int | float))
    if total > 1:
        yield f"serving: the shares of GPU {index} add up to {total:.2f} of it"


def spelt_out(serving: Mapping[str, Serving]) -> dict[str, str]:
    """Every value by its path (`chat.arguments.max-model-len`), as JSON, for who compares."""
    return {
        f"{name}.{path}": json.dumps(value, ensure_ascii=False, sort_keys=True)
        for name, item in serving.items()
        for path, value in _paths(item.model_dump(mode="json", exclude_none=True))
    }


def _paths(values: Mapping[str, Any]) -> Iterator[tuple[str, object]]:
    for key, value in values.items():
        if key == "arguments":
            yield from ((f"{key}.{inner}", item) for inner, item in value.items())
        else:
            yield key, value


def image_of(service: str, service_images: Mapping[str, str]) -> str:
    """The image wish that a service which is no model runs: its own name, unless said else."""
    own = APP_IMAGE if service in {"web", "ingest"} else service
    return service_images.get(service, own)
