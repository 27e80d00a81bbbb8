"""`aibox lock`: files are hashed where they lie; packages move only when asked."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest

from aibox import content as contents
from aibox import lock as locks
from aibox.bundle import resolve
from aibox.bundle.source import Checkout
from aibox.content import Content
from aibox.errors import BadUsage, Failed, VerificationRefused
from aibox.lock import ModelsLock, Role, Wheel
from aibox.release import Artifact

DIGESTS = {name: letter * 64 for name, letter in (("one", "1"), ("two", "2"), ("new", "3"))}


def pylock(*packages: tuple[str, str, str]) -> str:
    return 'lock-version = "1.0"\n' + "".join(
        f'[[packages]]\nname = "{name}"\nversion = "{version}"\n'
        f'wheels = [{{ url = "http://127.0.0.1/x/{name}-{version}-py3-none-any.whl", size = 5, '
        f'hashes = {{ sha256 = "{DIGESTS[digest]}" }} }}]\n'
        for name, version, digest in packages
    )


class DoubleOfIndex:
    """A double of uv and the package index: serves a fixed answer, remembers what it was asked."""

    def __init__(self, *packages: tuple[str, str, str]) -> None:
        self.packages, self.kept = packages, list[str]()
        self.described: list[str] = []

    def resolve(self, _requirements: Sequence[str], keep: Sequence[str]) -> str:
        self.kept = list(keep)
        return pylock(*self.packages)

    def describe(self, wheels: Sequence[Wheel]) -> dict[str, tuple[str, str]]:
        self.described = [wheel.name for wheel in wheels]
        return {wheel.name: ("MIT", "somebody") for wheel in wheels}


class NoIndex(DoubleOfIndex):
    def resolve(self, _requirements: Sequence[str], _keep: Sequence[str]) -> str:
        raise AssertionError("the index was asked although nothing changed")


@pytest.fixture
def content(tmp_path: Path) -> Content:
    """A copy of the project's own small files."""
    own = contents.find().root
    for folder in ("stacks/profiles", "stacks/prompts", "docs/manual"):
        shutil.copytree(own / folder, tmp_path / folder)
    for file in (
        "stacks/rag/golden.toml",
        "stacks/rag/rag.toml.j2",
        "stacks/rag/app/pyproject.toml",
        "stacks/rag/app/src/rag_app/model.py",
        "stacks/process/supervisord.conf.j2",
    ):
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(own / file, tmp_path / file)
    return Content(tmp_path)


def lock_with(
    content: Content, index: DoubleOfIndex, previous: ModelsLock | None = None, *upgrade: str
) -> ModelsLock:
    return resolve.resolve(content, ["local"], previous, upgrade, index.resolve, index.describe)


def test_the_lock_names_every_file_and_reads_back(content: Content) -> None:
    made = lock_with(content, DoubleOfIndex(("one", "1.0", "one")))
    assert locks.parse(resolve.dump(made)) == made
    prompts = next(tree for tree in made.tree if tree.role is Role.PROMPTS)
    assert "system.txt" in {file.path for file in prompts.files}


def test_locking_twice_gives_the_same_text_without_asking_the_index(content: Content) -> None:
    first = lock_with(content, DoubleOfIndex(("one", "1.0", "one")))
    assert resolve.dump(lock_with(content, NoIndex(), first)) == resolve.dump(first)


def test_an_address_of_the_index_never_reaches_the_lock(content: Content) -> None:
    text = resolve.dump(lock_with(content, DoubleOfIndex(("one", "1.0", "one"))))
    assert "http" not in "".join(line for line in text.splitlines() if "question" not in line)


def test_a_changed_prompt_changes_only_its_digest(content: Content) -> None:
    first = lock_with(content, DoubleOfIndex(("one", "1.0", "one")))
    prompt = content.root / "stacks/prompts/system.txt"
    prompt.write_text(prompt.read_text() + "Be brief.\n")
    second = lock_with(content, NoIndex(), first)
    changed = [
        (old.path, new.path)
        for before, after in zip(first.tree, second.tree, strict=True)
        for old, new in zip(before.files, after.files, strict=True)
        if old != new
    ]
    assert changed == [("system.txt", "system.txt")]


def test_an_upgrade_moves_one_package_and_keeps_the_others(content: Content) -> None:
    first = lock_with(content, DoubleOfIndex(("one", "1.0", "one"), ("two", "1.0", "two")))
    index = DoubleOfIndex(("one", "1.0", "one"), ("two", "2.0", "new"))
    second = lock_with(content, index, first, "two")
    assert index.kept == ["one==1.0"]
    assert index.described == ["two"]
    assert [wheel.version for wheel in second.wheel] == ["1.0", "2.0"]


def test_upgrading_an_unknown_package_is_refused(content: Content) -> None:
    first = lock_with(content, DoubleOfIndex(("one", "1.0", "one")))
    with pytest.raises(BadUsage, match="no package named 'absent'"):
        lock_with(content, NoIndex(), first, "absent")


def test_caches_are_not_part_of_a_tree(content: Content) -> None:
    for name in ("__pycache__/model.cpython-311.pyc", ".mypy_cache/3.11/cache.db", ".hidden"):
        left = content.root / "stacks/rag/app/src/rag_app" / name
        left.parent.mkdir(parents=True, exist_ok=True)
        left.write_bytes(b"x")
    made = lock_with(content, DoubleOfIndex(("one", "1.0", "one")))
    app = next(tree for tree in made.tree if tree.role is Role.APP)
    assert [file.path for file in app.files] == ["rag_app/model.py"]


def test_an_empty_folder_is_not_silently_locked(content: Content) -> None:
    shutil.rmtree(content.root / "stacks/prompts")
    with pytest.raises(Failed, match="holds nothing to lock"):
        lock_with(content, DoubleOfIndex(("one", "1.0", "one")))


@pytest.mark.parametrize(
    ("filename", "kept"),
    [
        ("x-1-py3-none-any.whl", True),
        ("x-1-py2.py3-none-any.whl", True),
        ("x-1-cp311-cp311-manylinux_2_17_x86_64.manylinux2014_x86_64.whl", True),
        ("x-1-cp38-abi3-manylinux_2_28_aarch64.whl", True),
        ("x-1-py3-none-manylinux_2_17_x86_64.whl", True),
        ("x-1-cp310-cp310-manylinux_2_17_x86_64.whl", False),
        ("x-1-cp313-cp313t-manylinux_2_17_x86_64.whl", False),
        ("x-1-cp311-cp311-musllinux_1_2_x86_64.whl", False),
        ("x-1-cp311-cp311-macosx_11_0_arm64.whl", False),
        ("x-1-cp311-cp311-win_amd64.whl", False),
        ("x-1-pp311-pypy311_pp73-manylinux_2_17_x86_64.whl", False),
    ],
)
def test_only_builds_for_supported_hosts_are_locked(filename: str, kept: bool) -> None:
    text = pylock(("x", "1", "one")).replace("x-1-py3-none-any.whl", filename)
    if kept:
        assert resolve.parse_pylock(text)[0].files[0].filename == filename
    else:
        with pytest.raises(Failed, match="has no wheel for Linux"):
            resolve.parse_pylock(text)


def test_a_package_only_other_systems_need_is_left_out() -> None:
    text = pylock(("x", "1", "one")) + "marker = \"sys_platform == 'win32'\"\n"
    assert resolve.parse_pylock(text) == ()


def artifact(data: bytes) -> Artifact:
    from aibox import digest

    return Artifact(
        role=Role.PROMPTS,
        source="stacks/prompts/system.txt",
        target="prompts/system.txt",
        size=len(data),
        sha256=digest.of_bytes(data),
        licence="Apache-2.0",
        owner="aibox",
    )


def test_the_file_beside_the_lock_wins_when_it_is_the_right_one(tmp_path: Path) -> None:
    for name, text in (("own", "old"), ("beside", "new")):
        path = tmp_path / name / "stacks/prompts/system.txt"
        path.parent.mkdir(parents=True)
        path.write_text(text)
    checkout = Checkout((tmp_path / "beside", tmp_path / "own"))
    assert checkout.find(artifact(b"new")).is_relative_to(tmp_path / "beside")
    assert checkout.find(artifact(b"old")).is_relative_to(tmp_path / "own")


def test_a_file_that_is_not_what_the_lock_names_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "stacks/prompts/system.txt"
    path.parent.mkdir(parents=True)
    path.write_text("changed")
    with pytest.raises(VerificationRefused) as caught:
        Checkout((tmp_path,)).find(artifact(b"locked"))
    assert caught.value.reference == "artifact-differs"


def test_a_file_that_is_missing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(VerificationRefused) as caught:
        Checkout((tmp_path,)).find(artifact(b"locked"))
    assert caught.value.reference == "artifact-missing"
