"""The images of a box against driver and cards: what no container runtime refuses any more.

| check | what people run into |
|---|---|
| image NAME | the driver is older than the image's CUDA (3, 36), "Error 804" on GeForce (2) |
| | "no kernel image is available": the card is newer or older than the image (4) |
| | an image that was built for other cards (38) |
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from aibox.checks import cuda, texts
from aibox.checks.evidence import Evidence, Image, Source, bad, doubtful, good
from aibox.checks.texts import Cards
from aibox.hardware import Gpu, version
from aibox.preflight import Finding

# What official builds of the engine are compiled for (its versions.json, CUDA 12.8 and newer).
OLDEST_CARD = (7, 5)
BLACKWELL = (10, 0)
CUDA_OF_BLACKWELL = (12, 8)
UPGRADE = "take a release whose image suits driver and cards: ./aibox upgrade"
DRIVER = "take the driver of the release: ./aibox install"
# text-embeddings-inference is built once for each generation; its tag begins with it.
_BUILDS = {"turing": (7, 5), "86": (8, 6), "89": (8, 9), "hopper": (9, 0)}
_TEI = re.compile(r"text-embeddings-inference:(?:(\w+)-)?[\d.]+$")


def examine(evidence: Evidence) -> Iterator[Finding]:
    """A finding for each image that needs CUDA; none where no driver is loaded yet."""
    if not evidence.machine.driver:
        return
    seen = texts.cards(evidence.text(Source.CARDS))
    for image in evidence.images:
        if image.requires_cuda:
            yield _cuda(evidence, image, seen)
        if found := _TEI.search(image.reference):
            yield from _build(evidence, image, found[1] or "")


def of_release(evidence: Evidence) -> Iterator[Finding]:
    """Images that want a newer driver than the one the release asks for: before it is installed."""
    if evidence.wanted is None:
        return
    least = evidence.wanted.driver_min
    for image in evidence.images:
        oldest = cuda.first_driver(cuda.wanted(image.requires_cuda))
        if version(least) < oldest:
            expected = f"a driver of {'.'.join(map(str, oldest))} or newer"
            found = f"{image.requires_cuda}, with a driver of {least} and newer"
            yield bad(f"image {image.name}", found, expected, fix=UPGRADE)


def _cuda(evidence: Evidence, image: Image, seen: Cards) -> Finding:
    check, needed = f"image {image.name}", cuda.wanted(image.requires_cuda)
    written = ".".join(map(str, needed)) or image.requires_cuda
    driver = evidence.machine.driver
    if unfit := _unfit(evidence.used, needed):
        expected = "an image compiled for this card"
        return bad(check, f"CUDA {written}, {unfit}", expected, fix=UPGRADE)
    if needed and version(driver) < cuda.first_driver(needed):
        oldest = ".".join(map(str, cuda.first_driver(needed)))
        return bad(check, _too_old(evidence, written), f"a driver of {oldest} or newer", fix=DRIVER)
    if not _allowed(evidence, image, seen):
        found = f"driver {driver} does not fulfil: {image.requires_cuda}"
        return bad(check, found, "what the image requires", fix=DRIVER)
    return good(check, f"CUDA {written}, driver {driver}", "a driver new enough")


def _unfit(gpus: tuple[Gpu, ...], needed: tuple[int, ...]) -> str:
    """Why code for this CUDA has no kernels for one of the cards; empty when it has."""
    for gpu in gpus:
        if gpu.capability is None:
            continue
        written = ".".join(map(str, gpu.capability))
        if gpu.capability < OLDEST_CARD:
            return f"and {gpu} is of capability {written}, older than 7.5"
        if gpu.capability >= BLACKWELL and needed and needed < CUDA_OF_BLACKWELL:
            return f"and {gpu} is of capability {written}: CUDA 12.8 is the first for it"
    return ""


def _too_old(evidence: Evidence, needed: str) -> str:
    found = f"CUDA {needed} on driver {evidence.machine.driver}"
    if any("GeForce" in gpu.name for gpu in evidence.used):
        found += "; compatibility libraries do not work on GeForce (Error 804)"
    return found


def _allowed(evidence: Evidence, image: Image, seen: Cards) -> bool:
    facts = {"driver": evidence.machine.driver, "cuda": seen.cuda}
    brands = {cuda.brand(card.get("Product Brand")) for card in seen.cards} or {""}
    return all(cuda.satisfied(image.requires_cuda, {**facts, "brand": brand}) for brand in brands)


def _build(evidence: Evidence, image: Image, build: str) -> Iterator[Finding]:
    if build.startswith("cpu"):
        return
    built = _BUILDS.get(build, (8, 0))
    others = [one for one in evidence.used if one.capability not in (None, built)]
    if others:
        written = ".".join(map(str, built))
        yield doubtful(
            f"image {image.name}",
            f"built for cards of capability {written}; {others[0]} is another",
            "the build for this card",
            fix=UPGRADE,
        )
