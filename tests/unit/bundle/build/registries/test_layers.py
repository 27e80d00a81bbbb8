"""Layers on their way into the cache."""

from __future__ import annotations

from typing import Any

import pytest

from aibox import objects
from aibox.bundle.build import registry
from aibox.bundle.build.cache import BlobCache
from aibox.bundle.images.check import check
from aibox.errors import VerificationRefused
from aibox.progress import Progress
from image_maker import make_image, sha256, tar
from registry_double import registry_double
from registry_wishes import AMD, NOISE, WEB, quiet, resolve, wish


def test_a_dropped_layer_goes_on_where_it_stopped(cache: BlobCache) -> None:
    with registry_double(storage=True) as double:
        double.hold(AMD, "1")
        pin = resolve(double)
        double.asked.clear()
        double.drops = [100_000]
        registry.fetch(pin, ("x86_64",), cache, quiet, connections=1, client=WEB)
        ranges = [
            one.headers["range"]
            for one in double.asked_for("storage", "")
            if "range" in one.headers
        ]
    assert len(ranges) == 1
    layer = AMD.layers[0]
    found = cache.find(sha256(layer), len(layer))
    assert found is not None
    assert found.read_bytes() == layer


def test_a_layer_with_other_bytes_is_refused(cache: BlobCache) -> None:
    with registry_double() as double:
        double.hold(AMD, "1")
        pin = resolve(double)
        layer = AMD.layers[0]
        double.wrong[sha256(layer)] = layer[:-1] + b"x"
        with pytest.raises(VerificationRefused):
            registry.fetch(pin, ("x86_64",), cache, quiet, client=WEB)
        assert cache.find(sha256(layer), len(layer)) is None
        double.wrong.clear()
        registry.fetch(pin, ("x86_64",), cache, quiet, client=WEB)
    assert cache.find(sha256(layer), len(layer)) is not None


def test_a_shared_layer_comes_once(cache: BlobCache) -> None:
    base = tar({"base": NOISE})
    one, two = (make_image([base, tar({"app": name})]) for name in (b"one", b"two"))
    assert one.layers[0] == two.layers[0]
    with registry_double() as double:
        double.hold(one, "1")
        double.hold(two, "2")
        for tag in ("1", "2"):
            registry.fetch(
                resolve(double, wish=wish(double, tag)), ("x86_64",), cache, quiet, client=WEB
            )
        assert len(double.asked_for("registry", f"blobs/sha256:{sha256(one.layers[0])}")) == 1


def test_what_is_in_the_cache_needs_no_registry(cache: BlobCache) -> None:
    with registry_double() as double:
        double.hold(AMD, "1")
        pin = resolve(double)
        registry.fetch(pin, ("x86_64",), cache, quiet, client=WEB)
    registry.fetch(pin, ("x86_64",), cache, quiet, client=WEB)


def test_what_was_fetched_lies_as_an_image_and_is_sound(cache: BlobCache) -> None:
    with registry_double() as double:
        double.hold(AMD, "1")
        pin = resolve(double)
        registry.fetch(pin, ("x86_64",), cache, quiet, client=WEB)
    cache.put(objects.IMAGE_VERSION)
    platform = objects.platform(pin, "x86_64")
    for found in objects.image_files(platform).values():
        assert cache.find(found.sha256, found.size) is not None

    def open_blob(wanted: Any) -> Any:
        path = cache.find(wanted.sha256, wanted.size)
        assert path is not None
        return path.open("rb")

    assert check(platform, open_blob).problems == ()


def test_progress_of_layers_tells_bytes(cache: BlobCache) -> None:
    told: list[Progress] = []
    with registry_double() as double:
        double.hold(AMD, "1")
        registry.fetch(resolve(double), ("x86_64",), cache, told.append, client=WEB)
    assert any("MiB/s" in one.message for one in told)
