"""Models by name or folder: their shape and weights, from the catalogue, the lock or files."""

from __future__ import annotations

import difflib
import json
import os
from dataclasses import dataclass, replace
from pathlib import Path

from aibox.errors import BadUsage, Fault
from aibox.fit import fields, files, loadable, reading, weights
from aibox.fit.answer import Subject
from aibox.fit.catalogue import ArchitectureEntry, Catalogue, ModelEntry
from aibox.fit.shapes import Shape
from aibox.fit.weights import Weights
from aibox.lock import ModelsLock
from aibox.pins import ModelPin

CONFIG = "config.json"
_LONGEST = 200
"""Letters of a name that are looked at."""
_ALIKE = 1.5
"""How much more or less than counted real weights have at most: some keep their words twice."""


@dataclass(frozen=True, slots=True)
class Sources:
    """Where models and GPUs are looked up; `release` is that of the engine ("" any)."""

    catalogue: Catalogue
    lock: ModelsLock | None = None
    release: str = ""


@dataclass(frozen=True, slots=True)
class Known:
    """A model that was found: what is computed with, and what the catalogue says of it."""

    subject: Subject
    entry: ModelEntry | None
    architecture: ArchitectureEntry


def known(sources: Sources, name: str, draft: str = "") -> Known:
    """The model of this name, repository or folder; raises `BadUsage` (`fit-model-…`)."""
    found = _of_folder(sources, Path(name)) if _is_folder(name) else _of_name(sources, name)
    if not draft:
        return found
    beside = known(sources, draft).subject
    subject = replace(found.subject, draft=beside.shape, draft_weights=beside.weights)
    return replace(found, subject=subject)


def _is_folder(name: str) -> bool:
    return _is_there(name) and (Path(name) / CONFIG).is_file()


def _is_there(name: str) -> bool:
    """Whether a folder has this name, and may be looked into."""
    try:
        return bool(name) and Path(name).is_dir() and os.access(name, os.R_OK | os.X_OK)
    except (OSError, ValueError):  # a name that no folder can have
        return False


def _of_folder(sources: Sources, folder: Path) -> Known:
    read = fields.read(folder / CONFIG)
    architecture = sources.catalogue.architecture(reading.architecture_of(read))
    _refuse_what_cannot_load(sources, folder.name, architecture)
    shape = reading.shape_of(read, architecture.family)
    found = files.of_folder(folder, shape)
    odd = _odd(folder, shape, found) if found is not None else ()
    found = found or weights.counted(shape)
    if found is None:
        raise _weights_unknown(str(folder), "the folder has no safetensors files")
    return Known(Subject(folder.name, shape, found, notes=odd), None, architecture)


def _odd(folder: Path, shape: Shape, found: Weights) -> tuple[str, ...]:
    """What is odd of weights beside a config.json; raises `BadUsage` where too few are there."""
    share = weights.share_of_counted(shape, found)
    if 1 / _ALIKE < share < _ALIKE:
        return ()
    there = f"{found.total / 1e9:,.1f} GB of weights ({found.source})"
    told = f"{there} are {share:.2g} times what its config.json describes"
    if share > 1:
        return (f"{told}: see whether they belong together; the weights are believed",)
    raise BadUsage(
        "model-weights-contradictory",
        f"weights and config.json in {folder} do not belong together: {told}",
        hint="download both from one revision of the model, then: "
        "./aibox fit --model FOLDER --gpu GPU",
        fault=Fault.YOU,
    )


def _of_name(sources: Sources, name: str) -> Known:
    entry = sources.catalogue.model(name)
    if entry is None:
        raise _unknown(sources, name)
    architecture = sources.catalogue.architecture(entry.architecture)
    _refuse_what_cannot_load(sources, entry.name, architecture, entry)
    shape = shape_of(sources.catalogue, entry)
    found = _pinned(sources.lock, entry) or _catalogued(entry) or weights.counted(shape)
    if found is None:
        raise _weights_unknown(entry.name, "neither the lock nor the catalogue has their size")
    return Known(Subject(entry.name, shape, found), entry, architecture)


def shape_of(catalogue: Catalogue, entry: ModelEntry) -> Shape:
    """The shape of a model of the catalogue; raises `BadUsage` (`fit-config-unknown`)."""
    config = catalogue.config(entry)
    if not config:
        raise BadUsage(
            "fit-config-unknown",
            f"nobody has read the config.json of {entry.repository or entry.name}, so what it "
            "needs is unknown",
            hint="download that file into a folder, then: ./aibox fit --model FOLDER --gpu GPU",
            fault=Fault.US,
        )
    config = {"architectures": [entry.architecture], **config}
    read = fields.parse(json.dumps(config).encode(), f"the catalogue's {entry.name}")
    return reading.shape_of(read, catalogue.architecture(entry.architecture).family)


def _pinned(lock: ModelsLock | None, entry: ModelEntry) -> Weights | None:
    """By the sizes in the lock, where it has that of every file of weights."""
    for pin in lock.model if lock else ():
        if pin.repository == entry.repository and (total := _size(pin)):
            return Weights(total, "models.lock")
    return None


def _size(pin: ModelPin) -> int:
    files = [file for file in pin.files if file.path.endswith(".safetensors")]
    return 0 if any(file.size is None for file in files) else sum(file.size or 0 for file in files)


def _catalogued(entry: ModelEntry) -> Weights | None:
    fact = entry.weights_bytes
    return Weights(fact.value, f"the catalogue: {fact.source}") if fact else None


def _refuse_what_cannot_load(
    sources: Sources, name: str, one: ArchitectureEntry, entry: ModelEntry | None = None
) -> None:
    own = entry.instead if entry is not None else ""
    for told in loadable.reasons(sources.release, one, entry):
        raise _refused(name, told, own or one.instead)


def _refused(name: str, told: str, instead: str) -> BadUsage:
    return BadUsage(
        "fit-not-loadable",
        f"{name} cannot be served: {told}",
        hint=f"{instead or 'take another model'}; see what can be served: ./aibox fit --list",
        fault=Fault.UPSTREAM,
    )


def _unknown(sources: Sources, name: str) -> BadUsage:
    names, short = [entry.name for entry in sources.catalogue.models], name[:_LONGEST]
    close = difflib.get_close_matches(short.lower(), names, n=3, cutoff=0.5)
    told = f"; did you mean {' or '.join(close)}?" if close else ""
    if short.lower().endswith(".gguf") or (_is_there(name) and any(Path(name).glob("*.gguf"))):
        told = "; files of GGUF are not for this engine, but for llama.cpp and Ollama"
    return BadUsage(
        "fit-model-unknown",
        f"{short!r} is neither a model of the catalogue nor a folder with a config.json that can "
        f"be read{told}",
        hint="see those that are known: ./aibox fit --list",
        fault=Fault.YOU,
    )


def _weights_unknown(name: str, told: str) -> BadUsage:
    return BadUsage(
        "fit-weights-unknown",
        f"how large the weights of {name} are is unknown: {told}, and models of its kind are "
        "not counted here",
        hint="put config.json and model.safetensors.index.json in a folder, then: "
        "./aibox fit --model FOLDER --gpu GPU",
        fault=Fault.US,
    )
