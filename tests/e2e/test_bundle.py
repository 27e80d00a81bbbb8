"""A bundle's whole way: built on a connected machine, carried, verified, installed where no network
is, changed by a delta, rolled back. Real packages, real program, real signatures."""

from __future__ import annotations

import filecmp
import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import mkdtemp

import pytest

from .journey import Person, clone
from .site_without_network import Site, site

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1500)]

QUESTION = "How do I roll back a failed upgrade?"
FRAGMENT = "stacks/rag/app/src/rag_app/__init__.py"


@pytest.fixture(scope="module")
def packager() -> Iterator[Person]:
    """Somebody with a clean clone and keys."""
    if os.geteuid() != 0:
        pytest.skip("a machine without a network is made by root: run ./test e2e as root")
    if shutil.which("ip") is None:
        pytest.skip("ip is missing: apt-get install iproute2")
    # Not pytest's folder, which is closed to everybody else.
    base = Path(mkdtemp(prefix="aibox-packager-"))
    base.chmod(0o755)
    (base / "home").mkdir()
    someone = Person(clone(base / "checkout"), base / "home")
    someone.types("trust", "init", str(base / "keys"))
    yield someone
    shutil.rmtree(base)


@pytest.fixture(scope="module")
def media(packager: Person) -> Path:
    """A stick with the bundle on it, which belongs to root and is read-only to others."""
    stick = packager.home.parent / "USB 스틱"
    stick.mkdir()
    build(packager, stick / "box")
    shutil.copy(packager.home.parent / "keys/1.root.json", stick / "1.root.json")
    return stick


@pytest.fixture(scope="module")
def here(media: Path) -> Iterator[Site]:
    """The site with the box installed from the stick, which was taken out then."""
    with site() as machine:
        install(machine, media / "box", "--root", media / "1.root.json")
        yield machine


def build(packager: Person, output: Path, *options: str) -> None:
    """Build the bundle of the local profile, signed; only the first one is proven."""
    packager.types(
        *("bundle", "build", "--profile", "local", "--output", str(output)),
        *("--sign", str(packager.home.parent / "keys"), *options),
    )


def install(machine: Site, bundle: Path, *options: str | Path, code: int = 0) -> None:
    machine.types(
        bundle / "aibox",
        *("install", "--profile", "local", "--bundle", bundle, "--port", str(machine.port)),
        *options,
        code=code,
    )


def carried(bundle: Path) -> int:
    """Bytes of a bundle on its medium."""
    return sum(path.stat().st_size for path in bundle.rglob("*") if path.is_file())


def test_a_customer_checks_the_bundle_before_running_any_of_it(
    packager: Person, media: Path
) -> None:
    bundle, keys = media / "box", packager.home.parent / "keys"
    verified = subprocess.run(
        ["ssh-keygen", "-Y", "verify", "-f", keys / "allowed_signers", "-I", "release@aibox",
         "-n", "bundle@aibox", "-s", bundle / "bundle.json.sig"],
        input=(bundle / "bundle.json").read_bytes(),
        capture_output=True,
    )  # fmt: skip
    assert verified.returncode == 0, verified.stderr
    sums = subprocess.run(["sha256sum", "bootstrap.sha256"], cwd=bundle, capture_output=True)
    assert sums.stdout.split()[0] in (bundle / "bundle.json").read_bytes()
    subprocess.run(["sha256sum", "--quiet", "-c", "bootstrap.sha256"], cwd=bundle, check=True)


def test_the_builder_proved_that_the_release_runs_without_a_network(
    packager: Person, media: Path
) -> None:
    (proof,) = packager.types("bundle", "inspect", str(media / "box"), "--json").json["proofs"]
    assert proof["proven"], proof


def test_somebody_unknown_is_refused_and_leaves_no_box(media: Path) -> None:
    with site() as machine:
        install(machine, media / "box", code=4)
        assert {path.name for path in machine.box.iterdir()} <= {"programs"}


def test_the_box_answers_from_the_medium_alone(here: Site, media: Path) -> None:
    assert here.interfaces() == ["lo"]
    taken_out = media.with_name("taken out")
    media.rename(taken_out)
    try:
        answer = here.asks(QUESTION)
        status = here.types(here.program, "status", "--json").json
    finally:
        taken_out.rename(media)
    assert answer["grounded"]
    assert answer["citations"][0]["document"] == "upgrade-and-rollback.md"
    assert status["state"] == "running"


def test_a_host_without_any_python_gets_one_from_the_bundle(media: Path) -> None:
    with site(python=False) as machine:
        install(machine, media / "box", "--root", media / "1.root.json")
        assert machine.asks(QUESTION)["grounded"]
        (interpreter,) = (machine.box / "programs").glob("*/interpreter/bin/python3")
        (environment,) = (machine.box / "environments").glob("*/bin/python")
        assert environment.resolve() == interpreter.resolve()


def test_messages_name_the_command_that_is_there(here: Site) -> None:
    done = here.types(here.program, "rollback", code=2)
    assert "./aibox" not in done.err
    assert "~/.local/share/aibox/bin/aibox history" in done.err


def test_the_record_says_who_signed(here: Site) -> None:
    (entry,) = here.types(here.program, "history", "--json").json
    assert entry["provenance"]["signed_by"]
    assert len(entry["provenance"]["bundle"]) == 64


def test_the_same_install_again_changes_nothing(here: Site, media: Path) -> None:
    install(here, media / "box")
    assert len(here.types(here.program, "history", "--json").json) == 1


def test_a_delta_brings_a_change_of_the_app_and_is_rolled_back(
    here: Site, packager: Person, media: Path, figure: Callable[[str], None]
) -> None:
    have = media / "have.json"
    have.write_text(here.types(here.program, "have").out, encoding="utf-8")
    source = packager.checkout / FRAGMENT
    source.write_text(source.read_text(encoding="utf-8") + "\n# A patch.\n", encoding="utf-8")
    packager.types("lock")
    delta = media / "delta"
    build(packager, delta, "--have", str(have), "--skip-proof")
    share = carried(delta) / carried(media / "box")
    figure(f"delta of a change in the app: {carried(delta)} bytes, {share:.2%} of the full bundle")
    assert share < 0.02

    before = here.types(here.program, "status", "--json").json["release"]
    here.types(here.program, "upgrade", "--bundle", delta, "--yes")
    assert here.asks(QUESTION)["grounded"]
    assert here.types(here.program, "status", "--json").json["release"] != before
    here.types(here.program, "rollback")
    assert here.types(here.program, "status", "--json").json["release"] == before
    assert here.asks(QUESTION)["grounded"]


def test_an_older_bundle_is_refused_once_a_newer_one_served(here: Site, media: Path) -> None:
    refused = here.types(
        here.program, "upgrade", "--bundle", media / "box", "--yes", "--json", code=4
    )
    assert refused.json["reference"] == "bundle-older"


def test_a_delta_does_not_install_where_its_rest_is_missing(media: Path) -> None:
    with site() as machine:
        install(machine, media / "box", "--root", media / "1.root.json")
        machine.types(machine.program, "uninstall", "--purge", "--yes")
        program = media / "box" / "aibox"
        done = machine.tries(
            program,
            *("install", "--profile", "local", "--bundle", media / "delta"),
            *("--root", media / "1.root.json", "--json"),
        )
        assert done.code == 2, done.err
        assert done.json["reference"] == "release-incomplete"


def test_the_same_lock_gives_the_same_bundle(packager: Person, media: Path) -> None:
    (packager.checkout / FRAGMENT).write_text(
        subprocess.run(
            ["git", "show", f"HEAD:{FRAGMENT}"],
            cwd=packager.checkout, check=True, capture_output=True, text=True,
        ).stdout,
        encoding="utf-8",
    )  # fmt: skip
    subprocess.run(["git", "checkout", "--quiet", "models.lock"], cwd=packager.checkout, check=True)
    twins = [media / "one", media / "folder" / "two"]
    twins[1].parent.mkdir()
    for number, twin in enumerate(twins):
        os.environ["TZ"] = ("Asia/Seoul", "America/New_York")[number]
        try:
            build(packager, twin, "--skip-proof")
        finally:
            del os.environ["TZ"]
    assert differences(*twins) == []
    assert [path.stat().st_mtime for path in tree(twins[0])] == [
        path.stat().st_mtime for path in tree(twins[1])
    ]


def tree(root: Path) -> list[Path]:
    return sorted(path for path in root.rglob("*") if path.is_file())


def differences(one: Path, other: Path) -> list[str]:
    names = [path.relative_to(one) for path in tree(one)]
    if names != [path.relative_to(other) for path in tree(other)]:
        return ["other files"]
    return [str(name) for name in names if not filecmp.cmp(one / name, other / name, shallow=False)]


def test_volumes_are_divided_missed_by_name_and_installed_from(
    packager: Person, media: Path
) -> None:
    volumes = media / "volumes"
    packager.types(
        *("bundle", "split", str(media / "box"), "--output", str(volumes)),
        *("--volume-size", "100MB"),
    )
    parts = sorted(volumes.iterdir())
    assert len(parts) >= 2
    root = ("--root", str(media / "1.root.json"))
    verified = packager.types("bundle", "verify", str(volumes), *root, "--json").json
    assert verified["ok"], verified
    lacking = packager.types("bundle", "verify", str(parts[0]), *root, "--json", code=4).json
    assert lacking["content"]["missing_volumes"]
    joined = media / "joined"
    packager.types("bundle", "split", *map(str, parts), "--output", str(joined))
    assert differences(media / "box", joined) == []


def test_volumes_are_brought_one_after_the_other(media: Path) -> None:
    parts = sorted((media / "volumes").iterdir())
    with site() as machine:
        root = ("--root", media / "1.root.json")
        install(machine, parts[0], *root, code=1)
        for part in parts[1:-1]:
            machine.types(machine_program(machine), "install", "--bundle", part, *root, code=1)
        done = machine.tries(
            machine_program(machine),
            *("install", "--profile", "local", "--bundle", parts[-1], *root),
            *("--port", str(machine.port)),
        )
        assert done.code == 0, done.err
        assert machine.asks(QUESTION)["grounded"]


def machine_program(machine: Site) -> Path:
    """The command line that the first volume unpacked; its link comes with the generation."""
    (program,) = (machine.box / "programs").iterdir()
    return program / "aibox"


def test_a_flipped_bit_is_named_and_the_same_command_works_after_repair(media: Path) -> None:
    copy = media / "copy"
    shutil.copytree(media / "box", copy)
    program = {line.split()[2] for line in (copy / "program.txt").read_text().splitlines()[1:]}
    victim = max(
        (path for path in (copy / "blobs/sha256").iterdir() if path.name not in program),
        key=lambda path: path.stat().st_size,
    )
    good = victim.read_bytes()
    victim.write_bytes(bytes([good[0] ^ 1]) + good[1:])
    with site() as machine:
        words = ("--root", media / "1.root.json")
        done = machine.tries(
            copy / "aibox",
            *("install", "--profile", "local", "--bundle", copy, *words),
            *("--port", str(machine.port), "--json"),
        )
        assert (done.code, done.json["reference"]) == (4, "bundle-file-differs"), done.err
        assert victim.name in done.json["context"]
        assert not (machine.box / "current").exists()
        victim.write_bytes(good)
        install(machine, copy, *words)
        assert machine.asks(QUESTION)["grounded"]


def test_the_report_can_be_filed(packager: Person, media: Path) -> None:
    words = ("bundle", "verify", str(media / "box"), "--root", str(media / "1.root.json"))
    report = json.loads(packager.types(*words, "--json").out)
    assert report["ok"]
    assert report["key"][0]["id"]
    assert "accepted" in packager.types(*words).out
