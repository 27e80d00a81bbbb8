"""What apt's own configuration says about archives: one-line sources and deb822 sources."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from aibox.bundle.packages.control import Paragraph, paragraphs
from aibox.bundle.packages.targets import Distribution, pocket_of

_LINE = re.compile(r"deb\s+(?:\[(?P<options>[^\]]*)\]\s+)?(?P<rest>\S.*)")
_SCHEMES = ("http", "https", "file", "copy", "mirror+file")
_OFF = ("no", "false", "0", "off", "disable")


@dataclass(frozen=True)
class Source:
    """An archive that apt of this machine uses: `keyring` is a path, a key itself, or empty."""

    address: str
    suite: str
    components: tuple[str, ...] = ()
    keyring: str = ""


def parse(name: str, text: str) -> tuple[Source, ...]:
    """The binary-package sources of a file of sources.list.d; others and what is off are left out.

    As with apt, the ending decides: `.sources` is deb822, `.list` has one source a line. Lines
    that are neither are skipped: apt itself complains about them.
    """
    found = _deb822(text) if name.endswith(".sources") else _one_line(text)
    return tuple(source for source in found if source.address.split(":", 1)[0] in _SCHEMES)


def _one_line(text: str) -> Iterator[Source]:
    for line in text.splitlines():
        match = _LINE.fullmatch(line.partition("#")[0].strip())
        if match is None or len(words := match["rest"].split()) < 2:
            continue
        options = dict(part.partition("=")[::2] for part in (match["options"] or "").split())
        yield Source(words[0].rstrip("/"), words[1], tuple(words[2:]), options.get("signed-by", ""))


def _deb822(text: str) -> Iterator[Source]:
    for paragraph in paragraphs(text.splitlines()):
        if "deb" not in paragraph.get("Types").split():
            continue
        if paragraph.get("Enabled", "yes").lower() in _OFF:
            continue
        for address in paragraph.get("URIs").split():
            for suite in paragraph.get("Suites").split():
                components = tuple(paragraph.get("Components").split())
                yield Source(address.rstrip("/"), suite, components, _keyring(paragraph))


def _keyring(paragraph: Paragraph) -> str:
    value = paragraph.get("Signed-By")
    if "BEGIN PGP PUBLIC KEY BLOCK" not in value:
        return value
    # In deb822 an empty line of the key is written as a dot.
    return "\n".join("" if line == "." else line for line in value.split("\n")) + "\n"


def serving(
    sources: tuple[Source, ...], distribution: Distribution, pocket: str
) -> tuple[Source, ...]:
    """Those that hold a pocket of the distribution's own archive, the surest first.

    Others use the distribution's suite names too. They are told by components of their own, or by
    a key of their own; who names the distribution's keyring comes first.
    """
    fitting = [
        source
        for source in sources
        if pocket_of(source.suite, distribution) == pocket
        and set(source.components) & set(distribution.components)
        and (not source.keyring or _is_archive_keyring(source.keyring, distribution))
    ]
    return tuple(sorted(fitting, key=lambda source: not source.keyring))


def _is_archive_keyring(keyring: str, distribution: Distribution) -> bool:
    return f"/{distribution.name}-archive-" in keyring
