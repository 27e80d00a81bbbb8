"""The bundled Python on an old host: Debian 11 with glibc 2.31 and no Python of its own at all."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from aibox.bundle.build import archive_files, debian, interpreter, mirrors_file
from aibox.bundle.build.cache import BlobCache
from aibox.bundle.packages import python_folder
from package_archives import Said
from wheel_maker import make_wheel

from .package_root import inside, why_not
from .systemd_host import mirror

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.enable_socket,
    pytest.mark.timeout(900),
    pytest.mark.skipif(bool(why_not()), reason=why_not()),
]

USER = "65534"
# Two whose code is compiled and looks for libraries of the host: Rust, and OpenSSL in Rust.
COMPILED = ("pydantic-core", "cryptography")
LOOK = """
import bz2, ctypes, decimal, hashlib, json, lzma, os, pwd, socket, sqlite3, ssl, subprocess
import sys, uuid, venv, zlib
assert ctypes.CDLL(None).getpid() == os.getpid()
ssl.create_default_context()
sqlite3.connect(":memory:").execute("select 1")
socket.getaddrinfo("127.0.0.1", 80)
assert pwd.getpwuid(0).pw_name == "root"
child = subprocess.check_output([sys.executable, "-c", "import sys; print(sys.executable)"])
assert child.decode().strip() == sys.executable
assert sys.executable == sys.argv[1], sys.executable
assert sys.prefix == sys.argv[2], sys.prefix
print(json.dumps([sys.version_info[:2], os.confstr("CS_GNU_LIBC_VERSION")]))
"""


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tar, from the real packages of the archive."""
    return make(tmp_path_factory.mktemp("packed"), "amd64")


def make(folder: Path, architecture: str) -> Path:
    mirrors = mirrors_file.read()
    wish = python_folder.wish(architecture)
    pins = debian.resolve(wish, architecture, mirrors, Said(), base=False)
    cache = BlobCache(folder / "cache")
    archive_files.fetch(pins, cache, mirrors, Said())
    sizes = {item.sha256: item.size for item in pins.packages}

    def file(sha256: str) -> Path:
        path = cache.find(sha256, sizes[sha256])
        assert path is not None
        return path

    interpreter.make(pins, file, folder / "python.tar", Said())
    again = folder / "again.tar"
    interpreter.make(pins, file, again, Said())
    assert again.read_bytes() == (folder / "python.tar").read_bytes()
    again.unlink()
    return folder / "python.tar"


@pytest.fixture
def python(packed: Path, tmp_path: Path) -> Path:
    """Unpacked, then moved to a path with a space and Korean, owned by nobody in particular."""
    first, second = tmp_path / "first", tmp_path / "내 folder" / "둘 python"
    first.mkdir()
    subprocess.run(["tar", "--extract", "--file", packed, "--directory", first], check=True)
    second.parent.mkdir()
    first.rename(second)
    subprocess.run(["chown", "--recursive", f"{USER}:{USER}", tmp_path], check=True)
    # Of pytest's own folders, as many as there are: one more where tests run beside others.
    common = Path(tempfile.gettempdir())
    for folder in (tmp_path, *tmp_path.parents):
        if common in folder.parents:
            folder.chmod(0o755)
    return second / "bin/python3"


def as_nobody(*words: str | Path, **variables: str) -> str:
    """What a command of an ordinary user says; it must succeed."""
    user = ("setpriv", "--reuid", USER, "--regid", USER, "--clear-groups", "--no-new-privs")
    done = subprocess.run(
        [*user, *map(str, words)],
        env={"PATH": "/usr/bin:/bin", **variables},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_it_runs_wherever_it_lies(
    python: Path, packed: Path, figure: Callable[[str], None]
) -> None:
    home = python.parents[1]
    said = as_nobody(python, "-c", LOOK, python, home)
    assert said.startswith("[[3, 11]")
    figure(f"bundled Python: {packed.stat().st_size / 1e6:.1f} MB of tar")


def test_names_that_lead_to_it_work_too(python: Path, tmp_path: Path) -> None:
    home = python.parents[1]
    link = tmp_path / "link"
    link.symlink_to(python)
    as_nobody(link, "-c", LOOK, link, home)
    show = "import sys; print(sys.executable)"
    assert as_nobody("python3", "-c", show, PATH=f"{python.parent}:/usr/bin:/bin") == f"{python}\n"


@pytest.mark.parametrize("how", [(), ("--copies",)])
def test_environments_work_and_know_what_they_are(
    python: Path, tmp_path: Path, how: tuple[str, ...]
) -> None:
    made = tmp_path / "내 environment"
    as_nobody(python, "-m", "venv", *how, made)
    own = made / "bin/python"
    as_nobody(own, "-c", LOOK, own, made)
    assert str(made) in as_nobody(own, "-m", "pip", "--version")
    assert str(made) in as_nobody(made / "bin/pip", "--version")
    nested = tmp_path / "nested"
    as_nobody(own, "-m", "venv", "--without-pip", nested)
    as_nobody(nested / "bin/python", "-c", LOOK, nested / "bin/python", nested)


@pytest.mark.parametrize(
    "variables", [{"LC_ALL": "C"}, {"LC_ALL": "ko_KR.UTF-8"}, {"LD_LIBRARY_PATH": "/lib"}]
)
def test_surroundings_of_the_host_do_no_harm(python: Path, variables: dict[str, str]) -> None:
    show = "import sys; print(sys.getfilesystemencoding(), sys.argv[1])"
    assert as_nobody(python, "-c", show, "한글", **variables) == "utf-8 한글\n"


def test_a_folder_that_the_loader_cannot_be_told_says_so(python: Path) -> None:
    home = python.parents[1]
    odd = home.with_name("a:b")
    home.rename(odd)
    done = subprocess.run(
        [odd / "bin/python3", "-c", ""], capture_output=True, text=True, check=False
    )
    assert done.returncode == 126
    assert "colon" in done.stderr


def test_there_is_one_for_arm_too(tmp_path: Path) -> None:
    """Put together and complete; it cannot be run here."""
    packed = make(tmp_path, "arm64")
    assert packed.stat().st_size > 20_000_000


@pytest.fixture(scope="module")
def old_host(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("old") / "root"
    done = subprocess.run(
        ["debootstrap", "--variant=minbase", "bullseye", root, mirror()],
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "DPKG_FORCE": "unsafe-io"},
    )
    if done.returncode and "Release" in done.stdout + done.stderr:
        pytest.skip("the mirror of this machine no longer has Debian 11")
    assert done.returncode == 0, done.stdout[-2000:]
    return root


def test_an_old_host_gets_an_environment_with_compiled_packages(
    old_host: Path, packed: Path, tmp_path: Path
) -> None:
    media = tmp_path / "media"
    media.mkdir()
    make_wheel(media, {"demo.py": b"ANSWER = 42\n"})
    platforms = [f"--platform=manylinux{tag}_x86_64" for tag in ("2014", "_2_28", "_2_34")]
    wanted = ["--only-binary=:all:", "--python-version=3.11", *platforms]
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    subprocess.run([*pip, "download", "--quiet", *wanted, "--dest", media, *COMPILED], check=True)
    shutil.copy(packed, media)
    script = f"""
        mkdir -p '/opt/내 box'
        tar -C '/opt/내 box' -xf {media}/python.tar
        chown -R {USER}:{USER} '/opt/내 box'
        ! command -v python3
        exec setpriv --reuid {USER} --regid {USER} --clear-groups sh -eu -c '
            cd "/opt/내 box"
            bin/python3 -m venv environment
            environment/bin/python -m pip install --no-index --find-links {media} \
                demo {" ".join(COMPILED)}
            environment/bin/python -c "
import os, demo, pydantic_core, cryptography.fernet
assert demo.ANSWER == 42
cryptography.fernet.Fernet.generate_key()
print(os.confstr(\\"CS_GNU_LIBC_VERSION\\"), pydantic_core.__version__)
"
        '
    """
    done = inside(old_host, script, media)
    assert done.returncode == 0, done.stdout[-3000:]
    assert "glibc 2.36" in done.stdout
