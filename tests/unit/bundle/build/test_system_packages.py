"""One way in for both formats: who is asked, by which name of the architecture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from aibox.bundle.build import archive_files, debian, rpm, system_packages
from aibox.bundle.build.cache import BlobCache
from aibox.bundle.packages import python_folder
from aibox.bundle.packages.mirrors import Mirrors
from aibox.pins import Package, PackageFormat
from aibox.profile import PackagesWish
from package_archives import Said, a_set

Calls = list[tuple[str, Any, dict[str, Any]]]


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Calls:
    """Doubles of both solvers that note what they were asked."""
    made: Calls = []
    for module in (debian, rpm):

        def note(*given: Any, _who: str = module.__name__, **options: Any) -> None:
            made.append((_who.rpartition(".")[2], given[1], options))

        monkeypatch.setattr(module, "resolve", note)
    return made


def wish(target: str) -> PackagesWish:
    form = PackageFormat.DEB if target.startswith("debian") else PackageFormat.RPM
    return PackagesWish(name="x", format=form, target=target, wanted=("x",))


def test_each_target_is_asked_by_its_own_name_of_the_architecture(calls: Calls) -> None:
    system_packages.resolve(wish("debian-13"), "x86_64", Mirrors(), Said())
    system_packages.resolve(wish("rocky-9"), "x86_64", Mirrors(), Said())
    assert calls == [("debian", "amd64", {"base": True}), ("rpm", "x86_64", {})]


def test_the_bundled_python_needs_no_base_system(calls: Calls) -> None:
    system_packages.resolve(python_folder.wish("arm64"), "aarch64", Mirrors(), Said())
    assert calls == [("debian", "arm64", {"base": False})]


@pytest.mark.parametrize(
    ("form", "module"), [(PackageFormat.DEB, archive_files), (PackageFormat.RPM, rpm)]
)
def test_files_are_fetched_as_their_format_wants(
    form: PackageFormat, module: Any, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetched: list[object] = []
    monkeypatch.setattr(module, "fetch", lambda pins, *_: fetched.append(pins))
    package = Package(name="x", version="1", architecture="all", path="x", size=1, sha256="ab" * 32)
    pins = a_set([package], form=form)
    system_packages.fetch(pins, BlobCache(place), Mirrors(), Said())
    assert fetched == [pins]
