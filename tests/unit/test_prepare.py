"""From a wish to a plan: a bundle is judged whole, and nothing is changed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

import examples
from aibox import digest
from aibox.bundle.layout import MANIFEST
from aibox.content import Content
from aibox.errors import AiboxError, BadUsage, ExitCode, Fault
from aibox.fit import loadable
from aibox.prepare import Prepared, Wish, launcher, prepare, site_of
from aibox.profile_choice import ProfileMissing
from aibox.release import Release
from small_bundle import Parts, Supplier
from small_site import SmallSite, ends_with_a_command


@pytest.fixture
def box(site: SmallSite, supplier: Supplier) -> SmallSite:
    return site.trusting(supplier)


@contextmanager
def prepared(site: SmallSite, wish: Wish) -> Iterator[Prepared]:
    """What comes of a wish, while the box stays as it is."""
    before = site.files()
    with prepare(site.place, wish) as found:
        yield found
    assert site.files() == before


def refusal(site: SmallSite, wish: Wish) -> AiboxError:
    before = site.files()
    with pytest.raises(AiboxError) as caught, prepare(site.place, wish):
        pass
    assert site.files() == before
    assert ends_with_a_command(caught.value)
    return caught.value


def test_a_plan_is_made_without_a_box(site: SmallSite, supplier: Supplier) -> None:
    bundle = supplier.bundle()
    with prepared(site, site.wish(bundle.folder, roots=(supplier.root,))) as found:
        plan = found.plan
        assert plan.release == bundle.release.id
        assert {item.path for item in plan.tree} >= {
            "tree/models/small/model.safetensors",
            "tree/images/engine/manifest.json",
            "tree/packages/docker/dists/Release",
            "tree/program/aibox",
            "tree/wheels/demo-1.0-py3-none-any.whl",
        }
        assert found.material.provenance is not None
        assert found.material.provenance.bundle == bundle.made.bundle
    assert not site.root.exists()


def test_a_model_that_its_engine_cannot_load_is_refused_before_anything_is_planned(
    site: SmallSite, supplier: Supplier, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[Path, str]] = []

    def refuse(folder: Path, release: Release) -> None:
        asked.append((folder, release.id))
        raise BadUsage("model-not-loadable", "no", hint="./aibox fit --list", fault=Fault.UPSTREAM)

    monkeypatch.setattr(loadable, "refuse_release", refuse)
    bundle = supplier.bundle()
    wish = site.wish(bundle.folder, roots=(supplier.root,))
    assert refusal(site, wish).reference == "model-not-loadable"
    assert asked == [(site.place.content.catalogue, bundle.release.id)]


def test_a_generation_is_known_by_its_release_not_by_its_bundle(
    box: SmallSite, supplier: Supplier
) -> None:
    """A delta and a full bundle of one state make the same plan."""
    full = supplier.bundle("full")
    number = box.stage(full.folder)
    held = frozenset(full.gathered.needed())
    delta = supplier.bundle("delta", Parts(held=held))
    with prepared(box, box.wish(delta.folder)) as found:
        assert found.plan.stored() == box.store.file(number, "plan.json")
        assert found.material.rendered[MANIFEST] == (delta.folder / MANIFEST).read_bytes()


def test_a_box_from_a_bundle_is_started_by_the_program_in_it(
    box: SmallSite, supplier: Supplier
) -> None:
    with prepared(box, box.wish(supplier.bundle().folder)) as found:
        assert found.unit == f"ExecStart={box.root}/bin/aibox start # {box.root}\n".encode()


def test_the_profile_is_that_of_the_box_unless_another_is_named(
    box: SmallSite, supplier: Supplier
) -> None:
    both = Parts(profiles=("a100", "local"))
    bundle = supplier.bundle(parts=both)
    missing = refusal(box, box.wish(bundle.folder, profile=None))
    assert isinstance(missing, ProfileMissing)
    judged = (*missing.proposal.others, missing.proposal.chosen)
    assert {one.name for one in judged if one} == {"a100", "local"}
    box.serves(box.stage(bundle.folder, profile="a100"))
    newer = supplier.bundle("newer", both.but(sequence=2))
    for wished, expected in ((None, "a100"), ("local", "local")):
        with prepared(box, box.wish(newer.folder, profile=wished)) as found:
            assert found.plan.profile == expected


def test_a_bundle_and_a_lock_file_are_not_wished_for_at_once(
    box: SmallSite, supplier: Supplier
) -> None:
    wish = replace(box.wish(supplier.bundle().folder), lockfile=Path("models.lock"))
    error = refusal(box, wish)
    assert (error.reference, error.exit_code) == ("bundle-and-lockfile", ExitCode.BAD_USAGE)


def test_a_damaged_template_is_told_as_a_file_of_the_medium(
    box: SmallSite, supplier: Supplier
) -> None:
    """Templates are read for the plan, before anything is staged."""
    bundle = supplier.bundle()
    for data in examples.TEMPLATES.values():
        path = bundle.of(data)
        path.write_bytes(b"x" + data[1:])
        error = refusal(box, box.wish(bundle.folder))
        assert (error.reference, error.exit_code) == ("bundle-file-differs", 4)
        assert f"blobs/sha256/{path.name}" in error.context
        assert str(bundle.folder) in error.context
        path.write_bytes(data)
    with prepared(box, box.wish(bundle.folder)):
        pass


def test_a_template_that_rotted_in_the_store_is_asked_for(
    box: SmallSite, supplier: Supplier
) -> None:
    full = supplier.bundle("full")
    box.stage(full.folder)
    data = examples.TEMPLATES["rag/rag.toml.j2"]
    blob = box.store.layout.blob(digest.of_bytes(data))
    blob.chmod(0o644)
    blob.write_bytes(b"x" + data[1:])
    held = frozenset(full.gathered.needed())
    delta = supplier.bundle("delta", Parts(sequence=2, file=b"a newer driver", held=held))
    error = refusal(box, box.wish(delta.folder))
    assert (error.reference, error.exit_code) == ("release-incomplete", ExitCode.BAD_USAGE)
    assert error.context == "tree/templates/rag/rag.toml.j2"
    assert error.hint.endswith("./aibox have")


def test_a_template_that_cannot_be_rendered_is_no_traceback(
    box: SmallSite, supplier: Supplier
) -> None:
    broken = Parts(trees={"templates/rag/rag.toml.j2": b"{{ unknown }}"})
    error = refusal(box, box.wish(supplier.bundle(parts=broken).folder))
    assert error.reference == "template-broken"


def test_files_that_nothing_offers_are_named_before_anything_is_written(
    box: SmallSite, supplier: Supplier
) -> None:
    whole = supplier.bundle("whole")
    (model,) = whole.release.models
    names = frozenset(file.sha256 or "" for file in model.files)
    brought = supplier.bundle("brought", Parts(brought=names))
    error = refusal(box, box.wish(brought.folder))
    assert (error.reference, error.exit_code) == ("release-incomplete", ExitCode.BAD_USAGE)
    assert "2 files of the release" in error.message
    assert "tree/models/small/config.json" in error.context
    assert error.hint.endswith("./aibox install --bundle BUNDLE --weights FOLDER")


def test_a_program_that_is_no_checkout_starts_what_it_installs_by_its_link(
    site: SmallSite, place: Path
) -> None:
    (place / "programs/abc").mkdir(parents=True)
    unpacked = SmallSite(site.root, None, Content(place / "programs/abc"))
    assert launcher(unpacked.place, None) == place / "programs/abc/aibox"
    (place / "programs/abc/program.txt").touch()
    assert launcher(unpacked.place, None) == site.root / "bin/aibox"


# -- a language model elsewhere -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "reference", "hint"),
    [
        ({"engine_model": None}, "engine-incomplete", "curl --silent URL/models"),
        ({"engine_key_file": Path("/none")}, "engine-key-unusable", "chmod 600 /none"),
        ({"engine_url": "http://x/v1/models"}, "engine-invalid", "--engine-model NAME"),
        ({"engine_url": None}, "engine-url-missing", "--engine-model NAME"),
    ],
)
def test_options_of_an_engine_that_do_not_do_are_refused_with_what_to_type(
    changes: dict[str, object], reference: str, hint: str
) -> None:
    wish = replace(Wish(engine_url="http://x/v1", engine_model="m"), **changes)
    with pytest.raises(BadUsage) as caught:
        site_of(wish, None)
    assert (caught.value.reference, caught.value.fault) == (reference, Fault.YOU)
    assert caught.value.hint.endswith(hint)


def test_the_options_of_an_engine_make_it(tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text("k")
    key.chmod(0o600)
    wish = Wish(engine_url="http://x/v1", engine_model="m", engine_key_file=key)
    made = site_of(wish, None).engine
    assert (made.kind, made.url, made.model) == ("openai", "http://x/v1", "m")
    assert made.api_key_file == str(key)
    assert site_of(Wish(engine_url="none"), None).engine.kind == "extractive"
