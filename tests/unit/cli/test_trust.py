"""`aibox trust` as it is typed, by a maker and on a box."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from aibox.bundle.trust import keys as key_files
from aibox.bundle.trust.metadata import fingerprint, parse
from aibox.errors import ExitCode
from small_bundle import Supplier

Types = Callable[..., Any]


def refused(ended: Any) -> tuple[int, str]:
    return ended.code, ended.json["reference"]


def key_id(folder: Path, name: str) -> str:
    return key_files.key_id(key_files.read_public(folder / f"{name}.pub"))


# -- a maker ------------------------------------------------------------------------------------


def test_keys_are_made_and_the_fingerprint_is_told(types: Types, place: Path) -> None:
    folder = place / "made"
    ended = types("trust", "init", folder, "--json")
    root = (folder / "1.root.json").read_bytes()
    assert (ended.code, ended.json["fingerprint"]) == (0, fingerprint(root))
    assert {path.name for path in folder.glob("*.pub")} == {
        *("root-1.pub", "root-2.pub", "root-3.pub", "release-1.pub", "release-2.pub"),
    }
    again = types("trust", "init", folder, "--json")
    assert refused(again) == (ExitCode.BAD_USAGE, "keys-exist")
    assert (folder / "1.root.json").read_bytes() == root


def test_how_many_keys_there_are_and_sign_is_said(types: Types, place: Path) -> None:
    words = ("--root-keys", "1", "--root-threshold", "1", "--release-keys", "1")
    read = types("trust", "init", place / "one", *words)
    assert read.code == 0
    assert "Fingerprint:" in read.out
    assert "delivery note" in read.err
    root = parse((place / "one/1.root.json").read_bytes())
    assert (len(root.keys("root")), root.threshold("root")) == (1, 1)
    too_many = types("trust", "init", place / "two", "--root-threshold", "9", "--json")
    assert refused(too_many) == (ExitCode.BAD_USAGE, "threshold-unreachable")
    assert not list(place.glob("two/*"))


def test_the_next_root_has_other_keys(types: Types, supplier: Supplier) -> None:
    folder = supplier.keys
    old = key_id(folder, "release-1")
    ended = types("trust", "rotate", folder, "--new-release-key", "--remove", old, "--json")
    assert (ended.code, ended.json["kind"]) == (0, "root")
    root = parse((folder / "2.root.json").read_bytes())
    assert root.keys("targets").keys() == {key_id(folder, "release-2")}
    unknown = types("trust", "rotate", folder, "--remove", "f" * 64, "--json")
    assert refused(unknown) == (ExitCode.BAD_USAGE, "key-unknown")
    assert unknown.json["hint"].endswith("./aibox trust rotate DIR")
    last = ("--remove", key_id(folder, "release-2"))
    too_few = types("trust", "rotate", folder, *last, "--json")
    assert refused(too_few) == (ExitCode.BAD_USAGE, "threshold-unreachable")
    assert too_few.json["hint"].endswith("./aibox trust rotate DIR")
    more = types("trust", "rotate", folder, "--new-root-key")
    assert (
        more.out == f"root written to {folder} ({(folder / '3.root.json').stat().st_size} bytes)\n"
    )


def test_what_is_revoked_is_added_up(types: Types, supplier: Supplier) -> None:
    folder = supplier.keys
    assert types("trust", "revoke", folder, "--blob", "a" * 64).code == 0
    ended = types(
        *("trust", "revoke", folder, "--bundle", "b" * 64, "--min-sequence", "7", "--json"),
    )
    assert (ended.code, ended.json["kind"]) == (0, "revocations")
    signed = json.loads((folder / "revoked.json").read_bytes())["signed"]
    assert (signed["version"], signed["min_sequence"]) == (2, 7)
    assert (signed["blobs"], signed["bundles"]) == (["a" * 64], ["b" * 64])


@pytest.mark.parametrize(
    ("words", "reference"),
    [
        ((), "nothing-to-revoke"),
        (("--blob", "abc"), "revocation-malformed"),
        (("--release-key", "f" * 64), "key-unknown"),
    ],
)
def test_what_cannot_be_revoked_changes_nothing(
    types: Types, supplier: Supplier, words: tuple[str, ...], reference: str
) -> None:
    ended = types("trust", "revoke", supplier.keys, *words, "--json")
    assert refused(ended) == (ExitCode.BAD_USAGE, reference)
    assert ended.json["hint"].endswith("./aibox trust revoke DIR")
    assert not (supplier.keys / "revoked.json").exists()


@pytest.mark.parametrize("command", ["rotate", "revoke"])
def test_a_folder_without_keys_is_wrong_usage(types: Types, place: Path, command: str) -> None:
    more = ("--blob", "a" * 64) if command == "revoke" else ()
    ended = types("trust", command, place / "nowhere", *more, "--json")
    assert ended.code == ExitCode.BAD_USAGE
    assert "./aibox trust" in ended.json["hint"]


# -- a box --------------------------------------------------------------------------------------


def test_a_box_without_trust_lists_nobody_and_is_not_made(types: Types, place: Path) -> None:
    ended = types("trust", "list", "--json")
    assert (ended.code, ended.json) == (0, [])
    assert types("trust", "list").out.split() == [
        *("fingerprint", "root", "expires", "sequence", "keys", "revoked", "trouble"),
    ]
    assert not (place / "box").exists()


def test_whom_a_box_trusts_is_listed(types: Types, supplier: Supplier) -> None:
    added = types("trust", "add", supplier.root, "--json")
    assert (added.code, added.json["root"], added.json["keys"]) == (0, 1, "release-1")
    (row,) = types("trust", "list", "--json").json
    assert row == added.json
    assert row["fingerprint"] == fingerprint(supplier.root.read_bytes())
    assert (row["sequence"], row["revoked"], row["trouble"]) == (0, None, "")
    read = types("trust", "add", supplier.root)
    assert read.out == f"Trusted:  {row['fingerprint']}\n"
    assert row["fingerprint"] in types("trust", "list").out
    shutil.rmtree(read.err.split("trust it no more: rm -r ")[1].strip())
    assert types("trust", "list", "--json").json == []


def test_newer_roots_and_lists_are_taken_in(types: Types, supplier: Supplier) -> None:
    types("trust", "add", supplier.root)
    types("trust", "rotate", supplier.keys, "--new-release-key")
    types("trust", "revoke", supplier.keys, "--min-sequence", "3")
    root = types("trust", "apply", supplier.keys / "2.root.json", "--json")
    assert root.json == {"kind": "root", "version": 2, "changed": True}
    revoked = types("trust", "apply", supplier.keys / "revoked.json")
    assert (revoked.code, revoked.out) == (0, "revocations 1 taken in\n")
    assert types("trust", "apply", supplier.keys / "revoked.json").out == (
        "revocations 1 was known already\n"
    )
    (row,) = types("trust", "list", "--json").json
    assert (row["root"], row["revoked"]["min_sequence"]) == (2, 3)


def test_what_was_revoked_is_listed_and_a_revoked_key_counts_no_more(
    types: Types, supplier: Supplier
) -> None:
    types("trust", "add", supplier.root)
    key = ("--release-key", key_id(supplier.keys, "release-1"))
    types("trust", "revoke", supplier.keys, *key, "--blob", "a" * 64, "--min-sequence", "3")
    types("trust", "apply", supplier.keys / "revoked.json")
    assert "  key release-1, files: 1, sequences below 3" in types("trust", "list").out
    (row,) = types("trust", "list", "--json").json
    assert (row["keys"], list(row["release_keys"].values())) == ("", ["release-1"])


def test_what_cannot_be_trusted_is_exit_4_and_changes_nothing(
    types: Types, supplier: Supplier, place: Path
) -> None:
    types("trust", "rotate", supplier.keys, "--new-release-key")
    later, garbage = supplier.keys / "2.root.json", place / "garbage"
    garbage.write_bytes(b"garbage")
    assert refused(types("trust", "add", later, "--json")) == (4, "root-not-first")
    assert refused(types("trust", "add", garbage, "--json")) == (4, "root-malformed")
    assert refused(types("trust", "apply", later, "--json")) == (4, "root-not-trusted")
    assert types("trust", "list", "--json").json == []
    types("trust", "add", supplier.root)
    assert refused(types("trust", "apply", garbage, "--json")) == (4, "trust-file-malformed")
    (row,) = types("trust", "list", "--json").json
    assert row["root"] == 1


@pytest.mark.parametrize("command", ["add", "apply"])
def test_a_file_that_is_not_there_is_wrong_usage(types: Types, place: Path, command: str) -> None:
    ended = types("trust", command, place / "gone", "--json")
    assert refused(ended) == (ExitCode.BAD_USAGE, "file-unreadable")
    assert f"./aibox trust {command} " in ended.json["hint"]
