"""The role offline_repo on this host: the real apt and dnf, made packages, nothing installed."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import pytest

from aibox.errors import Failed
from ansible_runs import Runs
from package_archives import a_key, overwrite, publish, publish_rpms
from package_maker import make_deb, make_rpm, needs_apt, needs_dnf

STRANGE = "세대 100% 1"
PLAY = """\
    - name: {entry}
      ansible.builtin.import_role:
        name: offline_repo
        tasks_from: {entry}
"""


@dataclass(frozen=True)
class Repository:
    """A signed folder, and the folder where the role writes."""

    source: Path
    state: Path
    form: str = "deb"

    def variables(self, **more: object) -> dict[str, object]:
        return {
            "offline_repo_source": self.source,
            "offline_repo_state": self.state,
            "offline_repo_format": self.form,
            "offline_repo_suite": "trixie" if self.form == "deb" else "",
            **more,
        }

    @property
    def work(self) -> Path:
        return self.state / "repository" / "packages"


@pytest.fixture(scope="session")
def key_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("signing")


@pytest.fixture
def repository(runs: Runs, key_folder: Path) -> Repository:
    """One package, in a path with a space, a percent sign and Korean letters."""
    made = make_deb(runs.folder, "aibox-test-tool", files={"opt/aibox-test-tool": b"x"})
    plain = runs.folder / "plain"
    plain.mkdir()
    publish(plain, [made], a_key(key_folder))
    return Repository(plain.rename(runs.folder / STRANGE), runs.folder / "state")


def play(runs: Runs, entry: str, variables: Mapping[str, object], *, check: bool = False) -> int:
    return runs.play(runs.tasks(PLAY.format(entry=entry)), variables, check=check).changed


def apt(repository: Repository, *words: str) -> str:
    command = ["apt-get", "-c", str(repository.work / "apt.conf"), *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout + done.stderr


@needs_apt
def test_the_folder_is_known_apart_from_the_host_and_forgotten(
    runs: Runs, repository: Repository
) -> None:
    play(runs, "create", repository.variables())
    assert "Inst aibox-test-tool" in apt(repository, "--simulate", "install", "aibox-test-tool")
    assert "Unable to locate package" in apt(repository, "--simulate", "install", "cowsay")
    assert apt(repository, "indextargets", "--format", "$(SITE)|$(REPO_URI)").count("file:") >= 1
    assert "://" not in apt(repository, "indextargets", "--format", "$(REPO_URI)")
    play(runs, "remove", repository.variables())
    assert list(repository.state.iterdir()) == []


@pytest.fixture(scope="module")
def module(load_module: Callable[[str], ModuleType]) -> ModuleType:
    """The role's module, to be called without Ansible, which takes seconds."""
    return load_module("offline_repo/offline_repository")


def know(module: ModuleType, repository: Repository) -> None:
    given = {
        "work": repository.work,
        "source": repository.source,
        "key": repository.source / "aibox-packages.gpg",
        "format": "deb",
        "suite": "trixie",
        "components": ["main"],
    }
    module.know(given, check=False)


@needs_apt
def test_what_is_written_is_private_under_any_umask(
    module: ModuleType, repository: Repository
) -> None:
    before = os.umask(0o000)
    try:
        know(module, repository)
    finally:
        os.umask(before)
    assert stat.S_IMODE(repository.work.stat().st_mode) == 0o700


def test_check_mode_makes_nothing_where_the_folder_is_yet_to_come(runs: Runs) -> None:
    virgin = Repository(runs.folder / "nowhere", runs.folder / "state")
    play(runs, "create", virgin.variables(), check=True)
    assert not virgin.state.exists()


def test_a_missing_folder_is_named_with_what_to_type(runs: Runs) -> None:
    virgin = Repository(runs.folder / "nowhere", runs.folder / "state")
    with pytest.raises(Failed, match=r"no package repository at .*nowhere.*aibox install --bundle"):
        play(runs, "create", virgin.variables())


def test_a_place_that_apt_cannot_write_down_is_refused(module: ModuleType) -> None:
    spaced = Repository(Path("/nowhere"), Path("/a state"))
    with pytest.raises(module.Refused, match="AIBOX_HOME=/var/lib/aibox"):
        know(module, spaced)


def damage_index(repository: Repository) -> None:
    index = next(repository.source.glob("dists/trixie/main/binary-*/Packages"))
    overwrite(index, index.read_bytes().replace(b"made by a test", b"made by others", 1))


def damage_signed_text(repository: Repository) -> None:
    text = repository.source / "dists/trixie/InRelease"
    overwrite(text, text.read_bytes().replace(b"Label: aibox", b"Label: other", 1))


def drop_index(repository: Repository) -> None:
    next(repository.source.glob("dists/trixie/main/binary-*/Packages")).unlink()


def sign_with_another_key(repository: Repository) -> None:
    folder = repository.state.parent / "other"
    other = folder / "repository"
    other.mkdir(parents=True)
    publish(other, [make_deb(folder, "aibox-test-tool")], a_key(folder / "key"))
    overwrite(repository.source / "aibox-packages.gpg", (other / "aibox-packages.gpg").read_bytes())


@needs_apt
@pytest.mark.parametrize(
    "damage", [damage_index, damage_signed_text, drop_index, sign_with_another_key]
)
def test_a_repository_that_is_not_what_was_signed_is_refused(
    module: ModuleType, repository: Repository, damage: Callable[[Repository], None]
) -> None:
    # Known once and good: apt must not trust what it has seen before.
    know(module, repository)
    damage(repository)
    with pytest.raises(module.Refused, match=r"damaged.*aibox bundle verify"):
        know(module, repository)


@needs_apt
def test_check_mode_of_an_installation_says_what_would_come(
    runs: Runs, repository: Repository
) -> None:
    play(runs, "create", repository.variables())
    given = repository.variables(
        offline_repo_owner="test", offline_repo_packages=["aibox-test-tool"]
    )
    assert play(runs, "install", given, check=True) == 1
    assert list(repository.state.glob("*.json")) == []


@needs_apt
def test_a_package_that_the_repository_lacks_is_named(runs: Runs, repository: Repository) -> None:
    play(runs, "create", repository.variables())
    given = repository.variables(offline_repo_owner="test", offline_repo_packages=["cowsay-not"])
    with pytest.raises(Failed, match=r"localhost: .*cannot be installed .*cowsay-not.*apt-get -c"):
        play(runs, "install", given)


def test_where_nothing_was_brought_nothing_is_uninstalled(runs: Runs) -> None:
    virgin = Repository(runs.folder / "nowhere", runs.folder / "state")
    assert play(runs, "uninstall", virgin.variables(offline_repo_owner="test")) == 0


@needs_dnf
def test_dnf_knows_the_folder_and_refuses_another_key(runs: Runs, key_folder: Path) -> None:
    plain = runs.folder / "plain"
    plain.mkdir()
    made = [make_rpm(runs.folder, "aibox-test-tool")]
    publish_rpms(plain, made, a_key(key_folder))
    source = plain.rename(runs.folder / STRANGE)
    repository = Repository(source, runs.folder / "state", "rpm")
    play(runs, "create", repository.variables())
    given = repository.variables(
        offline_repo_owner="test", offline_repo_packages=["aibox-test-tool"]
    )
    assert play(runs, "install", given, check=True) == 1
    other = runs.folder / "other"
    other.mkdir()
    publish_rpms(other, made, a_key(runs.folder / "key"))
    overwrite(source / "aibox-packages.asc", (other / "aibox-packages.asc").read_bytes())
    with pytest.raises(Failed, match=r"localhost: .*not signed by the key.*aibox bundle verify"):
        play(runs, "create", repository.variables())


def test_apts_words_become_values(load_module: Callable[[str], ModuleType]) -> None:
    load_module("offline_repo/offline_packages")
    import ansible.module_utils.offline_apt as apt_words  # type: ignore[import-not-found]

    said = [
        "Reading package lists...",
        "Remv docker-ce [5:27.1]",
        "Purg old [1]",
        "Inst libc6 [2.41-11] (2.41-12 aibox:trixie [amd64])",
        "Inst docker.io (26.1.5+dfsg1-9 aibox:trixie [amd64])",
        "Inst libx:i386 (1 aibox:trixie [i386])",
        "Conf docker.io (26.1.5+dfsg1-9 aibox:trixie [amd64])",
    ]
    steps = apt_words.steps(said)
    assert steps.new == ("docker.io", "libx:i386")
    assert steps.changed == ("libc6",)
    assert steps.removed == ("docker-ce", "old")


def test_who_holds_the_lock_of_dpkg_is_named(
    load_module: Callable[[str], ModuleType], tmp_path: Path
) -> None:
    load_module("offline_repo/offline_packages")
    import ansible.module_utils.offline_apt as apt_words

    lock = tmp_path / "lock"
    assert apt_words.lock_holder(str(lock)) == ""
    lock.touch()
    assert apt_words.lock_holder(str(lock)) == ""
    script = "import fcntl,sys;f=open(sys.argv[1],'w');fcntl.lockf(f,2);print(1,flush=True);input()"
    words = [sys.executable, "-c", script, str(lock)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        other.stdout.readline()
        program = Path(sys.executable).name
        assert apt_words.lock_holder(str(lock)) == f"{program} ({other.pid})"
        other.terminate()
