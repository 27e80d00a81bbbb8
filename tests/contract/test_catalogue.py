"""The catalogue against the lock, the profiles, the list of PCI ids and its own sources."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from aibox import content, lock
from aibox import profile as profiles
from aibox.errors import BadUsage
from aibox.fit import cards, catalogue, holders, models, question
from aibox.fit.catalogue import GpuEntry, ModelEntry, Use
from aibox.fit.models import Sources
from aibox.fit.question import Adjustment

REPOSITORY = Path(__file__).parents[2]
CONTENT = content.find()
CATALOGUE = catalogue.load(CONTENT.catalogue)
LOCK = lock.load(CONTENT.lockfile)
SOURCES = Sources(CATALOGUE, LOCK, holders.pinned_release(CONTENT.profiles))
CHIPS = {
    line[:4]: line[5:]
    for line in (REPOSITORY / "tests/assets/nvidia_chips.txt").read_text().splitlines()
    if not line.startswith("#")
}
PROFILES = {
    name: profiles.load(CONTENT.profiles, name) for name in profiles.names(CONTENT.profiles)
}
SERVING = sorted(name for name, one in PROFILES.items() if one.serving)
KNOWN_KEYS = set(
    re.findall(r"^\| ([\w.-]+) \|", (REPOSITORY / "docs/catalogue-sources.md").read_text(), re.M)
)


def computable(entry: ModelEntry) -> bool:
    try:
        models.known(SOURCES, entry.name)
    except BadUsage:
        return False
    return True


@pytest.mark.parametrize(
    "path", sorted(CONTENT.catalogue.rglob("*.toml")), ids=lambda path: path.name
)
def test_no_address_stands_in_the_catalogue(path: Path) -> None:
    assert "://" not in path.read_text(encoding="utf-8")


def test_every_source_is_explained() -> None:
    facts = [
        fact
        for gpu in CATALOGUE.gpus
        for fact in (gpu.memory_mib, gpu.bandwidth_gbs, gpu.power_w)
        if fact
    ]
    facts += [model.weights_bytes for model in CATALOGUE.models if model.weights_bytes]
    told = {fact.source for fact in facts} | {gpu.source for gpu in CATALOGUE.gpus}
    told |= {one.source for one in CATALOGUE.architectures}
    told |= {model.config_source for model in CATALOGUE.models if model.config_source}
    assert told - {catalogue.UNVERIFIED} <= KNOWN_KEYS


@pytest.mark.parametrize("gpu", CATALOGUE.gpus, ids=lambda gpu: gpu.name)
def test_pci_ids_are_those_of_the_public_list(gpu: GpuEntry) -> None:
    words = set(re.findall(r"\d{4}|A100|V100|H100|H200|B200|L40S|L4\b|T4|Ada|PRO", gpu.title))
    for one in gpu.pci:
        told = CHIPS.get(one.removeprefix("10de:"))
        # The list of the test assets has only cards of profiles; of others nothing is compared.
        assert told is None or any(word in told for word in words), told


def test_names_are_unique_and_every_config_names_a_class() -> None:
    for names in (
        [one.name for one in CATALOGUE.models],
        [one.name for one in CATALOGUE.gpus],
        [one.name for one in CATALOGUE.architectures],
        [pci for one in CATALOGUE.gpus for pci in one.pci],
    ):
        assert len(names) == len(set(names))
    for model in CATALOGUE.models:
        CATALOGUE.architecture(model.architecture)


@pytest.mark.parametrize("model", CATALOGUE.models, ids=lambda model: model.name)
def test_licence_and_redistribution_are_those_of_the_lock(model: ModelEntry) -> None:
    pin = next((pin for pin in LOCK.model if pin.repository == model.repository), None)
    if pin is not None:
        assert (model.licence, model.redistribution) == (pin.licence, pin.redistribution)


@pytest.mark.parametrize("model", CATALOGUE.models, ids=lambda model: model.name)
def test_a_model_is_computed_or_refused_with_a_reason_never_more(model: ModelEntry) -> None:
    try:
        shape = models.known(SOURCES, model.name).subject.shape
    except BadUsage as refused:
        assert refused.reference in {
            "fit-config-unknown",
            "fit-not-loadable",
            "fit-weights-unknown",
        }
    else:
        assert CATALOGUE.config_source(model)
        assert shape.longest >= 512


def test_all_five_national_teams_and_the_other_koreans_are_there() -> None:
    teams = {model.team for model in CATALOGUE.models if model.team}
    assert teams == {"SK Telecom", "NAVER Cloud", "LG AI Research", "NC AI", "Upstage"}
    series = {model.series for model in CATALOGUE.models}
    assert {"midm", "kanana", "exaone-4", "k-exaone", "a.x", "varco", "solar"} <= series


def test_embedders_and_rerankers_good_at_korean_are_computed() -> None:
    named = {model.name for model in CATALOGUE.models if model.use is not Use.CHAT}
    wanted = {"bge-m3", "kure-v1", "qwen3-embedding-0.6b", "bge-reranker-v2-m3"}
    assert wanted <= named
    assert all(computable(model) for model in CATALOGUE.models if model.use is not Use.CHAT)


@pytest.mark.parametrize("name", SERVING)
def test_every_profile_fits_as_it_stands(name: str) -> None:
    for service, found in question.of_profile(SOURCES, PROFILES[name], Adjustment()).items():
        assert found.fits, f"{service}: {found.obstacles or found.low}"


@pytest.mark.parametrize("name", SERVING)
def test_a_profile_names_gpus_that_report_what_it_accepts(name: str) -> None:
    wanted = PROFILES[name].hardware
    if wanted is None:
        return
    for gpu in CATALOGUE.gpus:
        if set(gpu.pci) & set(wanted.gpus) and gpu.memory_mib:
            assert gpu.memory_mib.value >= wanted.memory_mib_min


def test_the_whole_catalogue_on_every_gpu_takes_less_than_two_seconds(
    figure: Callable[[str], None],
) -> None:
    models = [model.name for model in CATALOGUE.models if computable(model)]
    gpus = [
        cards.cards(CATALOGUE, [gpu.name], 1, None if gpu.memory_mib else 80_000)
        for gpu in CATALOGUE.gpus
    ]
    started = time.process_time()
    answers = [question.of_model(SOURCES, name, on, Adjustment()) for name in models for on in gpus]
    seconds = time.process_time() - started
    figure(f"fit: {len(models)} models x {len(gpus)} GPUs in {seconds:.2f} s")
    assert sum(found.fits for found in answers) > len(answers) // 5
    assert seconds < 2
