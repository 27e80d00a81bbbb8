"""What a measurement holds for: engine, model, hardware and the engine's arguments.

When any of them is another, the measurement says nothing any more, nor when an engine on the same
GPUs is given another amount of their memory. Prompts, documents and tuning may change: memory and
speed do not hang on them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from aibox import digest
from aibox.engine_kinds import KindName
from aibox.errors import BadUsage, Fault
from aibox.hardware import Machine
from aibox.release import Release
from aibox.schema import Model
from aibox.serving import ENGINES, FROZEN, Runner, Serving

CHAT = "chat"
"""The engine that is measured where none is named, and of which a gate asks the speed."""


class Basis(Model):
    """Digests of the engine's image and of the model's files; each GPU, or the processor.

    `arguments` are the engine's, without what a calibration itself would freeze. `beside` are the
    bytes that the release fixes for contexts of other engines on the same GPUs, by service; None
    where that is not known: measurements of before do not say it.
    """

    engine: str
    model: str
    hardware: tuple[str, ...]
    arguments: dict[str, Any]
    beside: dict[str, int] | None = None


def measurable(release: Release) -> tuple[str, ...]:
    """The services whose engine can be measured: those of kind vllm that write text."""
    return tuple(
        name
        for name in ENGINES
        if name in release.serving and not _unlike_what_is_measured(release.serving[name])
    )


def typed(command: str, service: str) -> str:
    """The command as it is typed for an engine."""
    return f"./aibox {command}" + ("" if service == CHAT else f" --service {service}")


def beside(release: Release, service: str) -> tuple[str, ...]:
    """The services whose engines have a GPU in common with that of this one, sorted."""
    mine = set(release.serving[service].gpus)
    others = sorted(set(release.serving) - {service})
    return tuple(name for name in others if mine.intersection(release.serving[name].gpus))


def of_release(release: Release, service: str, hardware: Sequence[str]) -> Basis:
    """The basis of what a release serves on this hardware; raises as `serving_of`."""
    serving = serving_of(release, service)
    image = next(pin for pin in release.images if pin.name == serving.image)
    model = next(pin for pin in release.models if pin.name == serving.model)
    files = [[file.path, file.sha256] for file in model.files]
    told = serving.model_dump(mode="json", include={"arguments", "gpus", "kv_cache_gib", "runner"})
    told["arguments"].pop(FROZEN, None)
    return Basis(
        engine=image.digest or "",
        model=digest.of_json(files),
        hardware=tuple(hardware),
        arguments=told,
        beside={
            name: fixed
            for name in beside(release, service)
            if isinstance(fixed := release.serving[name].arguments.get(FROZEN), int)
        },
    )


def serving_of(release: Release, service: str = CHAT) -> Serving:
    """How the release serves an engine that can be measured.

    Raises `BadUsage`: `no-engine` where it writes with none of its own, `engine-not-measured` for
    a service that cannot be measured, with the names of those that can.
    """
    if not any(one.runner is Runner.GENERATE for one in release.serving.values()):
        raise BadUsage(
            "no-engine",
            f"the release of the profile {release.profile!r} brings no language model of its own, "
            "so there is no engine to measure",
            hint="see which profiles do: ./aibox profiles",
            fault=Fault.YOU,
        )
    known = measurable(release)
    if service not in known:
        raise _not_measured(release, service, known)
    return release.serving[service]


def _unlike_what_is_measured(serving: Serving) -> str:
    """Why an engine cannot be measured; "" where it can."""
    if serving.kind is not KindName.VLLM:
        return f"is {serving.kind.value}; only vllm is measured"
    if serving.runner is not Runner.GENERATE:
        return "writes no text; only engines that do are measured"
    return ""


def _not_measured(release: Release, service: str, known: Sequence[str]) -> BadUsage:
    served = release.serving.get(service)
    reason = _unlike_what_is_measured(served) if served else "is none of this release"
    return BadUsage(
        "engine-not-measured",
        f"the engine {service!r} {reason}",
        context=f"can be measured: {', '.join(known) or 'none'}",
        hint=f"name one that can be measured: ./aibox bench --service {known[0]}"
        if known
        else "see how long its answers take with: ./aibox ask QUESTION --json",
        fault=Fault.YOU,
    )


def differences(was: Basis, now: Basis) -> tuple[str, ...]:
    """What is another than it was, in words; nothing while a measurement holds."""
    return tuple(_differences(was, now))


def _differences(was: Basis, now: Basis) -> Iterator[str]:
    if was.engine != now.engine:
        yield f"the engine is another image (sha256:{was.engine[:12]} -> {now.engine[:12]})"
    if was.model != now.model:
        yield "the model's files are others"
    if was.hardware != now.hardware:
        yield f"the hardware was {', '.join(was.hardware)} and is {', '.join(now.hardware)}"
    for key in sorted({*was.arguments, *now.arguments}):
        before, after = was.arguments.get(key), now.arguments.get(key)
        if before != after:
            yield f"{key} was {json.dumps(before)} and is {json.dumps(after)}"
    yield from _others_have(was.beside, now.beside)


def _others_have(was: dict[str, int] | None, now: dict[str, int] | None) -> Iterator[str]:
    if was is None or now is None:
        return
    for name in sorted({*was, *now}):
        before, after = was.get(name, "none"), now.get(name, "none")
        if before != after:
            yield f"{FROZEN} of {name} on the same GPUs was {before} and is {after}"


def hardware(machine: Machine, indices: Sequence[int], processors: int) -> tuple[str, ...]:
    """The GPUs with these indices as the driver reports them, or the processor without any."""
    if not indices:
        return (f"{machine.architecture}, {processors} processors, {machine.memory_mib} MiB",)
    return tuple(
        f"{machine.gpus[index].name or machine.gpus[index].pci_id}, "
        f"{machine.gpus[index].memory_mib or 'unknown'} MiB"
        if index < len(machine.gpus)
        else "absent"
        for index in indices
    )
