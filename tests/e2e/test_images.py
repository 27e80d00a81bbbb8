"""Images from a real registry into the cache and out again; skopeo judges, Docker loads."""

from __future__ import annotations

import gzip
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import tarfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from aibox import objects
from aibox.bundle.build import registry
from aibox.bundle.build.cache import BlobCache
from aibox.bundle.images.check import check
from aibox.bundle.licences import classify
from aibox.errors import Failed
from aibox.pins import Blob, ImagePin, ImagePlatform, Redistribution
from aibox.profile import ImageWish
from aibox.progress import Progress
from image_maker import DOCKER, OCI, make_image, make_index, sha256, tar

from . import systemd_host
from .journey import REPOSITORY, wait_until
from .registry_host import PASSWORD, USER, RealRegistry, push, skopeo, why_not, wire
from .registry_host import registry as real_registry

pytestmark = [pytest.mark.e2e, pytest.mark.skipif(bool(why_not()), reason=why_not())]

MIB = 1 << 20
NOISE = os.urandom(3 * MIB)
FETCH = """
import json, sys, time
from pathlib import Path
from aibox.bundle.build import registry
from aibox.bundle.build.cache import BlobCache
from aibox.pins import ImagePin
pin = ImagePin.model_validate_json(Path(sys.argv[1]).read_bytes())
cache = BlobCache(Path(sys.argv[2]))
started = time.monotonic()
registry.fetch(pin, ("x86_64",), cache, lambda progress: None)
seconds = time.monotonic() - started
"""
CHECK = """
import json, sys, time
from pathlib import Path
from aibox.bundle.images.check import check
from aibox.pins import ImagePin
pin = ImagePin.model_validate_json(Path(sys.argv[1]).read_bytes())
folder = Path(sys.argv[2])
started = time.monotonic()
found = check(pin.platforms[0], lambda blob: (folder / "sha256" / blob.sha256).open("rb"))
seconds = time.monotonic() - started
assert not found.problems, found.problems
"""
SAY = """
peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in line)
print(json.dumps([seconds, int(peak.split()[1])]))
"""


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealRegistry]:
    """A real registry that anybody may use."""
    with real_registry(tmp_path_factory.mktemp("images") / "registry") as found:
        yield found


@pytest.fixture(autouse=True)
def nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever runs the tests has no credentials."""
    monkeypatch.setenv("REGISTRY_AUTH_FILE", str(tmp_path / "no auth.json"))


@pytest.fixture
def cache(tmp_path: Path) -> BlobCache:
    return BlobCache(tmp_path / "cache")


def quiet(_progress: Progress) -> None:
    """Let progress pass."""


def resolve(reference: str, *architectures: str) -> ImagePin:
    wish = ImageWish(name="app", reference=reference)
    return registry.resolve(wish, None, architectures or ("x86_64",), quiet, classify=classify)


def lay_out(platform: ImagePlatform, cache: BlobCache, folder: Path) -> Path:
    """A folder of hard links to the cache, as a generation has it."""
    cache.put(objects.IMAGE_VERSION)
    folder.mkdir()
    for name, blob in objects.image_files(platform).items():
        found = cache.find(blob.sha256, blob.size)
        assert found is not None, f"{name} was not fetched"
        os.link(found, folder / name)
    return folder


def digest_at(name: str) -> str:
    """The digest of what a registry has under a name, in skopeo's words."""
    return str(json.loads(skopeo("inspect", "--tls-verify=false", f"docker://{name}"))["Digest"])


def problems(platform: ImagePlatform, cache: BlobCache) -> tuple[object, ...]:
    def open_blob(blob: Blob) -> object:
        found = cache.find(blob.sha256, blob.size)
        assert found is not None
        return found.open("rb")

    return check(platform, open_blob).problems  # type: ignore[arg-type]


@pytest.mark.parametrize("kinds", [DOCKER, OCI], ids=["docker", "oci"])
def test_an_image_comes_from_a_registry_and_goes_to_another_name_unchanged(
    kinds: dict[str, str], shop: RealRegistry, cache: BlobCache, tmp_path: Path
) -> None:
    image = make_image([tar({"bin/a": NOISE}), tar({"etc/b": b"b"})], kinds=kinds)
    name, other = shop.name(f"demo/{sha256(image.manifest)[:8]}:1"), shop.name("other/name:2")
    push(image.write(tmp_path / "pushed"), name)
    pin = resolve(name)
    registry.fetch(pin, ("x86_64",), cache, quiet)
    platform = objects.platform(pin, "x86_64")
    assert problems(platform, cache) == ()
    laid = lay_out(platform, cache, tmp_path / "laid out")
    assert pin.digest == sha256(image.manifest) == sha256((laid / "manifest.json").read_bytes())
    assert f"sha256:{pin.digest}" == digest_at(name)
    assert json.loads(skopeo("inspect", f"dir:{laid}"))["Digest"] == f"sha256:{pin.digest}"
    push(laid, other)
    assert digest_at(other) == f"sha256:{pin.digest}"


def test_an_index_is_taken_apart_by_architecture(
    shop: RealRegistry, cache: BlobCache, tmp_path: Path
) -> None:
    amd = make_image([tar({"bin/a": b"amd"})])
    arm = make_image([tar({"bin/a": b"arm"})], architecture="arm64", config={"variant": "v8"})
    index = make_index({"linux/amd64": amd, "linux/arm64/v8": arm})
    folder = amd.write(tmp_path / "both")
    for image in (amd, arm):
        (folder / f"{sha256(image.manifest)}.manifest.json").write_bytes(image.manifest)
        for digest, data in image.blobs.items():
            (folder / digest).write_bytes(data)
    (folder / "manifest.json").write_bytes(index)
    name = shop.name("demo/both:1")
    push(folder, name, "--all")
    pin = resolve(name, "x86_64", "aarch64")
    assert pin.digest == sha256(index)
    registry.fetch(pin, ("x86_64", "aarch64"), cache, quiet)
    for architecture, image in (("x86_64", amd), ("aarch64", arm)):
        platform = objects.platform(pin, architecture)
        assert problems(platform, cache) == ()
        laid = lay_out(platform, cache, tmp_path / architecture)
        found = json.loads(skopeo("inspect", "--no-tags", f"dir:{laid}"))
        assert found["Digest"] == f"sha256:{sha256(image.manifest)}"


def test_two_versions_that_share_a_layer_fetch_it_once(
    shop: RealRegistry, cache: BlobCache, tmp_path: Path
) -> None:
    base = tar({"base": os.urandom(MIB)})
    versions = [make_image([base, tar({"app": text})]) for text in (b"one", b"two")]
    for number, image in enumerate(versions):
        name = shop.name(f"demo/shared:{number}")
        push(image.write(tmp_path / str(number)), name)
        registry.fetch(resolve(name), ("x86_64",), cache, quiet)
    assert shop.answers(sha256(versions[0].layers[0])) == [(200, len(versions[0].layers[0]))]


def test_a_guarded_registry_wants_what_skopeo_login_wrote(
    cache: BlobCache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with real_registry(tmp_path / "registry", guarded=True) as shop:
        settings = tmp_path / "auth.json"
        login = ("login", "--authfile", str(settings), "--tls-verify=false", "--username", USER)
        skopeo(*login, "--password-stdin", f"127.0.0.1:{shop.port}", given=PASSWORD)
        image, name = make_image([tar({"bin/a": NOISE})]), shop.name("demo/app:1")
        push(image.write(tmp_path / "pushed"), name, "--authfile", str(settings))
        with pytest.raises(Failed, match="without credentials"):
            resolve(name)
        monkeypatch.setenv("REGISTRY_AUTH_FILE", str(settings))
        pin = resolve(name)
        registry.fetch(pin, ("x86_64",), cache, quiet)
    assert problems(objects.platform(pin, "x86_64"), cache) == ()


def test_a_fetch_that_was_killed_goes_on_in_the_middle_of_its_layer(
    shop: RealRegistry, cache: BlobCache, tmp_path: Path
) -> None:
    image = make_image([tar({"bin/a": os.urandom(8 * MIB)})])
    layer = image.layers[0]
    with wire(shop.port, limit=5 * MIB) as way:
        push(image.write(tmp_path / "pushed"), shop.name("demo/killed:1"))
        name = shop.name("demo/killed:1", way.port)
        pin = resolve(name)
        part = cache.part(sha256(layer))
        with fetching(pin, cache, tmp_path) as process:
            wait_until(lambda: part.exists() and part.stat().st_size > 4 * MIB, 60, "4 MiB")
            process.send_signal(signal.SIGKILL)
            assert process.wait() == -signal.SIGKILL
        held = part.stat().st_size
        way.open()
        registry.fetch(pin, ("x86_64",), cache, quiet)
    assert shop.answers(sha256(layer))[-1] == (206, len(layer) - held)
    assert problems(objects.platform(pin, "x86_64"), cache) == ()


@pytest.mark.skipif(bool(systemd_host.why_not()), reason=systemd_host.why_not())
@pytest.mark.parametrize("kinds", [DOCKER, OCI], ids=["docker", "oci"])
def test_docker_knows_what_was_laid_out_by_the_digest_of_its_configuration(
    kinds: dict[str, str], shop: RealRegistry, cache: BlobCache, tmp_path: Path
) -> None:
    image = make_image(
        [tar({"hello": NOISE}), tar({".wh.hello": b"", "bye": b"bye"})],
        kinds=kinds,
        run={"Cmd": ["/bye"]},
    )
    name = shop.name(f"demo/loaded-{sha256(image.manifest)[:8]}:1")
    push(image.write(tmp_path / "pushed"), name)
    pin = resolve(name)
    registry.fetch(pin, ("x86_64",), cache, quiet)
    platform = objects.platform(pin, "x86_64")
    laid, tag = lay_out(platform, cache, tmp_path / "laid out"), f"aibox-test-image:{os.getpid()}"
    with systemd_host.daemon(tmp_path):
        try:
            skopeo("copy", f"dir:{laid}", f"docker-daemon:{tag}")
            found = systemd_host.docker("images", "--no-trunc", "--quiet", tag).out.strip()
        finally:
            subprocess.run(["docker", "rmi", tag], capture_output=True)
    assert found == f"sha256:{platform.config.sha256}"


@pytest.mark.skipif(bool(systemd_host.why_not()), reason=systemd_host.why_not())
def test_what_docker_itself_writes_and_pushes_is_sound(
    shop: RealRegistry, cache: BlobCache, tmp_path: Path
) -> None:
    (tmp_path / "base.tar").write_bytes(tar({"bin/a": NOISE, "데이터/설명 " + "x" * 120: b"long"}))
    (tmp_path / "added").write_bytes(b"added")
    name = shop.name("demo/by-docker:1")
    docker, container = systemd_host.docker, ""
    with systemd_host.daemon(tmp_path):
        try:
            docker("import", str(tmp_path / "base.tar"), name)
            container = docker("create", name, "/bin/a").out.strip()
            docker("cp", str(tmp_path / "added"), f"{container}:/bin/added")
            docker("commit", "--change", "EXPOSE 8000", "--change", "USER 1000", container, name)
            docker("push", name)
            made = docker("images", "--no-trunc", "--quiet", name).out.strip()
        finally:
            subprocess.run(["docker", "rm", "--volumes", container], capture_output=True)
            subprocess.run(["docker", "rmi", name], capture_output=True)
    pin = resolve(name)
    registry.fetch(pin, ("x86_64",), cache, quiet)
    platform = objects.platform(pin, "x86_64")
    assert (platform.exposed_ports, platform.user) == (("8000/tcp",), "1000")
    assert (len(platform.layers), f"sha256:{platform.config.sha256}") == (2, made)
    assert problems(platform, cache) == ()


def test_fetching_is_not_slower_than_skopeo_by_much(
    shop: RealRegistry, cache: BlobCache, tmp_path: Path, figure: Callable[[str], None]
) -> None:
    contents = [tar({f"{size}": os.urandom(size * MIB)}) for size in (64, 32, 24, 8)]
    image = make_image(contents, layers=[gzip.compress(one, 0, mtime=0) for one in contents])
    name = shop.name("demo/large:1")
    push(image.write(tmp_path / "pushed"), name)
    pin, total = resolve(name), sum(map(len, image.layers)) / MIB
    ours, theirs = [], []
    for turn in range(3):
        shutil.rmtree(cache.folder)
        seconds, memory = measured(FETCH, pin, cache.folder, tmp_path)
        ours.append(seconds)
        started = time.monotonic()
        copy = tmp_path / f"copy {turn}"
        skopeo("copy", "--src-tls-verify=false", f"docker://{name}", f"dir:{copy}")
        theirs.append(time.monotonic() - started)
        shutil.rmtree(copy)
    ratio = min(theirs) / min(ours)
    figure(
        f"image of {total:.0f} MiB from a registry on loopback: {total / min(ours):.0f} MiB/s "
        f"against {total / min(theirs):.0f} MiB/s of skopeo copy (ratio {ratio:.2f}), "
        f"{memory / 1024:.0f} MiB of memory"
    )
    assert ratio > 0.3


def test_a_layer_of_many_files_is_checked_in_bounded_memory(
    cache: BlobCache, tmp_path: Path, figure: Callable[[str], None]
) -> None:
    folder, packed = sysconfig.get_paths()["stdlib"], io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        archive.add(folder, "usr/lib/python", filter=_without_packages)
        members = len(archive.getmembers())
    content = packed.getvalue()
    image = make_image([content], layers=[gzip.compress(content, 1, mtime=0)])
    for data in image.everything.values():
        cache.put(data)
    pin = ImagePin(
        name="library",
        licence="unknown",
        redistribution=Redistribution.OPERATOR_ONLY,
        owner="unknown",
        source="made here",
        reference="example/library",
        digest=sha256(image.manifest),
        platforms=(image.platform(),),
    )
    seconds, memory = measured(CHECK, pin, cache.folder, tmp_path)
    figure(
        f"check of a layer of {len(image.layers[0]) / MIB:.0f} MiB ({len(content) / MIB:.0f} MiB "
        f"in {members} files): {len(content) / MIB / seconds:.0f} MiB/s, "
        f"{memory / 1024:.0f} MiB of memory"
    )
    assert memory < 128 * 1024


def _without_packages(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
    return None if member.name.endswith("/site-packages") else member


def measured(script: str, pin: ImagePin, folder: Path, place: Path) -> tuple[float, int]:
    """Seconds and peak memory (KiB) of a process that does nothing else."""
    with running(script, pin, folder, place) as process:
        out, _ = process.communicate()
        assert process.returncode == 0
    seconds, memory = json.loads(out)
    return seconds, memory


def fetching(pin: ImagePin, cache: BlobCache, place: Path) -> subprocess.Popen[bytes]:
    return running(FETCH, pin, cache.folder, place)


def running(script: str, pin: ImagePin, folder: Path, place: Path) -> subprocess.Popen[bytes]:
    (place / "pin.json").write_text(pin.model_dump_json())
    return subprocess.Popen(
        [sys.executable, "-c", script + SAY, str(place / "pin.json"), str(folder)],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY / "installer")},
        stdout=subprocess.PIPE,
    )
