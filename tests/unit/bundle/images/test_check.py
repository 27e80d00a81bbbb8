"""An image is refused for what it says, for what its bytes are, and for what is in its layers."""

from __future__ import annotations

import gzip
import io
import random
import zlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aibox.bundle.images.check import Checked, check
from aibox.bundle.images.limits import LIMITS, Limits
from aibox.bundle.images.problems import NoteKind, ProblemKind, refuse
from aibox.errors import VerificationRefused
from aibox.pins import Blob, ImagePlatform
from image_maker import DOCKER, OCI, Image, blob, make_image, make_index, sha256, tar
from tar_maker import END, file, header, long_name, pax

PLAIN = {**OCI, "layer": "application/vnd.oci.image.layer.v1.tar"}


def opener(blobs: dict[str, bytes]) -> Callable[[Blob], io.BytesIO]:
    def open_blob(wanted: Blob) -> io.BytesIO:
        if wanted.sha256 not in blobs:
            raise FileNotFoundError(2, "No such file or directory")
        return io.BytesIO(blobs[wanted.sha256])

    return open_blob


def checked(image: Image, platform: ImagePlatform | None = None, **options: Any) -> Checked:
    return check(platform or image.platform(), opener(image.everything), **options)


def kinds(found: Checked) -> set[ProblemKind]:
    return {one.kind for one in found.problems}


def layer(*parts: bytes) -> Image:
    """An image of one layer, byte by byte."""
    return make_image([b"".join(parts) + END])


@pytest.mark.parametrize("kinds_of_image", [DOCKER, OCI, PLAIN], ids=["docker", "oci", "plain"])
def test_a_sound_image_has_no_problems(kinds_of_image: dict[str, str]) -> None:
    contents = [tar({"etc/hello": b"x" * 3000}), tar({"etc/.wh.hello": b"", "usr/b": b""})]
    stored = contents if kinds_of_image is PLAIN else None
    image = make_image(contents, kinds=kinds_of_image, layers=stored)
    seen: list[int] = []
    assert checked(image, on_bytes=seen.append, workers=3) == Checked()
    assert sum(seen) == sum(map(len, image.everything.values()))
    refuse("demo", ())


def test_a_refusal_names_the_image_and_its_first_problems() -> None:
    found = checked(layer(*(file(b"../%d" % number) for number in range(9))))
    with pytest.raises(VerificationRefused, match="the image demo is not fit") as caught:
        refuse("demo", found.problems)
    assert caught.value.reference == "image-refused"
    assert "layer 1: ../0: forbidden name: a part .." in caught.value.context
    assert caught.value.context.endswith("; and 4 more")


EVIL = {
    "parent folder": (file(b"../etc/passwd"), ProblemKind.NAME),
    "parent folder within": (file(b"a/../../etc/passwd"), ProblemKind.NAME),
    "absolute": (file(b"/etc/passwd"), ProblemKind.NAME),
    "absolute by pax": (pax({b"path": b"/etc/passwd"}) + file(b"harmless"), ProblemKind.NAME),
    "parent folder by a GNU name": (long_name(b"../x") + file(b"harmless"), ProblemKind.NAME),
    "parent folder by a prefix": (file(b"x", prefix=b".."), ProblemKind.NAME),
    "empty": (file(b""), ProblemKind.NAME),
    "zero byte": (pax({b"path": b"a\x00b"}) + file(b"harmless"), ProblemKind.NAME),
    "the root as a file": (file(b"./"), ProblemKind.NAME),
    "a file with a folder's name": (file(b"a/"), ProblemKind.NAME),
    "part too long": (pax({b"path": b"a" * 256}) + file(b"x"), ProblemKind.NAME),
    "path too long": (pax({b"path": b"abc/" * 1025 + b"d"}) + file(b"x"), ProblemKind.NAME),
    "block device": (header(b"dev/sda", b"4", device=(8, 0)), ProblemKind.DEVICE),
    "character device": (header(b"dev/mem", b"3", device=(1, 1)), ProblemKind.DEVICE),
    "a usual device elsewhere": (header(b"tmp/null", b"3", device=(1, 3)), ProblemKind.DEVICE),
    "a usual name, another device": (header(b"dev/null", b"3", device=(1, 1)), ProblemKind.DEVICE),
    "whiteout of overlayfs": (header(b"etc/shadow", b"3", device=(0, 0)), ProblemKind.DEVICE),
    "hard link out": (header(b"a", b"1", link=b"../../etc/shadow"), ProblemKind.HARD_LINK),
    "hard link absolute": (header(b"a", b"1", link=b"/etc/shadow"), ProblemKind.HARD_LINK),
    "hard link to nothing": (header(b"a", b"1"), ProblemKind.HARD_LINK),
    "symbolic link to nothing": (header(b"a", b"2"), ProblemKind.NAME),
    "through a symbolic link": (
        header(b"a", b"2", link=b"/etc") + file(b"a/passwd"),
        ProblemKind.BELOW_FILE,
    ),
    "through a link further up": (
        header(b"a/b", b"2", link=b"/") + file(b"a/b/c/d/e"),
        ProblemKind.BELOW_FILE,
    ),
    "a folder becomes a link": (
        file(b"a/b") + header(b"a", b"2", link=b"/etc"),
        ProblemKind.DUPLICATE,
    ),
    "a file twice": (file(b"a") + file(b"./a"), ProblemKind.DUPLICATE),
    "a link becomes a folder": (
        header(b"a", b"2", link=b"/etc") + header(b"a/", b"5"),
        ProblemKind.DUPLICATE,
    ),
    "whiteout of nothing": (file(b"etc/.wh."), ProblemKind.WHITEOUT),
    "whiteout of its folder": (file(b"etc/.wh.."), ProblemKind.WHITEOUT),
    "whiteout of the folder above": (file(b"etc/.wh..."), ProblemKind.WHITEOUT),
    "whiteout with content": (file(b"etc/.wh.a", b"x"), ProblemKind.WHITEOUT),
    "whiteout as a folder": (header(b"etc/.wh.a", b"5"), ProblemKind.WHITEOUT),
    "whiteout as a link": (header(b".wh.a", b"2", link=b"b"), ProblemKind.WHITEOUT),
    "below a whiteout": (file(b".wh.a/b"), ProblemKind.WHITEOUT),
    "opaque misspelt": (file(b"etc/.wh..wh..opaque"), ProblemKind.WHITEOUT),
    "leftovers of AUFS": (file(b".wh..wh.aufs"), ProblemKind.WHITEOUT),
    "redirection of overlayfs": (
        pax({b"SCHILY.xattr.trusted.overlay.redirect": b"/etc"}) + header(b"a", b"5"),
        ProblemKind.ATTRIBUTE,
    ),
    "sparse": (header(b"a", b"S"), ProblemKind.TYPE),
    "damaged": (file(b"a", checksum=b"0000000\x00"), ProblemKind.TAR),
}


@pytest.mark.parametrize("name", EVIL)
def test_evil_layers_are_refused(name: str) -> None:
    members, expected = EVIL[name]
    assert kinds(checked(layer(members))) == {expected}


GOOD = {
    "folders named twice": header(b"./", b"5") + header(b"etc", b"5") + header(b"./etc/", b"5"),
    "the root as kaniko writes it": header(b"/", b"5"),
    "symbolic links out": header(b"a", b"2", link=b"../../../etc") + header(b"b", b"2", link=b"/"),
    "hard links within": file(b"a") + header(b"d/b", b"1", link=b"a"),
    "opaque folder": header(b"etc", b"5") + file(b"etc/.wh..wh..opq") + file(b"etc/x"),
    "names of systemd": file(b"lib/system-systemd\\x2dcryptsetup.slice"),
    "names that are no UTF-8": file(b"caf\xe9"),
    "dots in names": file(b"a/..b") + file(b"a/...") + file(b"a/.wh"),
    "a neighbour of a link": header(b"lib", b"2", link=b"usr/lib") + file(b"library"),
}


@pytest.mark.parametrize("name", GOOD)
def test_what_real_layers_hold_passes(name: str) -> None:
    assert checked(layer(GOOD[name])) == Checked()


def test_what_a_reviewer_may_want_to_know_is_noted() -> None:
    found = checked(
        layer(
            file(b"bin/su", mode=0o4755),
            file(b"bin/wall", mode=0o2755),
            header(b"var/mail", b"5", mode=0o2775),
            pax({b"SCHILY.xattr.security.capability": b"\x01"}) + file(b"bin/ping"),
            header(b"dev/null", b"3", device=(1, 3)),
            header(b"run/initctl", b"6"),
        )
    )
    assert found.problems == ()
    assert {one.kind: (one.layer, one.count, one.example) for one in found.notes} == {
        NoteKind.SET_ID: (1, 2, "bin/su"),
        NoteKind.CAPABILITY: (1, 1, "bin/ping"),
        NoteKind.DEVICE: (1, 1, "dev/null"),
        NoteKind.FIFO: (1, 1, "run/initctl"),
    }


def test_names_in_messages_stay_on_one_line() -> None:
    found = checked(layer(pax({b"path": b"../\x1b[2J\nerror: none"}) + file(b"x")))
    assert str(found.problems[0]) == (
        r"layer 1: ../\x1b[2J\x0aerror: none: forbidden name: a part .."
    )


def test_a_layer_is_not_read_on_after_many_problems() -> None:
    found = checked(layer(*(file(b"../%d" % number) for number in range(1000))))
    assert len(found.problems) == LIMITS.problems


WRONG_BYTES = {
    "a bit flipped": lambda data: data[:-20] + bytes([data[-20] ^ 1]) + data[-19:],
    "cut": lambda data: data[:-1],
    "longer": lambda data: data + b"\x00",
    "empty": lambda _data: b"",
    "others of equal length": lambda data: random.Random(1).randbytes(len(data)),
}


@pytest.mark.parametrize("part", ["manifest", "config", "layer"])
@pytest.mark.parametrize("how", WRONG_BYTES)
def test_other_bytes_than_the_digests_are_named_as_that(part: str, how: str) -> None:
    image = make_image([tar({"etc/hello": random.Random(2).randbytes(2000)})])
    right = {"manifest": image.manifest, "config": image.config, "layer": image.layers[0]}[part]
    blobs = {**image.everything, sha256(right): WRONG_BYTES[how](right)}
    assert kinds(check(image.platform(), opener(blobs))) == {ProblemKind.DIGEST}


@pytest.mark.parametrize("part", ["manifest", "config", "layer"])
def test_a_missing_part_is_named(part: str) -> None:
    image = make_image()
    right = {"manifest": image.manifest, "config": image.config, "layer": image.layers[0]}[part]
    blobs = {key: data for key, data in image.everything.items() if key != sha256(right)}
    assert kinds(check(image.platform(), opener(blobs))) == {ProblemKind.MISSING}


def test_a_medium_that_fails_while_it_is_read_is_named() -> None:
    class Yanked(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            raise OSError(5, "Input/output error")

    image = make_image()
    plain = opener(image.everything)

    def open_blob(wanted: Blob) -> io.BytesIO:
        return Yanked() if wanted.sha256 == sha256(image.layers[0]) else plain(wanted)

    found = check(image.platform(), open_blob)
    assert str(found.problems[0]) == "layer 1: missing: Input/output error"


@pytest.mark.parametrize(
    ("run", "expected"),
    [
        ({"Env": ["PATH=/bin", "LD_PRELOAD=/tmp/x.so"]}, {ProblemKind.ENVIRONMENT}),
        ({"Env": ["LD_PRELOAD"]}, {ProblemKind.ENVIRONMENT}),
        ({"Env": ["LD_AUDIT="]}, {ProblemKind.ENVIRONMENT}),
        ({"Env": ["MY_LD_PRELOAD=/tmp/x.so", "LD_LIBRARY_PATH=/usr/lib"]}, set()),
    ],
)
def test_no_image_brings_code_that_is_loaded_into_everything(
    run: dict[str, Any], expected: set[ProblemKind]
) -> None:
    assert kinds(checked(make_image(run=run))) == expected


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"architecture": "arm64"}, ProblemKind.PLATFORM),
        ({"variant": "v3"}, ProblemKind.PLATFORM),
        ({"os": "windows"}, ProblemKind.PLATFORM),
        ({"os": "../../x"}, ProblemKind.PLATFORM),
        ({"rootfs": {"type": "layers", "diff_ids": []}}, ProblemKind.LAYER_COUNT),
        ({"rootfs": {"type": "layers", "diff_ids": ["sha256:" + "0" * 64]}}, ProblemKind.DIFF_ID),
    ],
)
def test_a_configuration_says_what_manifest_and_pin_say(
    changes: dict[str, Any], expected: ProblemKind
) -> None:
    assert kinds(checked(make_image(config=changes))) == {expected}


def test_the_manifest_names_what_the_pin_names() -> None:
    one, other = make_image(), make_image([tar({"other": b"x"})])
    both = opener({**one.everything, **other.everything})
    pin = one.platform()
    assert kinds(check(pin, both)) == set()
    for fields in ({"layers": other.platform().layers}, {"config": other.platform().config}):
        assert kinds(check(pin.model_copy(update=fields), both)) == {ProblemKind.PIN}
    for fields in ({"user": "root"}, {"requires_cuda": "cuda>=1"}, {"exposed_ports": ("1/tcp",)}):
        assert kinds(check(pin.model_copy(update=fields), both)) == {ProblemKind.PIN}


def test_an_index_is_no_image() -> None:
    image = make_image()
    index = make_index({"linux/amd64": image})
    pin = image.platform().model_copy(update={"manifest": blob(index)})
    found = check(pin, opener({**image.everything, sha256(index): index}))
    assert kinds(found) == {ProblemKind.PIN}


def test_a_pin_with_an_enormous_manifest_is_refused_unread() -> None:
    pin = make_image().platform()
    huge = pin.model_copy(update={"manifest": Blob(sha256="0" * 64, size=999 << 40)})
    assert kinds(check(huge, opener({}))) == {ProblemKind.TOO_LARGE}


ZEROS = file(b"zeros", bytes(3 << 20)) + END


@pytest.mark.parametrize(
    ("limits", "detail"),
    [
        (replace(LIMITS, ratio=100, ratio_from=1 << 20), "more than 100 times its size"),
        (replace(LIMITS, image_bytes=2 << 20), "the image has more than 2097152 bytes"),
    ],
)
def test_bombs_are_refused(limits: Limits, detail: str) -> None:
    found = checked(make_image([ZEROS]), limits=limits)
    assert [(one.kind, one.detail) for one in found.problems] == [(ProblemKind.BOMB, detail)]


def test_a_bomb_is_not_expanded_beyond_its_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    expanded = 0
    real = zlib.decompressobj

    class Counting:
        def __init__(self, bits: int) -> None:
            self._inner = real(bits)

        def decompress(self, data: bytes, limit: int) -> bytes:
            nonlocal expanded
            out = self._inner.decompress(data, limit)
            expanded += len(out)
            return out

        def __getattr__(self, name: str) -> Any:
            return getattr(self._inner, name)

    monkeypatch.setattr(zlib, "decompressobj", Counting)
    bomb = make_image([file(b"zeros", bytes(64 << 20)) + END])
    checked(bomb, limits=replace(LIMITS, ratio_from=1 << 20))
    assert len(bomb.layers[0]) * LIMITS.ratio < expanded < len(bomb.layers[0]) * LIMITS.ratio * 1.2


def test_a_small_layer_may_compress_well() -> None:
    assert checked(make_image([ZEROS])) == Checked()


def test_many_members_and_long_headers_are_refused() -> None:
    few = replace(LIMITS, layer_members=10, header_bytes=1000)
    many = layer(*(file(b"%d" % number) for number in range(11)))
    assert kinds(checked(many, limits=few)) == {ProblemKind.MEMBERS}
    long = layer(pax({b"comment": b"x" * 2000}), file(b"a"))
    assert kinds(checked(long, limits=few)) == {ProblemKind.HEADER}


def test_layers_share_what_an_image_may_hold() -> None:
    image = make_image([file(name, bytes(1 << 20)) + END for name in (b"a", b"b", b"c")])
    limits = replace(LIMITS, image_bytes=(2 << 20) + 8192)
    assert kinds(checked(image, limits=limits, workers=2)) == {ProblemKind.BOMB}


CONTENT = tar({"etc/hello": random.Random(3).randbytes(3 << 20)})


@pytest.mark.parametrize(
    "stored",
    [
        b"".join(
            gzip.compress(CONTENT[at : at + 99_999], 1) for at in range(0, len(CONTENT), 99_999)
        ),
        gzip.compress(CONTENT, 9),
        gzip.compress(CONTENT, 0) + gzip.compress(b""),
    ],
    ids=["many members", "one", "an empty one at the end"],
)
def test_gzip_in_any_number_of_members_is_one_content(stored: bytes) -> None:
    assert checked(make_image([CONTENT], layers=[stored])) == Checked()


@pytest.mark.parametrize(
    ("stored", "media_type"),
    [
        (gzip.compress(CONTENT)[:-9], OCI["layer"]),
        (gzip.compress(CONTENT)[:-8] + bytes(8), OCI["layer"]),
        (gzip.compress(CONTENT) + b"rest", OCI["layer"]),
        (CONTENT, OCI["layer"]),
        (b"", OCI["layer"]),
        (gzip.compress(CONTENT), PLAIN["layer"]),
        (b"BZh9" + bytes(100), OCI["layer"]),
        (gzip.compress(CONTENT), OCI["layer"].replace("gzip", "zstd")),
        (b"\x28\xb5\x2f\xfd" + bytes(20), OCI["layer"].replace("gzip", "zstd")),
    ],
    ids=["cut", "wrong sum", "rest", "plain", "empty", "gzip as plain", "bzip2", "as zstd", "zstd"],
)
def test_compression_that_is_damaged_or_not_what_it_is_called(
    stored: bytes, media_type: str
) -> None:
    image = make_image([CONTENT], layers=[stored], kinds={**OCI, "layer": media_type})
    assert kinds(checked(image)) == {ProblemKind.COMPRESSION}


def test_a_layer_may_be_in_an_image_twice() -> None:
    stored = gzip.compress(CONTENT)
    image = make_image([CONTENT, CONTENT], layers=[stored, stored])
    assert checked(image) == Checked()


def test_any_layer_is_read_or_named_as_a_problem() -> None:
    @settings(max_examples=150)
    @given(st.binary(max_size=2000), st.booleans())
    def reads(content: bytes, packed: bool) -> None:
        stored = gzip.compress(content) if packed else content
        media = OCI if packed else PLAIN
        found = checked(make_image([content], layers=[stored], kinds=media))
        assert all(one.where.startswith("layer 1") for one in found.problems)

    reads()


def test_any_bytes_as_manifest_or_configuration_are_a_problem() -> None:
    image = make_image()

    @given(st.binary(max_size=300), st.sampled_from(["manifest", "config"]))
    def reads(data: bytes, part: str) -> None:
        pin = image.platform().model_copy(update={part: blob(data)})
        found = check(pin, opener({**image.everything, sha256(data): data}))
        assert len(found.problems) == 1

    reads()
