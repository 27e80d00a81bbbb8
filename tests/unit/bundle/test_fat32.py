"""A volume fits the FAT32 medium it was planned for, and comes back from it as it was."""

from __future__ import annotations

from pathlib import Path

from bundle_media import SmallBundle, write_bundle
from fat_images import needs_fat_tools, through_fat32

MEDIUM = 48_000_000
CHUNK = 4 << 20


@needs_fat_tools
def test_volumes_fit_their_media_and_survive_them(tmp_path: Path) -> None:
    sizes = [60_000_000, *[1000 + number for number in range(300)], 2 * CHUNK, 0]
    written = write_bundle(tmp_path / "box", sizes, volume_bytes=MEDIUM, chunk_bytes=CHUNK)
    assert len(written.folders) > 1
    folders = tuple(
        through_fat32(folder, tmp_path / f"{number}.img", MEDIUM)
        for number, folder in enumerate(written.folders)
    )
    came = SmallBundle(folders, written.objects, written.named, written.index)
    assert came.check().ok
    fill = sum(path.stat().st_size for path in folders[0].rglob("*")) / MEDIUM
    assert fill > 0.6, "much of the medium stays empty"
