"""Looking at a bundle: the head alone, believed by nobody, beside whatever box is there."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from aibox import inspecting
from aibox.bundle.folder import Folder
from aibox.bundle.layout import MANIFEST
from aibox.bundle.media import Media
from aibox.errors import VerificationRefused
from aibox.inspecting import inspect, summary
from aibox.pins import Redistribution
from small_bundle import MACHINE, PYTHON, VOLUME, Parts, Supplier, today
from small_site import SmallSite

NO_BOX = Path("/nonexistent/box")
HEAD = [MANIFEST, "bundle.json.sig", "revoked.json", "root/1.root.json", "volume.json"]


@pytest.fixture
def untouched(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every file that is asked for on media, by its path there; blobs may not be."""
    opened: list[str] = []
    real = Folder.open

    def open_one(folder: Folder, name: str) -> Any:
        opened.append(name)
        return real(folder, name)

    def refuse(*_: object) -> None:
        raise AssertionError("a blob was opened")

    monkeypatch.setattr(Folder, "open", open_one)
    for way in ("open_blob", "read_blob", "open_object", "volume_of"):
        monkeypatch.setattr(Media, way, refuse)
    return opened


def test_it_tells_what_is_inside_without_touching_a_blob(
    supplier: Supplier, untouched: list[str]
) -> None:
    bundle = supplier.bundle(parts=Parts(interpreter=b"a tar"))
    shutil.rmtree(bundle.folder / "blobs")
    found = inspect([bundle.folder], NO_BOX)
    assert untouched == HEAD
    assert (found.bundle, found.sequence) == (bundle.made.bundle, 1)
    assert found.created == today().isoformat()
    assert (found.architectures, found.pythons) == ((MACHINE,), (PYTHON,))
    assert found.bytes == found.carried == sum(b.size for b in bundle.gathered.needed().values())
    assert found.releases[0]["id"] == bundle.release.id
    assert [row.kind for row in found.kinds] == [
        *("file", "image", "interpreter", "model", "package", "project", "wheel"),
    ]
    assert sum(row.bytes for row in found.kinds) == sum(c["size"] for c in found.components)
    assert (len(found.signed_by), found.roots, found.changes) == (1, 1, ())
    assert json.loads(json.dumps(asdict(found)))["volumes"] == [str(bundle.folder)]


def test_it_may_lie_where_nothing_can_be_written(
    supplier: Supplier, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = supplier.bundle()
    real = os.open

    def reading(path: Any, flags: int, *rest: Any, **more: Any) -> int:
        assert not flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT), path
        return real(path, flags, *rest, **more)

    for path in (*bundle.folder.rglob("*"), bundle.folder):
        path.chmod(0o555 if path.is_dir() else 0o444)
    monkeypatch.setattr(os, "open", reading)
    assert inspect([bundle.folder], NO_BOX).sequence == 1
    # So that an ordinary user can remove them.
    for path in (bundle.folder, *bundle.folder.rglob("*")):
        path.chmod(0o700)


@pytest.mark.parametrize("count", [1, 400])
def test_how_much_is_inside_costs_nothing(
    supplier: Supplier, untouched: list[str], count: int
) -> None:
    """Counted in files that are opened, not in seconds: a stick may be slow."""
    trees = {f"app/{n}.py": f"{n}".encode() for n in range(count)}
    inspect([supplier.bundle(parts=Parts(trees=trees)).folder], NO_BOX)
    assert untouched == HEAD


def test_one_volume_tells_of_the_whole_and_what_is_missing(supplier: Supplier) -> None:
    parts = Parts(trees={f"app/{n}.bin": bytes([n]) * 150_000 for n in range(1, 9)})
    bundle = supplier.bundle(parts=parts, volume_bytes=VOLUME)
    found = inspect(bundle.folders[1:2], NO_BOX)
    assert found.volumes == (f"volume 2 of {len(bundle.folders)} ({bundle.folders[1]})",)
    assert len(found.missing_volumes) == len(bundle.folders) - 1
    assert found.bytes == bundle.description.size
    assert sum(name == "missing" for name, _ in summary(found)) == len(bundle.folders) - 1
    assert inspect(bundle.folders, NO_BOX).missing_volumes == ()


def test_nothing_is_believed_and_an_unsigned_bundle_is_shown_as_such(supplier: Supplier) -> None:
    found = inspect([supplier.bundle(signed=False).folder], NO_BOX)
    assert (found.signed_by, found.roots) == ((), 0)
    assert dict(summary(found))["signed by"] == "nobody"


def test_a_folder_with_anything_else_is_refused(supplier: Supplier) -> None:
    bundle = supplier.bundle()
    (bundle.folder / MANIFEST).write_bytes(b"[]")
    with pytest.raises(VerificationRefused) as caught:
        inspect([bundle.folder], NO_BOX)
    assert caught.value.reference == "bundle-malformed"


# -- beside a box -------------------------------------------------------------------------------


def running(site: SmallSite, supplier: Supplier) -> SmallSite:
    """A box that runs the first bundle."""
    site.trusting(supplier)
    site.serves(site.stage(supplier.bundle("one").folder))
    return site


def changes(site: SmallSite, supplier: Supplier, **parts: Any) -> dict[str, tuple[str, str]]:
    bundle = supplier.bundle("two", Parts(**{"sequence": 2, **parts}))
    found = inspect([bundle.folder], site.root)
    return {item["name"]: (item["current"], item["desired"]) for item in found.changes}


def test_what_it_would_change_is_told_by_component(site: SmallSite, supplier: Supplier) -> None:
    found = changes(
        running(site, supplier),
        supplier,
        file=b"a newer driver",
        model_name="larger",
        trees={"prompts/system.txt": b"Be brief.\n"},
    )
    assert found.keys() == {
        *("file driver", "model small", "model larger", "project aibox-prompts"),
    }
    assert found["model small"][1] == "-" == found["model larger"][0]


def test_the_same_again_changes_nothing(site: SmallSite, supplier: Supplier) -> None:
    assert changes(running(site, supplier), supplier) == {}


@pytest.mark.parametrize("content", [None, b"", b"garbage"])
def test_a_box_that_cannot_say_what_it_runs_hides_no_bundle(
    site: SmallSite, supplier: Supplier, content: bytes | None
) -> None:
    path = running(site, supplier).root / "current" / MANIFEST
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    assert changes(site, supplier, file=b"a newer driver") == {}


def test_a_summary_is_for_people(supplier: Supplier) -> None:
    bundle = supplier.bundle()
    told = dict(summary(inspect([bundle.folder], NO_BOX)))
    assert told["sequence"].startswith(f"1 of {today()}, taken in until ")
    assert told["release"] == f"{bundle.release.id[:12]} for local: local"
    assert told["needs"] == "1 MiB of memory, 1 MiB of disk, 1 inodes"
    assert told["host"] == f"{MACHINE}; Python {PYTHON} or its own"
    assert told["SBOM"].endswith(f"{bundle.description.sbom.sha256} (CycloneDX)")


def test_the_strictest_class_and_a_few_licences_stand_for_a_kind() -> None:
    assert inspecting.strictest({item.value for item in Redistribution}) == "forbid"
    assert set(inspecting.CLASSES) == {item.value for item in Redistribution}
    assert inspecting.most({"A", "B"}) == "A, B"
    assert inspecting.most(set("ABCDE")) == "A, B, C and 2 more"


@pytest.mark.parametrize("missing", ["signed", "signatures"])
def test_what_lacks_a_part_is_malformed(supplier: Supplier, missing: str) -> None:
    bundle = supplier.bundle()
    path = bundle.folder / MANIFEST
    path.write_text(json.dumps({**json.loads(path.read_text()), missing: None}))
    with pytest.raises(VerificationRefused) as caught:
        inspect([bundle.folder], NO_BOX)
    assert caught.value.reference == "bundle-malformed"


def test_nothing_that_takes_long_to_import_is_needed() -> None:
    script = "import sys, aibox.inspecting; print(*sorted(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={"PYTHONPATH": str(Path(inspecting.__file__).parents[1])},
        check=True,
        capture_output=True,
        text=True,
    )
    assert not {"pydantic", "cryptography", "tuf", "httpx", "jinja2"} & set(done.stdout.split())
