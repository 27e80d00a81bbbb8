from __future__ import annotations

import hashlib
import html
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from aibox import process
from aibox.box import wheels
from aibox.box.wheels import WheelPin, batches, fetch, requirement
from aibox.errors import BadUsage, Failed, VerificationRefused
from wheel_maker import make_wheel

PIN = WheelPin("demo", "1.0", "demo-1.0-py3-none-any.whl", 10, "a" * 64)
Say = Callable[[str], None]


class Index:
    """A package index on disk, as pip sees it through its configuration."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        folder.mkdir()
        for name in ("PIP_FIND_LINKS", "PIP_EXTRA_INDEX_URL"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
        monkeypatch.setenv("PIP_INDEX_URL", folder.as_uri())
        monkeypatch.setenv("PIP_NO_CACHE_DIR", "1")

    def offer(
        self, name: str, content: bytes = b"", tag: str = "py3-none-any", wants: str = ""
    ) -> WheelPin:
        (self.folder / name).mkdir(exist_ok=True)
        path = make_wheel(self.folder / name, {f"{name}.py": content}, name=name, tag=tag)
        wanted = f' data-requires-python="{html.escape(wants)}"' if wants else ""
        page = f'<a href="{path.name}"{wanted}>{path.name}</a>'
        (self.folder / name / "index.html").write_text(page, encoding="utf-8")
        data = path.read_bytes()
        return WheelPin(name, "1.0", path.name, len(data), hashlib.sha256(data).hexdigest())


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Index:
    monkeypatch.setattr(wheels, "PAUSE_S", 0)
    return Index(tmp_path / "index", monkeypatch)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "내려받은 것"


def nothing(_line: str) -> None:
    pass


def test_wheels_come_from_the_configured_index(index: Index, folder: Path) -> None:
    pins = [index.offer("alpha"), index.offer("beta")]
    told: list[str] = []
    fetch(pins, folder, told.append)
    assert all(wheels.is_right(folder / pin.filename, pin) for pin in pins)
    assert sorted(path.name for path in folder.iterdir()) == [pin.filename for pin in pins]
    assert "2 of 2 files" in told[-1]


@pytest.mark.parametrize(
    "tag",
    [
        "py3-none-any",
        "cp313-cp313-manylinux_2_17_aarch64.manylinux2014_aarch64",
        "cp39-abi3-manylinux_2_28_x86_64",
        "cp314-cp314-manylinux_2_28_aarch64",
        "py3-none-manylinux_2_17_x86_64",
    ],
)
def test_a_packager_fetches_builds_for_other_hosts(index: Index, folder: Path, tag: str) -> None:
    pin = index.offer("alpha", tag=tag)
    fetch([pin], folder, nothing, foreign=True)
    assert wheels.is_right(folder / pin.filename, pin)


def test_a_stable_build_older_than_what_its_package_wants_is_fetched(
    index: Index, folder: Path
) -> None:
    pin = index.offer("alpha", tag="cp39-abi3-manylinux_2_28_x86_64", wants=">=3.10")
    fetch([pin], folder, nothing, foreign=True)
    assert wheels.is_right(folder / pin.filename, pin)


def test_builds_for_one_target_are_fetched_together() -> None:
    def pin(name: str, tag: str) -> WheelPin:
        return WheelPin(name, "1.0", f"{name}-1.0-{tag}.whl", 1, "a" * 64)

    pins = [
        pin("alpha", "cp312-cp312-manylinux_2_17_x86_64"),
        pin("beta", "py3-none-any"),
        pin("gamma", "cp312-cp312-manylinux_2_17_x86_64"),
    ]
    groups = [[wheel.name for wheel in group] for _, group in wheels.by_target(pins)]
    assert groups == [["alpha", "gamma"], ["beta"]]


def test_what_is_right_already_is_not_fetched_again(
    index: Index, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pin = index.offer("alpha")
    fetch([pin], folder, nothing)
    monkeypatch.setattr(process, "run", pytest.fail)
    fetch([pin], folder, nothing)


@pytest.mark.parametrize("damage", [b"", b"cut short"])
def test_a_damaged_file_is_fetched_again(index: Index, folder: Path, damage: bytes) -> None:
    pin = index.offer("alpha")
    folder.mkdir()
    (folder / pin.filename).write_bytes(damage)
    fetch([pin], folder, nothing)
    assert wheels.is_right(folder / pin.filename, pin)


def test_other_bytes_than_the_locked_ones_are_refused(index: Index, folder: Path) -> None:
    pin = index.offer("alpha", b"# as locked\n")
    index.offer("alpha", b"# as the index serves it now\n")
    with pytest.raises(VerificationRefused, match=r"alpha 1\.0") as caught:
        fetch([pin], folder, nothing)
    assert caught.value.reference == "wheel-digest-differs"
    assert list(folder.iterdir()) == []


def test_pip_is_not_believed_either(
    index: Index, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lying(argv: list[object], **_: object) -> process.Completed:
        destination = Path(str(argv[-1]))
        destination.mkdir()
        (destination / PIN.filename).write_bytes(b"x" * PIN.size)
        return process.Completed(0, (), 0.1)

    monkeypatch.setattr(process, "run", lying)
    with pytest.raises(VerificationRefused):
        fetch([PIN], folder, nothing)
    assert list(folder.iterdir()) == []


def test_an_index_that_lacks_a_package_is_not_asked_twice(
    index: Index, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wheels, "ATTEMPTS", 99)
    pin = replace(index.offer("alpha"), name="gamma", filename="gamma-1.0-py3-none-any.whl")
    with pytest.raises(Failed, match=r"gamma 1\.0") as caught:
        fetch([pin], folder, nothing)
    assert caught.value.reference == "package-not-in-index"


def test_an_index_that_cannot_be_reached_is_the_hosts_fault(
    index: Index, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:1/simple")
    monkeypatch.setenv("PIP_RETRIES", "1")
    monkeypatch.setattr(wheels, "ATTEMPTS", 1)
    with pytest.raises(Failed) as caught:
        fetch([PIN], folder, nothing)
    assert caught.value.reference == "index-unreachable"
    assert "pip config list" in caught.value.hint


def test_a_link_that_breaks_once_is_tried_again(
    index: Index, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pin, real, told = index.offer("alpha"), process.run, list[str]()

    def broken_once(*_: object, **__: object) -> process.Completed:
        monkeypatch.setattr(process, "run", real)
        return process.Completed(1, ("ReadTimeoutError: Read timed out.",), 0.1)

    monkeypatch.setattr(process, "run", broken_once)
    fetch([pin], folder, told.append)
    assert wheels.is_right(folder / pin.filename, pin)
    assert any("attempt 2 of 3" in line for line in told)


def test_progress_counts_what_pip_has_received_so_far(
    index: Index, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []

    def half_way(
        *_: object, environment: dict[str, str], on_tick: Callable[[], None], **__: object
    ) -> process.Completed:
        (Path(environment["TMPDIR"]) / "demo.whl").write_bytes(b"x" * 500_000)
        on_tick()
        raise KeyboardInterrupt

    monkeypatch.setattr(wheels, "REPORT_EVERY_S", 0)
    monkeypatch.setattr(process, "run", half_way)
    with pytest.raises(KeyboardInterrupt):
        fetch([replace(PIN, size=1_000_000)], folder, told.append)
    assert "0.5 of 1.0 MB" in told[0]
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize(
    "pin",
    [
        replace(PIN, name="demo\n--index-url x"),
        replace(PIN, version="1.0 --pre"),
        replace(PIN, version="2.0"),
        replace(PIN, name="other"),
        replace(PIN, sha256="a" * 63 + " "),
        replace(PIN, filename="demo-1.0.tar.gz"),
        replace(PIN, filename="../demo-1.0-py3-none-any.whl"),
    ],
)
def test_nothing_of_a_pin_can_act_as_an_option_or_a_path(pin: WheelPin) -> None:
    with pytest.raises(BadUsage):
        requirement(pin)


def test_a_pin_allows_exactly_one_file() -> None:
    assert requirement(PIN) == "demo==1.0 --hash=sha256:" + "a" * 64


def test_batches_are_small_and_lose_nothing() -> None:
    pins = [replace(PIN, size=size) for size in (3, 3, 3, 20, 1)]
    assert [[pin.size for pin in batch] for batch in batches(pins, 7)] == [[3, 3], [3], [20], [1]]
