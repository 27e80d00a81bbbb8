"""`aibox bundle` and `aibox have` as typed: exit codes, one JSON document, lines to file."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from aibox import bundling
from aibox.bundle.layout import MANIFEST
from aibox.bundle.trust.have import verify_have
from aibox.bundling import Order
from aibox.errors import ExitCode
from aibox.locking import Sources
from small_bundle import MACHINE, PYTHON, Parts, SmallBundle, Supplier
from small_site import SmallSite

Types = Callable[..., Any]

SPREAD = Parts(trees={f"app/{n}.bin": bytes([n]) * 150_000 for n in range(1, 9)})


@pytest.fixture
def bundle(supplier: Supplier) -> SmallBundle:
    return supplier.bundle()


# -- verify -------------------------------------------------------------------------------------


def test_a_sound_bundle_is_exit_0_and_a_report(
    types: Types, supplier: Supplier, bundle: SmallBundle
) -> None:
    words = ("bundle", "verify", bundle.folder, "--root", supplier.root)
    ended = types(*words, "--json")
    assert (ended.code, ended.json["ok"], ended.json["refused"]) == (0, True, [])
    assert ended.json["key"][0]["name"] == "release-1"
    read = types(*words)
    assert read.code == 0
    assert read.out.splitlines()[-1] == "Result:      accepted"


def test_a_refused_bundle_is_exit_4_with_one_document_that_says_why(
    types: Types, supplier: Supplier, bundle: SmallBundle
) -> None:
    bundle.of(b"a driver").write_bytes(b"a drivel")
    words = ("bundle", "verify", bundle.folder, "--root", supplier.root)
    ended = types(*words, "--json")
    assert (ended.code, ended.json["ok"]) == (4, False)
    assert ended.json["refused"][0]["reference"] == "bundle-file-differs"
    assert "error[bundle-file-differs]" in ended.err
    read = types(*words)
    assert read.code == 4
    assert read.out.splitlines()[-1] == "Result:      REFUSED"
    assert "error[" not in read.out


def test_what_nobody_trusts_is_exit_4(types: Types, bundle: SmallBundle) -> None:
    ended = types("bundle", "verify", bundle.folder, "--json")
    assert (ended.code, ended.json["key"]) == (4, None)
    assert ended.json["refused"][0]["reference"] == "root-not-trusted"
    assert "./aibox trust add ROOT" in ended.err


def test_an_unsigned_bundle_is_checked_when_it_is_said(types: Types, supplier: Supplier) -> None:
    unsigned = supplier.bundle("unsigned", signed=False).folder
    assert types("bundle", "verify", unsigned).code == 4
    ended = types("bundle", "verify", unsigned, "--allow-unsigned", "--json")
    assert (ended.code, ended.json["key"]) == (0, None)


@pytest.mark.parametrize("command", ["verify", "inspect"])
def test_a_folder_without_a_bundle_is_wrong_usage(types: Types, place: Path, command: str) -> None:
    for folder in (place, place / "gone"):
        ended = types("bundle", command, folder, "--json")
        assert (ended.code, ended.json["reference"]) == (ExitCode.BAD_USAGE, "bundle-not-found")


# -- inspect ------------------------------------------------------------------------------------


def test_a_bundle_is_shown_without_being_believed(
    types: Types, bundle: SmallBundle, place: Path
) -> None:
    ended = types("bundle", "inspect", bundle.folder, "--json")
    assert (ended.code, ended.json["bundle"]) == (0, bundle.made.bundle)
    assert {row["kind"] for row in ended.json["kinds"]} >= {"model", "image", "package", "wheel"}
    read = types("bundle", "inspect", bundle.folder)
    assert "nothing of this was verified" in read.err
    assert "megabytes" in read.out
    assert not (place / "box").exists()


def test_garbage_is_exit_4(types: Types, bundle: SmallBundle) -> None:
    (bundle.folder / MANIFEST).write_bytes(b"garbage")
    ended = types("bundle", "inspect", bundle.folder, "--json")
    assert (ended.code, ended.json["reference"]) == (4, "bundle-malformed")


# -- split --------------------------------------------------------------------------------------


def test_a_bundle_is_divided_and_joined(types: Types, supplier: Supplier, place: Path) -> None:
    whole = supplier.bundle("whole", SPREAD).folder
    words = ("bundle", "split", whole, "--output", place / "parts")
    ended = types(*words, "--volume-size", "3200kB", "--json")
    folders = ended.json["folders"]
    assert (ended.code, len(folders) > 2) == (0, True)
    joined = types("bundle", "split", *folders, "--output", place / "joined")
    assert (joined.code, joined.out) == (0, f"Volume:  {place / 'joined'}\n")
    assert (place / "joined" / MANIFEST).read_bytes() == (whole / MANIFEST).read_bytes()
    again = types(*words, "--volume-size", "3200kB", "--json")
    assert (again.code, again.json["reference"]) == (ExitCode.BAD_USAGE, "bundle-exists")
    words = ("bundle", "split", whole, "--output", place / "small")
    small = types(*words, "--volume-size", "1MB", "--json")
    assert (small.code, small.json["reference"]) == (ExitCode.BAD_USAGE, "volume-too-small")


# -- build --------------------------------------------------------------------------------------


def test_what_is_said_about_a_build_reaches_the_order(
    types: Types,
    bundle: SmallBundle,
    place: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    orders: list[Order] = []

    def build(_content: object, order: Order, _report: object) -> object:
        orders.append(order)
        return bundle.made

    monkeypatch.setattr(bundling, "build", build)
    output = place / "new"
    ended = types("bundle", "build", "--profile", "local", "--output", output, "--json")
    assert (ended.code, ended.json["signed"]) == (0, False)
    assert ended.json["bundle"] == bundle.made.bundle
    assert orders[-1] == Order(profiles=("local",), output=output)
    types(
        *("bundle", "build", "--profile", "b", "--profile", "a", "--profile", "b"),
        *("--output", output, "--sign", "keys", "--have", "have.json", "--volume-size", "25GB"),
        *("--architecture", "aarch64", "--python", "3.12", "--without", "llama"),
        *("--for-operator", "--skip-proof", "--mirrors", "m.toml", "--hub-token-file", "t"),
    )
    assert orders[-1] == Order(
        profiles=("b", "a"),
        output=output,
        have=Path("have.json"),
        sign=Path("keys"),
        volume_bytes=25 * 10**9,
        architectures=("aarch64",),
        pythons=("3.12",),
        without=frozenset({"llama"}),
        for_operator=True,
        prove=False,
        sources=Sources(Path("m.toml"), Path("t")),
    )
    read = types("bundle", "build", "--profile", "local", "--output", output)
    assert read.out.startswith(f"Bundle:  {bundle.folder}\n")
    assert "nobody signed it" in read.err


def test_a_size_without_a_unit_is_wrong_usage(types: Types, place: Path) -> None:
    words = ("bundle", "build", "--profile", "local", "--output", place / "x")
    ended = types(*words, "--volume-size", "25", "--json")
    assert (ended.code, ended.json["reference"]) == (ExitCode.BAD_USAGE, "size-invalid")


# -- have ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ["", "\n", "\r\n"])
def test_what_a_box_prints_can_be_given_back(
    types: Types,
    supplier: Supplier,
    site: SmallSite,
    bundle: SmallBundle,
    place: Path,
    ending: str,
) -> None:
    site.trusting(supplier)
    site.serves(site.stage(bundle.folder))
    ended = types("have")
    assert (ended.code, ended.out[-1]) == (0, "\n")
    assert types("have", "--json").json["signed"]["box"] == json.loads(ended.out)["signed"]["box"]
    have = place / "have.json"
    have.write_bytes((ended.out.rstrip("\n") + ending).encode())
    found = bundling._read_have(replace(Order(("local",), place), have=have))
    assert found == verify_have(ended.out.rstrip("\n").encode())
    assert (found.architecture, found.python) == (MACHINE, PYTHON)
    assert found.blobs.keys() == bundle.gathered.needed().keys()


def test_without_a_box_nothing_is_held(types: Types) -> None:
    ended = types("have", "--json")
    assert (ended.code, ended.json["reference"]) == (ExitCode.BAD_USAGE, "no-box")
