"""A supplier of small bundles, and a box that they come to."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import small_bundle
from aibox import digest
from aibox.box import environment, host
from aibox.box.filesystem import Filesystem
from aibox.plan import environment_id
from small_bundle import Supplier
from small_site import SmallSite


@pytest.fixture(scope="session")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of signing keys that nobody changes."""
    folder = tmp_path_factory.mktemp("signing") / "keys"
    small_bundle.supplier(folder.parent, folder)
    return folder


@pytest.fixture
def supplier(place: Path, keys: Path) -> Supplier:
    """Whoever makes bundles; the keys are a copy, to rotate and revoke with."""
    return Supplier(place, Path(shutil.copytree(keys, place / "keys")))


@pytest.fixture(scope="session")
def built_environments(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The environment of every small release, built once: it takes a second."""
    folder = tmp_path_factory.mktemp("environments")
    demo = small_bundle.wheel("demo")
    path = folder / demo.filename
    path.write_bytes(demo.data)
    name = environment_id([digest.of_bytes(demo.data)], host.python_tag())
    environment.ensure(folder, name, [path], filesystem=Filesystem(), on_event=print)
    return folder / "environments"


@pytest.fixture
def site(place: Path, built_environments: Path) -> SmallSite:
    """A machine without a box."""
    return SmallSite(place / "box", built_environments)
