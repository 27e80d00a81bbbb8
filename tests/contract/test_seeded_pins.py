"""The catalogue in models.lock: every pin says what it is, where that was read, and only that."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from aibox import lock as locks
from aibox.bundle import licences
from aibox.bundle.manifest import Kind
from aibox.digest import is_digest
from aibox.lock import PIN_KINDS
from aibox.pins import FilePin, ImagePin, ModelPin, PackageSet, Pin, State

LOCK = locks.load(Path(__file__).parents[2] / "models.lock")
PINS = [pin for kind in PIN_KINDS for pin in getattr(LOCK, kind)]
COMPONENTS = {ModelPin: Kind.MODEL, ImagePin: Kind.IMAGE, FilePin: Kind.FILE}
PICKLES = (".bin", ".pt", ".pth", ".pkl", ".ckpt", ".joblib")
ADDRESS = re.compile(r"://|\b\d+(\.\d+){3}\b")
PLACEHOLDER = re.compile(r"(.)\1{7}")


def digests(pin: Pin) -> list[str]:
    match pin:
        case ModelPin():
            return [file.sha256 for file in pin.files if file.sha256 is not None]
        case ImagePin():
            return [pin.digest] if pin.digest is not None else []
        case FilePin():
            return [pin.sha256] if pin.sha256 is not None else []
        case PackageSet():
            return [package.sha256 for package in pin.packages]
    raise AssertionError(pin)


def names(pins: Iterable[Pin]) -> list[str]:
    """Of the pins that break a rule: a failure shows them all."""
    return [pin.name for pin in pins]


def test_digests_and_revisions_are_whole() -> None:
    found = {pin.name: digests(pin) for pin in PINS}
    wrong = {name: texts for name, texts in found.items() if not all(map(is_digest, texts))}
    assert wrong == {}
    revisions = [pin.revision for pin in LOCK.model]
    assert [text for text in revisions if not re.fullmatch("[0-9a-f]{40}", text)] == []
    everything = [*revisions, *(text for texts in found.values() for text in texts)]
    assert [text for text in everything if PLACEHOLDER.search(text)] == []


def test_every_pin_says_licence_owner_and_where_it_was_read() -> None:
    silent = (pin for pin in PINS if not (pin.licence and pin.owner and pin.source))
    assert names(silent) == []
    assert names(pin for pin in PINS if len(pin.source) > 250) == []
    told = {pin.name: f"{pin.source} {pin.owner} {pin.licence}" for pin in PINS}
    assert [name for name, text in told.items() if ADDRESS.search(text)] == []


def test_the_class_is_that_of_the_licence() -> None:
    # The class of a set of packages is the strictest of its packages and archives.
    judged = [pin for pin in PINS if not isinstance(pin, PackageSet)]
    wrong = (
        pin
        for pin in judged
        if pin.redistribution is not licences.classify(pin.licence, COMPONENTS[type(pin)])
    )
    assert names(wrong) == []


def test_names_are_readable_and_unique_within_their_kind() -> None:
    readable = re.compile(r"[a-z0-9]([a-z0-9._-]{0,62}[a-z0-9])?")
    assert names(pin for pin in PINS if not readable.fullmatch(pin.name)) == []
    counted = Counter((type(pin), pin.name) for pin in PINS)
    assert {key: count for key, count in counted.items() if count > 1} == {}


def test_no_model_is_of_pickles() -> None:
    paths = [file.path for pin in LOCK.model for file in pin.files]
    assert [path for path in paths if path.endswith(PICKLES)] == []


def test_a_resolved_model_has_all_an_engine_needs() -> None:
    resolved = [pin for pin in LOCK.model if pin.state is State.RESOLVED]
    assert resolved
    assert names(pin for pin in resolved if not is_servable(pin)) == []


def is_servable(pin: ModelPin) -> bool:
    """A single-file model, or configuration, tokenizer and every part of the weights."""
    found = {file.path for file in pin.files}
    if any(path.endswith(".gguf") for path in found):
        return True
    parts = [m for m in (re.search(r"-(\d{5})-of-(\d{5})\.", path) for path in found) if m]
    numbers = {int(part[1]) for part in parts}
    whole = not parts or (
        "model.safetensors.index.json" in found
        and numbers == set(range(min(numbers), int(parts[0][2]) + 1))
    )
    weights = any(path.endswith(".safetensors") for path in found)
    return whole and weights and {"config.json", "tokenizer_config.json"} <= found


def test_one_digest_for_each_tag() -> None:
    counted = Counter(pin.reference for pin in LOCK.image)
    assert [reference for reference, count in counted.items() if count > 1] == []
