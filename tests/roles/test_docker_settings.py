"""What is merged into daemon.json, and taken out again."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

OURS = {"log-driver": "json-file", "log-opts": {"max-size": "10m"}, "live-restore": True}


@pytest.fixture(scope="module")
def module(load_module: Callable[[str], ModuleType]) -> ModuleType:
    return load_module("container_runtime/docker_settings")


@pytest.fixture(autouse=True)
def without_dockerd(monkeypatch: pytest.MonkeyPatch, module: ModuleType) -> None:
    """No engine of this machine judges what the tests write."""
    monkeypatch.setattr(module.shutil, "which", lambda *_, **__: None)


def apply(
    module: ModuleType,
    folder: Path,
    wanted: dict[str, Any],
    *,
    owner: str = "role",
    state: str = "present",
    check: bool = False,
) -> dict[str, Any]:
    request = {
        "state": state,
        "owner": owner,
        "records": folder / "records",
        "settings": wanted,
        "path": folder / "docker" / "daemon.json",
    }
    return dict(module.answer(request, check=check))


def written(folder: Path) -> Any:
    return json.loads((folder / "docker" / "daemon.json").read_text())


def put(folder: Path, text: str) -> Path:
    path = folder / "docker" / "daemon.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    return path


def test_it_is_made_merged_once_and_taken_out_with_its_folder(
    module: ModuleType, tmp_path: Path
) -> None:
    assert apply(module, tmp_path, OURS)["changed"]
    assert written(tmp_path) == OURS
    assert not apply(module, tmp_path, OURS)["changed"]
    said = apply(module, tmp_path, {}, state="absent")
    assert said["taken"] == ["live-restore", "log-driver", "log-opts.max-size"]
    assert not (tmp_path / "docker").exists()
    assert list((tmp_path / "records").iterdir()) == []


def test_what_others_wrote_stays_and_is_told(module: ModuleType, tmp_path: Path) -> None:
    theirs = {"log-opts": {"max-size": "1g", "labels": "x"}, "registry-mirrors": ["m"]}
    path = put(tmp_path, json.dumps(theirs))
    path.chmod(0o640)
    said = apply(module, tmp_path, OURS)
    assert said["conflicts"] == ["log-opts.max-size"]
    assert written(tmp_path) == {**theirs, "log-driver": "json-file", "live-restore": True}
    assert list(written(tmp_path))[:2] == ["log-opts", "registry-mirrors"]
    assert path.stat().st_mode & 0o777 == 0o640
    apply(module, tmp_path, {}, state="absent")
    assert written(tmp_path) == theirs


def test_what_others_changed_afterwards_is_theirs(module: ModuleType, tmp_path: Path) -> None:
    apply(module, tmp_path, OURS)
    put(tmp_path, json.dumps({**OURS, "live-restore": False}))
    assert apply(module, tmp_path, OURS)["conflicts"] == ["live-restore"]
    apply(module, tmp_path, {}, state="absent")
    assert written(tmp_path) == {"live-restore": False}


def test_what_is_ours_follows_what_we_want(module: ModuleType, tmp_path: Path) -> None:
    apply(module, tmp_path, OURS)
    apply(module, tmp_path, {"log-opts": {"max-size": "20m"}})
    assert written(tmp_path) == {"log-opts": {"max-size": "20m"}}


def test_options_do_not_go_to_a_driver_that_has_none(module: ModuleType, tmp_path: Path) -> None:
    put(tmp_path, '{"log-driver": "journald"}')
    assert apply(module, tmp_path, OURS)["added"] == ["live-restore"]


@pytest.mark.parametrize("theirs", ['{"log-opts": "x"}', '{"log-opts": null}', '{"log-opts": []}'])
def test_an_object_does_not_displace_another_value(
    module: ModuleType, tmp_path: Path, theirs: str
) -> None:
    put(tmp_path, theirs)
    assert apply(module, tmp_path, OURS)["conflicts"] == ["log-opts.max-size"]
    assert written(tmp_path)["log-opts"] == json.loads(theirs)["log-opts"]


@pytest.mark.parametrize("text", ["{", "[]", "null", '"x"', "{'a': 1}", "\ufeff{}"])
def test_what_is_no_json_object_is_refused_and_left(
    module: ModuleType, tmp_path: Path, text: str
) -> None:
    path = put(tmp_path, text)
    with pytest.raises(module.Refused, match=r"left as it is.*python3 -m json.tool"):
        apply(module, tmp_path, OURS)
    assert path.read_text() == text


def test_an_empty_file_is_an_empty_object(module: ModuleType, tmp_path: Path) -> None:
    put(tmp_path, "\n")
    assert apply(module, tmp_path, OURS)["changed"]


def test_check_mode_writes_nothing(module: ModuleType, tmp_path: Path) -> None:
    assert apply(module, tmp_path, OURS, check=True)["added"]
    assert list(tmp_path.iterdir()) == []


def test_two_owners_take_out_what_is_theirs(module: ModuleType, tmp_path: Path) -> None:
    apply(module, tmp_path, OURS)
    apply(module, tmp_path, {"features": {"cdi": True}}, owner="other")
    apply(module, tmp_path, {}, state="absent")
    assert written(tmp_path) == {"features": {"cdi": True}}
    apply(module, tmp_path, {}, owner="other", state="absent")
    assert not (tmp_path / "docker").exists()


def test_a_link_is_followed_and_stays(module: ModuleType, tmp_path: Path) -> None:
    real = tmp_path / "real.json"
    real.write_text("{}")
    (tmp_path / "docker").mkdir()
    (tmp_path / "docker" / "daemon.json").symlink_to(real)
    apply(module, tmp_path, OURS)
    assert (tmp_path / "docker" / "daemon.json").is_symlink()
    assert json.loads(real.read_text()) == OURS


def test_the_engine_judges_first(
    module: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dockerd = tmp_path / "dockerd_double"
    dockerd.write_text("#!/bin/sh\necho 'unable to configure: unknown log opt' >&2\nexit 1\n")
    dockerd.chmod(0o755)
    monkeypatch.setattr(module.shutil, "which", lambda *_, **__: str(dockerd))
    with pytest.raises(module.Refused, match=r"unknown log opt.*nothing was changed"):
        apply(module, tmp_path, OURS)
    assert not (tmp_path / "docker").exists()
    dockerd.write_text("#!/bin/sh\necho 'unknown flag: --validate' >&2\nexit 125\n")
    assert apply(module, tmp_path, OURS)["changed"]


def test_a_power_cut_before_the_file_leaves_nothing_that_is_not_ours_to_take(
    module: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(tmp_path, '{"live-restore": true}')
    real = module.replace

    def cut(path: Path, data: bytes, mode: int) -> None:
        if path.name == "daemon.json":
            raise KeyboardInterrupt
        real(path, data, mode)

    monkeypatch.setattr(module, "replace", cut)
    with pytest.raises(KeyboardInterrupt):
        apply(module, tmp_path, OURS)
    monkeypatch.setattr(module, "replace", real)
    apply(module, tmp_path, {}, state="absent")
    assert written(tmp_path) == {"live-restore": True}


def test_a_power_cut_after_the_file_leaves_what_is_ours_known(
    module: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = module.replace

    def cut(path: Path, data: bytes, mode: int) -> None:
        real(path, data, mode)
        if path.name == "daemon.json":
            raise KeyboardInterrupt

    monkeypatch.setattr(module, "replace", cut)
    with pytest.raises(KeyboardInterrupt):
        apply(module, tmp_path, OURS)
    monkeypatch.setattr(module, "replace", real)
    assert written(tmp_path) == OURS
    apply(module, tmp_path, {}, state="absent")
    assert not (tmp_path / "docker").exists()


KEYS = st.sampled_from(["a", "b", "c", "a.b"])
VALUES = st.sampled_from([1, "x", True, None, [1]])
TREES = st.recursive(
    st.dictionaries(KEYS, VALUES, max_size=3),
    lambda inner: st.dictionaries(KEYS, st.one_of(VALUES, inner), max_size=3),
    max_leaves=6,
)


@settings(max_examples=200, deadline=None)
@given(theirs=TREES, first=TREES, second=TREES)
def test_whatever_we_wanted_in_between_the_owner_gets_back_what_was_there(
    module: ModuleType, theirs: dict[str, Any], first: dict[str, Any], second: dict[str, Any]
) -> None:
    once = module.merge(theirs, first, {})
    twice = module.merge(once.content, second, once.leaves)
    for path, value in module.leaves(theirs).items():
        if value != {}:
            assert module.leaves(twice.content)[path] == value
    again = module.merge(twice.content, second, twice.leaves)
    assert (again.content, again.added, again.taken) == (twice.content, (), ())
    emptied = module.merge(twice.content, {}, twice.leaves).content
    assert {k: v for k, v in module.leaves(emptied).items() if v != {}} == {
        k: v for k, v in module.leaves(theirs).items() if v != {}
    }
