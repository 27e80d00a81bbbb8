"""The profile for servers without a GPU: what it wishes for is pinned, and it fits what it asks."""

from __future__ import annotations

import pytest
import yaml

import pin_examples
import stack_examples as stacks
from aibox import compose_values, content, lock, release
from aibox import profile as profiles
from aibox.profile import PackageRole
from aibox.site import Site

CONTENT = content.find()
LOCK = lock.load(CONTENT.lockfile)
PROFILE = profiles.load(CONTENT.profiles, "cpu")
MIB = 1 << 20
# Of Qwen3-4B: 36 layers with 8 heads of 128 for keys and as many for values, 2 bytes each.
CONTEXT_BYTES_PER_TOKEN = 36 * 2 * 8 * 128 * 2


def made() -> release.Release:
    """With made-up digests: nobody has looked up the images yet."""
    found = release.make(LOCK, PROFILE)
    images = tuple(
        pin.model_copy(update={"platforms": (pin_examples.platform(seed=pin.name),)})
        for pin in found.images
    )
    return found.model_copy(update={"images": images})


def test_models_and_images_from_elsewhere_are_pinned() -> None:
    models = {pin.name: (pin.repository, pin.revision) for pin in LOCK.model}
    assert all(models[one.name] == (one.repository, one.revision) for one in PROFILE.model)
    images = {pin.name: pin.reference for pin in LOCK.image}
    assert all(images[one.name] == one.reference for one in PROFILE.image)


def test_docker_comes_along_for_the_distribution_that_was_tried() -> None:
    (packages,) = PROFILE.packages
    assert packages.role is PackageRole.CONTAINER_RUNTIME
    assert (packages.target, {"docker.io", "docker-compose"} - {*packages.wanted}) == (
        "debian-13",
        set(),
    )


def test_the_services_fit_into_the_memory_that_is_asked_for() -> None:
    limits = compose_values.memory_mib(made(), Site())
    assert sum(limits.values()) <= PROFILE.requires.memory_mib_min
    chat = PROFILE.serving["chat"]
    (model,) = (pin for pin in LOCK.model if pin.name == chat.model)
    weights = sum(file.size or 0 for file in model.files)
    assert weights > 7e9
    assert weights / MIB + (chat.kv_cache_gib or 0) * 1024 < 0.75 * chat.memory_mib


def test_a_few_long_contexts_fit_into_the_cache() -> None:
    chat = PROFILE.serving["chat"]
    tokens = (chat.kv_cache_gib or 0) * 1024 * MIB // CONTEXT_BYTES_PER_TOKEN
    assert tokens == pytest.approx(29000, rel=0.01)
    assert tokens >= 3 * chat.arguments["max-model-len"]


def test_it_renders_without_a_device() -> None:
    files = stacks.rendered(made()).files
    services = yaml.safe_load(files["config/compose.yaml"])["services"]
    assert set(services) == set(PROFILE.services)
    assert not [name for name, one in services.items() if "deploy" in one or "devices" in one]
    assert services["chat"]["environment"]["VLLM_CPU_KVCACHE_SPACE"] == "4"
