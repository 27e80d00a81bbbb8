"""Which packages belong to a kernel: its headers, and modules built for it beforehand."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

from aibox.errors import BadUsage, Fault
from aibox.pins import PackageFormat

SHOWN = 8

# nvidia-headless-no-dkms-580-server-open, nvidia-driver-580, nvidia-headless-580-open, …
_DRIVER = re.compile(
    r"nvidia-(?:headless-no-dkms|headless|driver|utils|compute-utils)-"
    r"(?P<flavour>[0-9]+(?:-server)?(?:-open)?)"
)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+~_-]{0,127}")
_HEADERS = {PackageFormat.DEB: "linux-headers-", PackageFormat.RPM: "kernel-devel-"}


def packages_of(
    form: PackageFormat, wanted: Sequence[str], kernels: Sequence[str], known: Collection[str]
) -> tuple[str, ...]:
    """What the closure needs besides `wanted`, so that drivers exist for every kernel.

    `kernels` as `uname -r` writes them; `known` are the package names of the archives. Headers
    must exist (`BadUsage`, `kernel-headers-missing`); modules that are built beforehand
    (`linux-modules-nvidia-<branch>-<kernel>`) are taken where the archives have them.
    """
    found: list[str] = []
    for kernel in kernels:
        headers = _HEADERS[form] + kernel
        if not _NAME.fullmatch(kernel) or headers not in known:
            raise _no_headers(kernel, form, known)
        found += [headers, *(name for name in _modules(wanted, kernel) if name in known)]
    return tuple(dict.fromkeys(found))


def _modules(wanted: Sequence[str], kernel: str) -> list[str]:
    names = [name.partition("=")[0] for name in wanted]
    flavours = [match["flavour"] for name in names if (match := _DRIVER.fullmatch(name))]
    patterns = ("linux-modules-nvidia-{}-{}", "linux-objects-nvidia-{}-{}")
    return [pattern.format(flavour, kernel) for flavour in flavours for pattern in patterns] + (
        [f"linux-signatures-nvidia-{kernel}"] if flavours else []
    )


def available(form: PackageFormat, known: Collection[str]) -> tuple[str, ...]:
    """The kernels whose headers the archives have, oldest first."""
    prefix = _HEADERS[form]
    names = [name.removeprefix(prefix) for name in known if name.startswith(prefix)]
    return tuple(sorted((name for name in names if name[:1].isdigit()), key=_by_number))


def _by_number(name: str) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)]


def _flavour(kernel: str) -> str:
    """`6.8.0-45-generic` is of the flavour `generic`, `6.12.9+deb13-cloud-amd64` `cloud-amd64`."""
    return re.sub(r"^[0-9][^-]*-(?:[0-9][^-]*-)?", "", kernel)


def _no_headers(kernel: str, form: PackageFormat, known: Collection[str]) -> BadUsage:
    names = available(form, known)
    same = [name for name in names if _flavour(name) == _flavour(kernel)]
    shown = (same or list(names))[-SHOWN:]
    return BadUsage(
        "kernel-headers-missing",
        f"the archives have no headers of the kernel {kernel!r}",
        context=f"the newest they have: {', '.join(shown) or 'none'}",
        hint="write a kernel of the box (uname -r) that the archive still has into the profile, "
        "then: ./aibox lock",
        fault=Fault.YOU,
    )
