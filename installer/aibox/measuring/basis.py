"""What a measurement holds for: engine, model, hardware and the engine's arguments.

When any of them is another, the measurement says nothing any more. Prompts, documents and tuning
may change: memory and speed do not hang on them.
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
from aibox.serving import Serving

SERVICE = "chat"
"""The engine that is measured: the one that writes answers."""
FROZEN = "kv-cache-memory-bytes"


class Basis(Model):
    """Digests of the engine's image and of the model's files; each GPU, or the processor.

    `arguments` are the engine's, without what a calibration itself would freeze.
    """

    engine: str
    model: str
    hardware: tuple[str, ...]
    arguments: dict[str, Any]


def of_release(release: Release, hardware: Sequence[str]) -> Basis:
    """The basis of what a release serves on this hardware; raises `BadUsage` (`no-engine`)."""
    serving = serving_of(release)
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
    )


def serving_of(release: Release) -> Serving:
    """How the release serves the engine that is measured; raises `BadUsage` (`no-engine`)."""
    if SERVICE not in release.serving:
        raise BadUsage(
            "no-engine",
            f"the release of the profile {release.profile!r} brings no language model of its own, "
            "so there is no engine to measure",
            hint="see which profiles do: ./aibox profiles",
            fault=Fault.YOU,
        )
    served = release.serving[SERVICE]
    if served.kind is not KindName.VLLM:
        raise BadUsage(
            "engine-not-measured",
            f"the engine of this release is {served.kind.value}; only vllm is measured",
            hint="see how long its answers take with: ./aibox ask QUESTION --json",
            fault=Fault.YOU,
        )
    return served


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
