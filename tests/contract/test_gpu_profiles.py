"""Profiles for GPUs against what the cards are: their PCI ids, their memory, what they compute.

Names of PCI ids are those of the public list of PCI ids (tests/assets/nvidia_chips.txt says
where from). Compute capabilities are NVIDIA's (developer.nvidia.com/cuda-gpus), memory is what
drivers were seen to report; both as collected for this project, none measured by it.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

import pin_examples
import stack_examples as stacks
from aibox import content, lock, release
from aibox import profile as profiles
from aibox.hardware import Fabric, Hardware, Modules, PeerToPeer, Quantisation, version
from aibox.pins import ModelPin
from aibox.profile import Profile, Runtime
from aibox.serving import Serving

CONTENT = content.find()
LOCK = lock.load(CONTENT.lockfile)
CHIPS = {
    line[:4]: line[5:]
    for line in (Path(__file__).parents[1] / "assets/nvidia_chips.txt").read_text().splitlines()
    if not line.startswith("#")
}
# What a profile's name says, and what the list of PCI ids must say of every id in it.
CARDS = {
    "a100": ("A100", "80GB"),
    "h100": ("H100",),
    "h200": ("H200",),
    "l40s": ("L40S",),
    "rtx4090": ("GeForce RTX 4090",),
    "a6000": ("RTX A6000",),
    "rtxpro6000": ("RTX PRO 6000 Blackwell",),
}
# Chip: compute capability.
CAPABILITY = {
    "GA100": (8, 0),
    "GA102": (8, 6),
    "AD102": (8, 9),
    "GH100": (9, 0),
    "GB202": (12, 0),
}
# The least a driver was seen to report, MiB; the A6000's with ECC is derived (a sixteenth less).
REPORTED = {
    "a100": 81920,
    "h100": 81559,
    "h200": 143771,
    "l40s": 46068,
    "rtx4090": 24564,
    "a6000": 49140 * 15 // 16,
    "rtxpro6000": 97887,
}
NATIVE_FROM = {Quantisation.FP8: (8, 9), Quantisation.NVFP4: (10, 0), Quantisation.MXFP4: (8, 0)}
# `compressed-tensors` may hold FP8; only cards that have it may load it.
NATIVE_FROM |= {Quantisation.COMPRESSED_TENSORS: (8, 9)}
# What the makers' names of repositories end in, and what the engine calls it.
FORMATS = {
    "awq": Quantisation.AWQ,
    "fp8-dynamic": Quantisation.COMPRESSED_TENSORS,
    "fp8": Quantisation.FP8,
}
LOADED = {name: profiles.load(CONTENT.profiles, name) for name in profiles.names(CONTENT.profiles)}
WITH_GPUS = {name: one for name, one in LOADED.items() if one.hardware is not None}
GIB = 1 << 30


def wanted(profile: Profile) -> Hardware:
    assert profile.hardware is not None
    return profile.hardware


def card(name: str) -> str:
    return name.rpartition("x")[0]


def capabilities(needed: Hardware) -> list[tuple[int, int]]:
    return [CAPABILITY[CHIPS[one[5:]].split()[0]] for one in needed.gpus]


def format_of(model: str) -> Quantisation:
    endings = (kind for ending, kind in FORMATS.items() if model.endswith(f"-{ending}"))
    return next(endings, Quantisation.NONE)


def test_there_is_a_profile_for_each_of_the_machines() -> None:
    assert set(WITH_GPUS) == {
        *("a100x1", "a100x2", "h100x2", "h100x8", "h200x1", "l40sx1", "l40sx2"),
        *("rtx4090x1", "rtx4090x2", "a6000x1", "rtxpro6000x1"),
    }


@pytest.mark.parametrize("name", WITH_GPUS)
def test_the_pci_ids_are_those_of_the_named_card(name: str) -> None:
    for one in wanted(WITH_GPUS[name]).gpus:
        told = CHIPS[one.removeprefix("10de:")]
        # The list calls the H100 NVL by its first name.
        assert all(word in told.replace("H100L 94GB", "H100 NVL") for word in CARDS[card(name)])


@pytest.mark.parametrize("name", WITH_GPUS)
def test_the_count_is_that_of_the_name(name: str) -> None:
    assert wanted(WITH_GPUS[name]).count == int(name.rpartition("x")[2])


@pytest.mark.parametrize("name", WITH_GPUS)
def test_every_such_card_has_the_memory_that_is_asked_for_and_a_smaller_one_has_not(
    name: str,
) -> None:
    asked, reported = wanted(WITH_GPUS[name]).memory_mib_min, REPORTED[card(name)]
    assert 0.95 * reported < asked <= reported


@pytest.mark.parametrize("name", WITH_GPUS)
def test_only_formats_that_the_card_computes_in_are_allowed(name: str) -> None:
    needed = wanted(WITH_GPUS[name])
    for one in needed.quantisations:
        assert min(capabilities(needed)) >= NATIVE_FROM.get(one, (0, 0)), one


@pytest.mark.parametrize("name", WITH_GPUS)
def test_what_is_served_is_of_an_allowed_format(name: str) -> None:
    profile = WITH_GPUS[name]
    served = {format_of(one.model) for one in profile.serving.values()}
    assert served <= set(wanted(profile).quantisations)


@pytest.mark.parametrize("name", WITH_GPUS)
def test_drivers_are_of_the_branch_of_cuda_13_and_modules_open(name: str) -> None:
    needed = wanted(WITH_GPUS[name])
    # The engine's image is of CUDA 13.0; its toolkit came with this driver.
    assert version(needed.driver_min) >= (580, 65, 6)
    # Blackwell has no others, and from Turing on they are what NVIDIA recommends.
    assert needed.modules is Modules.OPEN


@pytest.mark.parametrize("name", WITH_GPUS)
def test_every_gpu_serves_and_only_those_that_are_there(name: str) -> None:
    profile = WITH_GPUS[name]
    used = {index for one in profile.serving.values() for index in one.gpus}
    assert used == set(range(wanted(profile).count))


@pytest.mark.parametrize("name", WITH_GPUS)
def test_weights_leave_room_for_contexts(name: str) -> None:
    profile = WITH_GPUS[name]
    needed = wanted(profile)
    for one in profile.serving.values():
        room = one.arguments["gpu-memory-utilization"] * needed.memory_mib_min * len(one.gpus)
        weights = weights_bytes(one)
        assert weights < 0.9 * room * (1 << 20), f"{weights / GIB:.1f} GiB"


# Bytes of what the lock has no sizes of, as its makers tell or as computed (parameters x bits).
ABOUT = {
    "bge-m3": 2.3e9,
    "qwen3-1.7b": 4.1e9,  # its output layer lies in the files beside the input layer that it is
    "qwen3-32b-awq": 20e9,
    "qwen3-32b-fp8": 33e9,
    "qwen2.5-72b-instruct-awq": 42e9,
    "llama-3.3-70b-instruct-fp8-dynamic": 73e9,
    "qwen3-235b-a22b-instruct-2507-fp8": 237e9,
}


def weights_bytes(serving: Serving) -> float:
    (pin,) = (one for one in LOCK.model if one.name == serving.model)
    assert isinstance(pin, ModelPin)
    known = sum(one.size or 0 for one in pin.files if one.path.endswith(".safetensors"))
    return known or ABOUT[serving.model]


@pytest.mark.parametrize("name", WITH_GPUS)
def test_shared_memory_is_enough_for_every_gpu(name: str) -> None:
    assert all(
        one.shared_memory_mib >= 1024 * len(one.gpus) for one in WITH_GPUS[name].serving.values()
    )


def test_geforce_profiles_warn_of_the_licence_and_no_other() -> None:
    warned = {name for name, one in WITH_GPUS.items() if wanted(one).warnings}
    assert warned == {"rtx4090x1", "rtx4090x2"}
    assert all(
        "licence of GeForce drivers" in wanted(WITH_GPUS[name]).warnings[0] for name in warned
    )


def test_only_machines_with_switches_have_a_fabric() -> None:
    fabrics = {name for name, one in WITH_GPUS.items() if wanted(one).fabric is not Fabric.NONE}
    assert fabrics == {"h100x8"}


@pytest.mark.parametrize("name", WITH_GPUS)
def test_models_and_images_from_elsewhere_are_pinned(name: str) -> None:
    profile = WITH_GPUS[name]
    assert profile.runtime is Runtime.CONTAINER
    models = {pin.name: (pin.repository, pin.revision) for pin in LOCK.model}
    for wish in profile.model:
        assert models[wish.name] == (wish.repository, wish.revision)
    images = {pin.name: pin.reference for pin in LOCK.image}
    for image in profile.image:
        # The application's image is made here, not fetched.
        assert image.name == "app" or images[image.name] == image.reference


@pytest.mark.parametrize("name", WITH_GPUS)
def test_what_is_rendered_gives_every_gpu_to_the_engine_and_each_is_used(name: str) -> None:
    """With made-up digests: nobody has looked up the images yet."""
    profile = WITH_GPUS[name]
    made = release.make(LOCK, profile)
    images = tuple(
        pin.model_copy(update={"platforms": (pin_examples.platform(seed=pin.name),)})
        for pin in made.images
    )
    files = stacks.rendered(made.model_copy(update={"images": images})).files
    chat = yaml.safe_load(files["config/compose.yaml"])["services"]["chat"]
    (devices,) = chat["deploy"]["resources"]["reservations"]["devices"]
    count = wanted(profile).count
    assert devices["driver"] == "cdi"
    assert devices["device_ids"] == [f"nvidia.com/gpu={index}" for index in range(count)]
    apart = count > 1 and wanted(profile).peer_to_peer is PeerToPeer.OFF
    assert ("NCCL_P2P_DISABLE" in chat["environment"]) is apart
    served = yaml.safe_load(files["config/chat.serve.yaml"])
    assert served["tensor-parallel-size"] * served.get("pipeline-parallel-size", 1) == count
    assert served["max-model-len"] == profile.serving["chat"].arguments["max-model-len"]
