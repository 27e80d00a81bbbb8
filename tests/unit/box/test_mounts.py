from __future__ import annotations

from pathlib import Path

from aibox.box.mounts import generations, mounted_generations, place_of

OWN = """\
21 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
30 21 8:1 / /var rw,relatime - ext4 /dev/sda1 rw
31 30 0:44 /@data /var/lib/my\\040box rw - btrfs /dev/sdb rw
"""


def inside(*lines: str) -> list[str]:
    return ["\n".join(f"9 8 {line} rw - ext4 /dev/x rw" for line in lines)]


def test_bind_mounts_of_the_box_name_their_generation_whatever_their_target() -> None:
    tables = [
        *inside("8:1 /lib/aibox/gens/12/tree/app /box/current/tree/app", "8:1 / /"),
        *inside("8:1 /lib/aibox/gens/7 /box/current", "8:1 /lib/aibox/data /box/data"),
    ]
    assert generations(Path("/var/lib/aibox"), OWN, tables) == {7, 12}


def test_other_boxes_other_disks_and_other_folders_do_not_count() -> None:
    tables = inside(
        "8:1 /lib/other/gens/1 /a",
        "254:0 /lib/aibox/gens/2 /b",
        "8:1 /lib/aibox/gens /c",
        "8:1 /lib/aibox/gens/staging /d",
        "8:1 /lib/aibox/gensx/3 /e",
    )
    assert generations(Path("/var/lib/aibox"), OWN, tables) == frozenset()


def test_a_box_on_a_subvolume_with_a_space_and_a_folder_that_is_gone() -> None:
    tables = inside("0:44 /@data/gens/4/config//deleted /box/config")
    assert generations(Path("/var/lib/my box"), OWN, tables) == {4}


def test_of_mounts_at_one_place_the_last_counts() -> None:
    own = OWN + "40 30 7:0 / /var rw - ext4 /dev/loop0 rw\n"
    place = place_of(Path("/var/x"), own)
    assert place is not None
    assert (place.device, str(place.inside)) == ("7:0", "/x")


def test_processes_that_end_or_are_not_ours_are_passed_over(tmp_path: Path) -> None:
    proc = tmp_path / "proc"
    for pid, space in (("self", "mnt:[1]"), ("10", "mnt:[1]"), ("11", "mnt:[2]"), ("12", "")):
        (proc / pid / "ns").mkdir(parents=True)
        if space:
            (proc / pid / "ns/mnt").symlink_to(space)
    (proc / "self/mountinfo").write_text("21 1 254:0 / / rw - ext4 /dev/vda rw\n")
    (proc / "10/mountinfo").write_text("21 1 254:0 / / rw - ext4 /dev/vda rw\n")
    root = tmp_path / "box"
    (proc / "11/mountinfo").write_text(f"9 8 254:0 {root}/gens/3/tree /x rw - ext4 /dev/vda rw\n")
    assert mounted_generations(root, proc) == {3}


def test_of_this_very_host_it_can_be_asked(tmp_path: Path) -> None:
    assert mounted_generations(tmp_path) == frozenset()
