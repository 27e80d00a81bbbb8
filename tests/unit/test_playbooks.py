"""Where a run of Ansible keeps what it said and did."""

from __future__ import annotations

from pathlib import Path

import pytest

from aibox import playbooks
from aibox.box.store import Store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "box")


def test_looking_at_a_host_without_a_box_leaves_nothing(store: Store) -> None:
    with playbooks.run_folder(store) as folder:
        (folder / "ansible.log").touch()
    assert not folder.exists()
    assert not store.layout.root.exists()


def test_what_a_failed_look_said_stays_to_be_read(store: Store) -> None:
    with pytest.raises(RuntimeError), playbooks.run_folder(store) as folder:
        raise RuntimeError
    folder.rmdir()  # It is there, and this test leaves nothing behind.


def test_a_box_keeps_its_newest_runs(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(playbooks, "KEPT_RUNS", 3)
    store.initialise()
    store.layout.lock.touch()
    made = []
    for _ in range(5):
        with playbooks.run_folder(store) as folder:
            made.append(folder)
    assert sorted((store.layout.root / "runs").iterdir()) == sorted(made)[-3:]
    assert made[-1].exists()
    assert made[-1].stat().st_mode & 0o777 == 0o700
