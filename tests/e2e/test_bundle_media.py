"""Bundles as files at their real sizes: beyond 2 and 4 GiB, and on FAT32 media."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from aibox.bundle.layout import CHUNK_BYTES
from bundle_media import SmallBundle, write_bundle
from fat_images import make_fat32, mounted, needs_fat_kernel, needs_fat_tools, through_fat32

pytestmark = pytest.mark.e2e

PROGRAM = Path(__file__).parents[1] / "support" / "large_objects.py"
GIGABYTE = 10**9
MEDIUM = 400 * 10**6


@pytest.mark.parametrize("size", [3 * GIGABYTE, 5 * GIGABYTE])
@pytest.mark.timeout(600)
def test_an_object_beyond_2_and_4_gib_is_cut_checked_and_read(
    tmp_path: Path, size: int, figure: Callable[[str], None]
) -> None:
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, PROGRAM, tmp_path, str(size)], check=True, stdout=subprocess.PIPE
    )
    found = json.loads(done.stdout)
    assert found["ok"]
    assert found["right"]
    assert found["end"] == "ENDED"
    assert found["chunks"] == -(-size // CHUNK_BYTES)
    assert found["peak_mib"] < 256
    figure(
        f"sparse object of {size / GIGABYTE:.0f} GB built, checked, read: "
        f"{time.monotonic() - began:.0f} s, peak {found['peak_mib']:.0f} MiB"
    )


@pytest.fixture
def split(tmp_path: Path) -> SmallBundle:
    """Two chunks of the real size and some more, on media that hold one each."""
    written = write_bundle(
        tmp_path / "box",
        [2 * CHUNK_BYTES + 1000, *range(1000, 1100)],
        volume_bytes=MEDIUM,
        chunk_bytes=CHUNK_BYTES,
    )
    assert len(written.folders) == 2
    return written


@needs_fat_tools
@pytest.mark.timeout(600)
def test_chunks_of_real_size_survive_fat32(split: SmallBundle, tmp_path: Path) -> None:
    folders = tuple(
        through_fat32(folder, tmp_path / f"{number}.img", MEDIUM)
        for number, folder in enumerate(split.folders)
    )
    came = SmallBundle(folders, split.objects, split.named, split.index)
    assert came.check().ok


@needs_fat_tools
@needs_fat_kernel
@pytest.mark.timeout(600)
def test_the_kernels_fat32_is_checked_where_it_is_mounted(
    split: SmallBundle, tmp_path: Path
) -> None:
    with ExitStack() as media:
        points = []
        for number, folder in enumerate(split.folders):
            image = make_fat32(folder, tmp_path / f"{number}.img", MEDIUM)
            points.append(media.enter_context(mounted(image, tmp_path / f"usb{number}")))
        found = split.check(points)
        assert found.problems == ()
        assert found.ok
        missing = split.check(points[:1])
        assert missing.missing_volumes[0].startswith("volume 2 of 2")
