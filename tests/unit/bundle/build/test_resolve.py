"""`aibox lock`: files are hashed where they lie; others are asked only when it must be."""

from __future__ import annotations

import datetime
import shutil
from pathlib import Path

import pytest

import pin_examples as pins
import small_project
from aibox import lock as locks
from aibox.bundle.build import resolve
from aibox.content import Content
from aibox.errors import BadUsage, Failed, Fault, VerificationRefused
from aibox.lock import ModelsLock, Role
from aibox.pins import ModelFile, Redistribution, State
from aibox.progress import Progress
from pin_examples import DoubleOfResolvers
from small_project import pylock, write_profile

DAY, LATER = datetime.date(2026, 11, 1), datetime.date(2026, 12, 24)
ONE = pylock(("one", "1.0", "one"))


@pytest.fixture
def content(tmp_path: Path) -> Content:
    return small_project.make(tmp_path)


def lock_with(
    content: Content,
    double: DoubleOfResolvers,
    previous: ModelsLock | None = None,
    *upgrade: str,
    today: datetime.date = LATER,
    told: list[Progress] | None = None,
) -> ModelsLock:
    report = (told if told is not None else []).append
    names = [path.stem for path in content.profiles.glob("*.toml")]
    return resolve.resolve(content, names, previous, upgrade, double.resolvers(), today, report)


def first_lock(content: Content, **found: object) -> ModelsLock:
    """A lock of one package with pins by kind, as if made on `DAY`."""
    made = lock_with(content, DoubleOfResolvers(ONE), today=DAY)
    return made.model_copy(update=found)


# -- the project's own files and packages -------------------------------------------------------


def test_the_lock_names_every_file_and_reads_back(content: Content) -> None:
    made = lock_with(content, DoubleOfResolvers(ONE))
    assert locks.parse(locks.dump(made)) == made
    prompts = next(tree for tree in made.tree if tree.role is Role.PROMPTS)
    assert {file.path for file in prompts.files} == {"system.txt"}


def test_locking_twice_gives_the_same_text_and_asks_nobody(content: Content) -> None:
    first = first_lock(content)
    assert locks.dump(lock_with(content, DoubleOfResolvers(), first)) == locks.dump(first)


def test_an_address_of_the_index_never_reaches_the_lock(content: Content) -> None:
    text = locks.dump(lock_with(content, DoubleOfResolvers(ONE)))
    assert "http" not in "".join(line for line in text.splitlines() if "question" not in line)


def test_a_changed_prompt_changes_its_digest_the_sequence_and_the_date(content: Content) -> None:
    first = first_lock(content)
    prompt = content.root / "stacks/prompts/system.txt"
    prompt.write_text(prompt.read_text() + "Be brief.\n")
    second = lock_with(content, DoubleOfResolvers(), first)
    before, after = locks.dump(first).splitlines(), locks.dump(second).splitlines()
    changed = [line for line in after if line not in before]
    assert changed[:2] == ["sequence = 2", "date = 2026-12-24"]
    assert len(changed) == 3
    assert "system.txt" in changed[2]


def test_the_first_lock_is_the_first_of_its_sequence(content: Content) -> None:
    first = lock_with(content, DoubleOfResolvers(ONE), today=DAY)
    assert (first.sequence, first.date) == (1, DAY)


def test_a_lock_of_the_former_revision_is_taken_on(content: Content) -> None:
    old = first_lock(content).model_copy(update={"revision": 0})
    made = lock_with(content, DoubleOfResolvers(), old)
    assert (made.revision, made.sequence) == (1, 2)


def test_a_changed_requirement_asks_the_index_and_keeps_versions(content: Content) -> None:
    first = first_lock(content)
    path = content.app_requirements
    path.write_text(path.read_text().replace("dependencies = [", 'dependencies = [\n  "new",', 1))
    double = DoubleOfResolvers(pylock(("new", "3.0", "new"), ("one", "1.0", "one")))
    second = lock_with(content, double, first)
    assert double.kept == ["one==1.0"]
    assert double.described == ["new"]
    assert second.requirements != first.requirements


def test_an_upgrade_moves_one_package_and_keeps_the_others(content: Content) -> None:
    both = pylock(("one", "1.0", "one"), ("two", "1.0", "two"))
    first = lock_with(content, DoubleOfResolvers(both))
    double = DoubleOfResolvers(pylock(("one", "1.0", "one"), ("two", "2.0", "new")))
    second = lock_with(content, double, first, "two")
    assert double.kept == ["one==1.0"]
    assert double.described == ["two"]
    assert [wheel.version for wheel in second.wheel] == ["1.0", "2.0"]


def test_the_command_line_has_its_packages_in_the_lock(content: Content) -> None:
    first = first_lock(content)
    assert [(wheel.name, wheel.version, wheel.licence) for wheel in first.program] == [
        ("tool", "1.0", "MIT")
    ]
    double = DoubleOfResolvers()
    assert lock_with(content, double, first).program == first.program
    assert double.program_asked == 0


def test_a_changed_lock_of_the_command_line_is_taken_in(content: Content) -> None:
    first = first_lock(content)
    more = small_project.PROGRAM_LOCK + f"    --hash=sha256:{'3' * 64}\n"
    content.program_requirements.write_text(more)
    double = DoubleOfResolvers()
    second = lock_with(content, double, first)
    assert double.program_asked == 1
    assert second.program_requirements != first.program_requirements


def test_licences_of_packages_are_classified(content: Content) -> None:
    first = first_lock(content)
    odd = first.wheel[0].model_copy(update={"licence": "nobody knows"})
    made = lock_with(content, DoubleOfResolvers(), first.model_copy(update={"wheel": (odd,)}))
    assert first.wheel[0].redistribution is Redistribution.ALLOW
    assert made.wheel[0].redistribution is Redistribution.OPERATOR_ONLY


def test_a_profile_that_is_gone_leaves_the_lock(content: Content) -> None:
    write_profile(content, "gone")
    first = first_lock(content)
    assert sorted(first.tuning) == ["gone", "local"]
    (content.profiles / "gone.toml").unlink()
    assert sorted(lock_with(content, DoubleOfResolvers(), first).tuning) == ["local"]


def test_caches_are_not_part_of_a_tree(content: Content) -> None:
    for name in ("__pycache__/model.cpython-311.pyc", ".mypy_cache/3.11/cache.db", ".hidden"):
        left = content.root / "stacks/rag/app/src/rag_app" / name
        left.parent.mkdir(parents=True, exist_ok=True)
        left.write_bytes(b"x")
    made = lock_with(content, DoubleOfResolvers(ONE))
    app = next(tree for tree in made.tree if tree.role is Role.APP)
    assert [file.path for file in app.files] == ["rag_app/model.py"]


def test_an_empty_folder_is_not_silently_locked(content: Content) -> None:
    shutil.rmtree(content.root / "stacks/prompts")
    with pytest.raises(Failed, match="holds nothing to lock"):
        lock_with(content, DoubleOfResolvers(ONE))


# -- wishes -------------------------------------------------------------------------------------


def all_wishes(content: Content) -> None:
    write_profile(
        content,
        model=[pins.model_wish()],
        image=[pins.image_wish()],
        packages=[pins.packages_wish()],
        file=[pins.file_wish()],
    )


ALL = {
    "model": (pins.model(),),
    "image": (pins.image(),),
    "packages": (pins.packages(),),
    "file": (pins.file(),),
}


def test_wishes_of_every_kind_are_resolved(content: Content) -> None:
    all_wishes(content)
    double = DoubleOfResolvers(
        ONE,
        small=pins.model(),
        engine=pins.image(),
        docker=pins.packages(),
        driver=pins.file(),
    )
    made = lock_with(content, double)
    assert {kind: getattr(made, kind) for kind in ALL} == ALL
    assert double.asked[1] == (pins.image_wish(), None, ("x86_64",))
    assert double.asked[2] == (pins.model_wish(), None)
    assert double.asked[3] == (pins.packages_wish(), "x86_64")


def test_resolved_pins_of_unchanged_wishes_are_asked_of_nobody(content: Content) -> None:
    all_wishes(content)
    first = first_lock_with_pins(content)
    double = DoubleOfResolvers()
    assert lock_with(content, double, first) == first
    assert double.asked == []


def first_lock_with_pins(content: Content) -> ModelsLock:
    answers = {pin.name: pin for found in ALL.values() for pin in found}
    return lock_with(content, DoubleOfResolvers(ONE, **answers), today=DAY)


def test_pins_nobody_wishes_for_are_kept_word_for_word(content: Content) -> None:
    catalogue = pins.unresolved_model("catalogued", licence="cc-by-nc-4.0")
    first = first_lock(content, model=(catalogue,))
    assert lock_with(content, DoubleOfResolvers(), first).model == (catalogue,)


def test_an_unresolved_pin_is_completed_at_its_commit(content: Content) -> None:
    write_profile(content, model=[pins.model_wish()])
    known = pins.unresolved_model()
    double = DoubleOfResolvers(small=pins.model())
    made = lock_with(content, double, first_lock_without_wishes(content, model=(known,)))
    assert made.model == (pins.model(),)
    assert double.asked == [(pins.model_wish(revision=pins.COMMIT), known)]


def first_lock_without_wishes(content: Content, **found: object) -> ModelsLock:
    """A lock of before the profile had its wishes."""
    text = (content.profiles / "local.toml").read_text()
    write_profile(content)
    made = first_lock(content, **found)
    (content.profiles / "local.toml").write_text(text)
    return made


def test_a_licence_that_is_learnt_by_completing_decides_the_class(content: Content) -> None:
    write_profile(content, image=[pins.image_wish()])
    known = pins.image(state=State.UNRESOLVED, platforms=(), licence="unknown",
                       redistribution=Redistribution.OPERATOR_ONLY)  # fmt: skip
    found = pins.image(redistribution=Redistribution.OPERATOR_ONLY)
    first = first_lock_without_wishes(content, image=(known,))
    (image,) = lock_with(content, DoubleOfResolvers(engine=found), first).image
    assert image.redistribution is Redistribution.ALLOW


def test_what_was_known_of_an_unresolved_pin_must_be_true(content: Content) -> None:
    write_profile(content, model=[pins.model_wish()])
    known = ModelFile(path="model.safetensors", sha256=pins.sha("other weights"))
    first = first_lock_without_wishes(content, model=(pins.unresolved_model(files=(known,)),))
    with pytest.raises(VerificationRefused) as caught:
        lock_with(content, DoubleOfResolvers(small=pins.model()), first)
    assert caught.value.reference == "pin-differs"
    assert "model.safetensors" in caught.value.message
    assert caught.value.hint.endswith("./aibox lock --upgrade small")


def test_an_unresolved_pin_nobody_can_complete_stays_and_says_why(content: Content) -> None:
    write_profile(content, model=[pins.model_wish()])
    first = first_lock_without_wishes(content, model=(pins.unresolved_model(),))
    away = Failed("hub-away", "the hub does not answer", hint="./aibox lock", fault=Fault.HOST)
    told: list[Progress] = []
    made = lock_with(content, DoubleOfResolvers(small=away), first, told=told)
    assert made.model[0].state is State.UNRESOLVED
    assert "model small stays unresolved: the hub does not answer" in told[-1].message


def test_a_wish_without_pin_must_be_resolved(content: Content) -> None:
    write_profile(content, model=[pins.model_wish()])
    away = Failed("hub-away", "the hub does not answer", hint="./aibox lock", fault=Fault.HOST)
    with pytest.raises(Failed, match="does not answer"):
        lock_with(content, DoubleOfResolvers(ONE, small=away))


def test_an_upgrade_moves_exactly_the_named_pin(content: Content) -> None:
    all_wishes(content)
    first = first_lock_with_pins(content)
    moved = pins.model(revision=pins.NEWER)
    double = DoubleOfResolvers(small=moved)
    second = lock_with(content, double, first, "small")
    assert second.model == (moved,)
    assert double.asked == [(pins.model_wish(), None)]
    rest = {"model": first.model, "sequence": first.sequence, "date": first.date}
    assert second.model_copy(update=rest) == first


def test_an_upgrade_leaves_other_unresolved_pins_alone(content: Content) -> None:
    write_profile(content, model=[pins.model_wish("small"), pins.model_wish("large")])
    found = (pins.unresolved_model("large"), pins.model("small"))
    first = first_lock_without_wishes(content, model=found)
    double = DoubleOfResolvers(small=pins.model(revision=pins.NEWER))
    assert lock_with(content, double, first, "small").model[0] == found[0]
    assert double.names == ["small"]


def test_a_pin_of_the_catalogue_can_be_moved_without_a_wish(content: Content) -> None:
    known = pins.unresolved_model()
    first = first_lock(content, model=(known,))
    double = DoubleOfResolvers(small=pins.model(revision=pins.NEWER))
    assert lock_with(content, double, first, "small").model[0].revision == pins.NEWER
    assert double.asked[0][0].repository == "maker/small"


def test_an_upgrade_that_fails_is_told(content: Content) -> None:
    away = Failed("hub-away", "the hub does not answer", hint="./aibox lock", fault=Fault.HOST)
    first = first_lock(content, model=(pins.unresolved_model(),))
    with pytest.raises(Failed, match="does not answer"):
        lock_with(content, DoubleOfResolvers(small=away), first, "small")


def test_a_file_listed_by_digest_takes_its_address_from_the_wish(content: Content) -> None:
    write_profile(content, file=[pins.file_wish()])
    first = first_lock_without_wishes(content, file=(pins.file(address=None),))
    double = DoubleOfResolvers()
    assert lock_with(content, double, first).file == (pins.file(),)
    assert double.asked == []


def test_only_wishes_of_the_chosen_profiles_are_resolved(content: Content) -> None:
    write_profile(content, "other", model=[pins.model_wish()])
    double = DoubleOfResolvers(ONE)
    resolve.resolve(content, ["local"], None, (), double.resolvers(), DAY, lambda _: None)
    assert double.asked == []


def test_wishes_of_one_name_must_be_equal(content: Content) -> None:
    write_profile(content, "other", model=[pins.model_wish(repository="else/where")])
    write_profile(content, model=[pins.model_wish()])
    with pytest.raises(BadUsage, match="local and other") as caught:
        lock_with(content, DoubleOfResolvers(ONE))
    assert caught.value.reference == "wishes-differ"
