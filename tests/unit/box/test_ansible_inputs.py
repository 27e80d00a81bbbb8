"""What Ansible is given: variables are data, files are private, the environment is a list."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from aibox.box import ansible_inputs
from aibox.errors import Failed

TEMPLATE = "{{ lookup('pipe', 'id') }}"


def test_every_string_is_marked_as_data_however_deep_it_lies() -> None:
    marked = ansible_inputs.as_data({"list": [{"key": TEMPLATE}], "path": Path("/a b")})
    assert marked == {
        "list": [{"key": {"__ansible_unsafe": TEMPLATE}}],
        "path": {"__ansible_unsafe": "/a b"},
    }


@pytest.mark.parametrize("value", [None, True, 7, 0.5])
def test_what_is_no_string_stays_as_it_is(value: object) -> None:
    assert ansible_inputs.as_data(value) is value


@pytest.mark.parametrize(
    "value",
    [{"__ansible_unsafe": "x"}, {"__ansible_vault": "x"}, {1: "x"}, float("nan"), {"a"}, b"x"],
)
def test_what_ansible_could_misunderstand_is_refused(value: object) -> None:
    with pytest.raises(Failed, match="cannot be handed to Ansible"):
        ansible_inputs.as_data(value)


@pytest.mark.parametrize("name", ["with space", "{{ x }}", "Upper", "9", ""])
def test_a_name_that_is_no_variable_is_refused_before_anything_is_written(
    name: str, tmp_path: Path
) -> None:
    with pytest.raises(Failed):
        ansible_inputs.write(tmp_path / "run", {name: 1})
    assert not (tmp_path / "run").exists()


def test_inputs_are_private_even_where_readable_files_were(tmp_path: Path) -> None:
    (tmp_path / "vars.json").touch(mode=0o644)
    ansible_inputs.write(tmp_path, {"port": 8642})
    modes = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()}
    assert modes == {"ansible.cfg": 0o600, "inventory.json": 0o600, "vars.json": 0o600}
    assert json.loads((tmp_path / "vars.json").read_text()) == {"port": 8642}


def test_the_environment_holds_what_is_listed_and_no_secret(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("API_KEY", "s3cret")
    monkeypatch.setenv("ANSIBLE_STRATEGY", "debug")
    monkeypatch.setenv("HOME", "/home/ann")
    environment = ansible_inputs.environment(tmp_path, tmp_path / "roles")
    assert environment["HOME"] == "/home/ann"
    assert environment["LC_ALL"] == "C.UTF-8"
    assert not {"API_KEY", "ANSIBLE_STRATEGY"} & environment.keys()
