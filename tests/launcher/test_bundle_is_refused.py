"""./aibox in a bundle that is not what it should be: nothing is started, and it is said why."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from bundle_doubles import REPOSITORY

from .bundle_on_host import BundleOnHost, make_bundle


@pytest.fixture
def host(tmp_path: Path) -> BundleOnHost:
    return make_bundle(tmp_path)


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-10] ^= 1
    path.write_bytes(data)


def assert_refused(host: BundleOnHost, reference: str, code: int, names: str = "") -> None:
    said = host.refused()
    *_, hint, status = said.splitlines()
    assert f"error[{reference}]" in said
    assert names in said
    assert hint.startswith("  hint: ")
    assert status == str(code)
    assert not (host.folder / "program.txt").exists()
    assert not (host.folder / ".venv").exists()


@pytest.mark.parametrize(
    "path", ["installer/aibox/__main__.py", "bundled-wheels/tiny-1.0-py3-none-any.whl", "aibox"]
)
def test_a_flipped_byte_in_a_blob(host: BundleOnHost, path: str) -> None:
    flip(host.blob(path))
    assert_refused(host, "bundle-damaged", 4, host.blob(path).name)


def test_a_flipped_byte_in_the_text(host: BundleOnHost) -> None:
    flip(host.root / "program.txt")
    assert_refused(host, "bundle-damaged", 4, "program.txt")


@pytest.mark.parametrize(
    "name", ["medium.py", "make_environment.py", "unpack_program.py", "interpreter.sh"]
)
def test_a_flipped_byte_in_the_launcher(host: BundleOnHost, name: str) -> None:
    flip(host.root / "launcher" / name)
    assert_refused(host, "bundle-damaged", 4, f"launcher/{name}: FAILED")


def test_a_missing_part_of_the_launcher(host: BundleOnHost) -> None:
    (host.root / "launcher" / "progress.py").unlink()
    assert_refused(host, "bundle-damaged", 4, "launcher/progress.py: FAILED open or read")


def test_sums_that_the_manifest_does_not_name(host: BundleOnHost) -> None:
    flip(host.root / "bootstrap.sha256")
    assert_refused(host, "bundle-damaged", 4, "bootstrap.sha256")


def test_sums_of_another_bundle(host: BundleOnHost) -> None:
    (host.root / "bundle.json").write_text("{}")
    assert_refused(host, "bundle-damaged", 4, "bootstrap.sha256")


def test_without_the_text(host: BundleOnHost) -> None:
    (host.root / "program.txt").unlink()
    said = host.refused()
    assert "error[bundle-damaged]" in said
    assert "program.txt is missing" in said
    assert said.endswith("4")


def test_without_the_sums(host: BundleOnHost) -> None:
    (host.root / "bootstrap.sha256").unlink()
    assert_refused(host, "bundle-damaged", 4, "bootstrap.sha256")


def test_a_missing_blob(host: BundleOnHost) -> None:
    host.blob("requirements/cli.lock").unlink()
    assert_refused(host, "bundle-incomplete", 4, "requirements/cli.lock")


def test_a_box_that_cannot_be_made(host: BundleOnHost, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    said = host.refused(AIBOX_HOME=str(tmp_path / "file" / "box"))
    assert "error[box-not-writable]" in said
    assert said.endswith("3")


def test_a_bundle_for_another_machine(tmp_path: Path) -> None:
    host = make_bundle(tmp_path, machine="riscv64")
    assert_refused(host, "other-architecture", 3, "(riscv64)")
    assert os.uname().machine in host.refused()


@pytest.mark.parametrize(
    "spoilt", ["bootstrap.sha256", "program.txt", "installer/aibox/__main__.py"]
)
def test_a_refusal_is_one_json_document_where_that_is_asked_for(
    host: BundleOnHost, spoilt: str
) -> None:
    flip(host.root / spoilt if (host.root / spoilt).exists() else host.blob(spoilt))
    done = host.run("install", "--json")
    told = json.loads(done.stdout)
    assert told["reference"] == "bundle-damaged"
    assert told["exit_code"] == done.returncode == 4
    assert f'"{host.root}/aibox"' in told["hint"] or f'cd "{host.root}"' in told["hint"]
    assert f"error[bundle-damaged]: {told['message']}" in done.stderr
    assert told["fault"] == "the host"


@pytest.mark.parametrize("shell", ["dash", "bash", "busybox"])
@pytest.mark.parametrize("text", ['say "ja" \\ nein', "한국어\tÄ\nend ", "", "%s $HOME `id`"])
def test_any_shell_writes_any_text_as_json(shell: str, text: str) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"no {shell} on this machine: apt-get install {shell}")
    command = [shell, *(["sh"] if shell == "busybox" else [])]
    script = f'set -eu\n. "{REPOSITORY}/launcher/environment.sh"\nrefuse 1 x you "$1" "$1" "$1"'
    done = subprocess.run(
        [*command, "-c", script, "sh", text],
        env={"PATH": "/nowhere", "AIBOX_JSON": "1"},
        executable=shutil.which(shell),
        capture_output=True,
        text=True,
    )
    plain = text.replace("\t", " ").replace("\n", " ")
    told = json.loads(done.stdout)
    assert [told[name] for name in ("message", "hint", "context")] == [plain] * 3
