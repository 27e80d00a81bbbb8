#!/usr/bin/python
"""Chooses the packages of an NVIDIA driver for one host from those a bundle carries."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from ansible.module_utils.basic import AnsibleModule  # type: ignore[import-untyped]
from ansible.module_utils.nvidia_routes import (  # type: ignore[import-untyped]
    ROUTES,
    Alternatives,
    Route,
    Wish,
    numbers,
)

DOCUMENTATION = r"""
module: driver_choice
short_description: Choose the packages of an NVIDIA driver for a host
description:
  - Says which of the packages a bundle carries make the driver of a host, and every reason why
    the host cannot have one. Looks at nothing but its options; changes nothing.
options:
  system:
    description: The distribution and its release, such as ubuntu-24.04, debian-12 or rocky-9.
    type: str
    required: true
  architecture:
    description: The processor as C(uname -m) calls it.
    type: str
    required: true
  kernel:
    description: The kernel as C(uname -r) calls it.
    type: str
    required: true
  branch:
    description: The branch of the driver, such as 580; a distribution's own driver has one too.
    type: int
    required: true
  modules:
    description: The flavour of the kernel modules.
    type: str
    choices: [open, proprietary]
    required: true
  fabric:
    description: What joins the GPUs and needs a manager of its own.
    type: str
    choices: [none, nvswitch, nvlink5]
    default: none
  floor:
    description: The oldest driver the release runs on; empty for any.
    type: str
    default: ""
  diagnosis:
    description: Whether NVIDIA's own diagnosis (DCGM) is wanted too.
    type: bool
    default: false
  gpus:
    description: PCI identities (vendor:device) of the host's GPUs.
    type: list
    elements: str
    default: []
  available:
    description: What the bundle carries, each as name=version.
    type: list
    elements: str
    required: true
author: aibox maintainers
"""

EXAMPLES = r"""
- name: Choose the driver
  driver_choice:
    system: ubuntu-24.04
    architecture: x86_64
    kernel: 6.8.0-45-generic
    branch: 580
    modules: open
    available: [nvidia-utils-580-server=580.178.04-0ubuntu0.24.04.1]
  register: chosen
"""

RETURN = r"""
choice:
  description: >-
    route, version of the driver, packages in their order, compiles (whether a
    module is compiled here), units to enable, modules to load at boot; problems, each with check,
    found, expected and fix.
  returned: always
  type: dict
"""

_PROFILES, _INSPECT = "./aibox profiles", "./aibox inspect BUNDLE"

LAST_BRANCH_BEFORE_TURING = 580
"""Maxwell, Pascal and Volta have no driver after it."""
LAST_PROPRIETARY_BRANCH = 614
"""From 615 on there are open modules only (gpu-driver-container, ubuntu24.04/precompiled)."""

# First and last device identity of a generation (pci.ids; tests/assets holds what it is tested by).
GENERATIONS = (
    (0x1340, 0x15BF, "maxwell"),
    (0x15C0, 0x15FF, "pascal"),
    (0x1600, 0x171F, "maxwell"),
    (0x1720, 0x173F, "pascal"),
    (0x1740, 0x17FF, "maxwell"),
    (0x1B00, 0x1D7F, "pascal"),
    (0x1D80, 0x1DFF, "volta"),
    (0x1E00, 0x1FFF, "turing"),
    (0x2080, 0x20FF, "ampere"),
    (0x2180, 0x21FF, "turing"),
    (0x2200, 0x22BF, "ampere"),
    (0x2300, 0x23FF, "hopper"),
    (0x2400, 0x25FF, "ampere"),
    (0x2600, 0x28FF, "ada"),
    (0x2900, 0x2FFF, "blackwell"),
    (0x3180, 0x33FF, "blackwell"),
)
BEFORE_TURING = ("maxwell", "pascal", "volta")
GRACE_HOPPER = ("2342", "2345", "2348")
GRACE_BLACKWELL = ("2941", "31c2", "31c3")
# The oldest driver that knows a card (cloud-native-docs, platform-support.rst).
CARD_FLOORS = {
    "2901": ("HGX B200", "570.133.20"),
    "2bb5": ("RTX PRO 6000 Blackwell Server", "575.57.08"),
}


class Problem(NamedTuple):
    """Why a host cannot have the driver: one finding, whose fix ends in a command."""

    check: str
    found: str
    expected: str
    fix: str


@dataclass
class Choice:
    """The outcome; with problems, the rest is what was found so far."""

    route: str = ""
    version: str = ""
    packages: list[str] = field(default_factory=list)
    compiles: bool = False
    units: list[str] = field(default_factory=list)
    load: list[str] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)


def generation(device: str) -> str:
    """The generation of a PCI device identity (four hexadecimal digits), or nothing."""
    number = int(device, 16)
    return next((name for first, last, name in GENERATIONS if first <= number <= last), "")


# The packages of a fabric, oldest names last; those of `EQUAL` are of the driver's very version.
_MANAGER = {
    False: ("nvidia-fabricmanager", "nvidia-fabricmanager-{branch}"),
    True: ("nvidia-fabric-manager", "nvidia-fabricmanager"),
}
_QUERY: Alternatives = ("libnvidia-nscq", "libnvidia-nscq-{branch}")
_SUBNET: tuple[Alternatives, ...] = (("nvlsm",), ("infiniband-diags",))
_SUBNET_QUERY: Alternatives = ("libnvsdm", "libnvsdm-{branch}")
_MEMORY_EXPORT: Alternatives = ("nvidia-imex", "nvidia-imex-{branch}")
# NVIDIA's diagnosis: its tests are for the CUDA that the driver has.
_DIAGNOSIS: tuple[Alternatives, ...] = (
    ("datacenter-gpu-manager-4-core",),
    ("datacenter-gpu-manager-4-cuda{cuda}",),
)
DIAGNOSIS_OF_590 = "4.3"
FABRIC_UNIT = "nvidia-fabricmanager.service"
NVLINK5_MODULES = ("ib_umad", "mlx5_core")
MODULES = ("nvidia", "nvidia-uvm", "nvidia-modeset")


def choose(wish: Wish) -> Choice:
    """The first route whose every need the bundle meets, and all that speaks against it."""
    choice = Choice(load=list(MODULES), problems=list(_refused_cards(wish)))
    routes = [route for route in ROUTES if _fits(route, wish)]
    trials = [(route, *_fill(route, wish)) for route in routes]
    met = next((trial for trial in trials if not trial[2]), None)
    if met is None:
        choice.problems.append(_no_route(wish, trials))
        return choice
    route, packages, _ = met
    choice.route, choice.compiles = route.name, route.compiles
    choice.version = _version(route, wish)
    choice.packages = packages
    choice.problems += _old_driver(wish, choice.version)
    _add_fabric(choice, wish)
    _add_diagnosis(choice, wish)
    return choice


def _fits(route: Route, wish: Wish) -> bool:
    first, last = route.branches
    return (
        route.modules == wish.modules
        and re.fullmatch(route.systems, wish.system) is not None
        and first <= wish.branch <= last
    )


def _version(route: Route, wish: Wish) -> str:
    """The driver's version on a route, when it is of the branch wished for."""
    named = (name.format(branch=wish.branch) for name in route.version_of)
    version = next((found for name in named if (found := wish.version_of(name))), "")
    return version if numbers(version)[:1] == (wish.branch,) else ""


def _fill(route: Route, wish: Wish) -> tuple[list[str], list[str]]:
    """The packages of a route, and what the bundle lacks for it (in its first alternative)."""
    carried, version = wish.names(), _version(route, wish)
    found: list[str] = []
    lacking: list[str] = []
    for alternatives in route.needs:
        names = [_named(name, wish, version) for name in alternatives]
        met = next((name for name in names if name in carried), None)
        (found if met else lacking).append(met or names[0])
    if not version and not lacking:
        lacking.append(f"a driver of the branch {wish.branch}")
    extra = (_named(name, wish, version) for (name, *_) in route.wanted)
    return found + [name for name in extra if name in carried], lacking


def _named(pattern: str, wish: Wish, version: str) -> str:
    return pattern.format(
        branch=wish.branch,
        version=version or "VERSION",
        kernel=wish.kernel,
        # rpm packages of a kernel have it as their version, without the processor; ready modules
        # have it in their name, without the distribution.
        kernel_version=wish.kernel.removesuffix(f".{wish.architecture}"),
        cuda=13 if wish.branch >= 580 else 12,
        short_kernel=re.sub(r"\.el[0-9].*$", "", wish.kernel),
    )


def _no_route(wish: Wish, trials: Sequence[tuple[Route, list[str], list[str]]]) -> Problem:
    """What is missing on the way that misses least; a bundle for other kernels names them."""
    if not trials:
        return Problem(
            "driver packages",
            f"{wish.system}, branch {wish.branch}, {wish.modules} modules",
            "a distribution and a branch with such packages: Ubuntu, Debian, RHEL and its kin",
            "choose another profile or another host; this one says: cat /etc/os-release",
        )
    route, _, lacking = min(trials, key=lambda trial: len(trial[2]))
    kernels = carried_kernels(wish.available)
    return Problem(
        "driver packages",
        f"the bundle lacks {', '.join(lacking)}",
        f"the packages of the route {route.name} for the kernel {wish.kernel}"
        + (f"; it carries them for {', '.join(kernels)}" if kernels else ""),
        "boot a kernel of the bundle, or have one made for this kernel, which says: uname -r",
    )


_OF_A_KERNEL = re.compile(
    r"(?:linux-headers|linux-modules-nvidia-[0-9]+-server(?:-open)?)"
    r"-(?P<kernel>[0-9].*-[a-z0-9-]+)(?<!-common)"
)


def carried_kernels(available: Iterable[tuple[str, str]]) -> list[str]:
    """The kernels for which a bundle has headers or ready modules, as far as names tell."""
    found = set()
    for name, version in available:
        if match := _OF_A_KERNEL.fullmatch(name):
            found.add(match["kernel"])
        elif name == "kernel-devel":
            found.add(version.rpartition(":")[2])
    return sorted(found, key=numbers)


def _refused_cards(wish: Wish) -> Iterable[Problem]:
    """What a card cannot have, whatever the bundle carries."""
    open_only, closed_only = set(), set()
    for device in wish.devices:
        kind = generation(device)
        if kind == "blackwell" or device in GRACE_HOPPER:
            open_only.add(device)
        elif kind in BEFORE_TURING:
            closed_only.add(device)
    if wish.modules == "proprietary" and open_only:
        yield _wrong_modules(open_only, "open modules: Blackwell and GH200 have no others")
    if wish.modules == "open" and closed_only:
        yield _wrong_modules(closed_only, "proprietary modules: there are none before Turing else")
    if closed_only and wish.branch > LAST_BRANCH_BEFORE_TURING:
        yield Problem(
            "driver branch",
            f"{wish.branch} for {', '.join(sorted(closed_only))}",
            f"at most {LAST_BRANCH_BEFORE_TURING}: the last for cards before Turing",
            f"choose a profile with an older driver: {_PROFILES}",
        )
    if wish.modules == "proprietary" and wish.branch > LAST_PROPRIETARY_BRANCH:
        yield Problem(
            "driver modules",
            f"proprietary modules of the branch {wish.branch}",
            f"open modules: there are no others after {LAST_PROPRIETARY_BRANCH}",
            f"choose a profile with open modules: {_PROFILES}",
        )


def _wrong_modules(devices: Iterable[str], expected: str) -> Problem:
    return Problem(
        "driver modules",
        f"the other flavour for {', '.join(sorted(devices))}",
        expected,
        f"choose a profile for this card: {_PROFILES}",
    )


def _old_driver(wish: Wish, version: str) -> Iterable[Problem]:
    floors = [CARD_FLOORS[device] for device in wish.devices if device in CARD_FLOORS]
    if wish.floor:
        floors.append(("the release", wish.floor))
    for what, floor in dict.fromkeys(floors):
        if numbers(version) < numbers(floor):
            yield Problem(
                "driver version",
                version,
                f">= {floor} for {what}",
                f"have a bundle made with a newer driver; this one holds: {_INSPECT}",
            )


def _add_fabric(choice: Choice, wish: Wish) -> None:
    """The fabric's manager and its libraries, of the very version of the driver."""
    if wish.fabric == "none":
        return
    equal = [_MANAGER[wish.rpm], _QUERY]
    if wish.fabric == "nvlink5":
        choice.load += NVLINK5_MODULES
        # libnvsdm is made for x86-64 alone.
        equal += [_SUBNET_QUERY] if wish.architecture == "x86_64" else []
        equal += [_MEMORY_EXPORT] if set(wish.devices) & set(GRACE_BLACKWELL) else []
        _add(choice, wish, _SUBNET, equal=False)
    _add(choice, wish, equal, equal=True)
    choice.units.append(FABRIC_UNIT)


def _add_diagnosis(choice: Choice, wish: Wish) -> None:
    if not wish.diagnosis:
        return
    _add(choice, wish, _DIAGNOSIS, equal=False)
    version = wish.version_of(_DIAGNOSIS[0][0])
    if wish.branch >= 590 and version and numbers(version) < numbers(DIAGNOSIS_OF_590):
        choice.problems.append(
            Problem(
                "diagnosis",
                f"DCGM {version}",
                f">= {DIAGNOSIS_OF_590} for the branch {wish.branch}",
                f"have a bundle made with a newer one; this one holds: {_INSPECT}",
            )
        )


def _add(choice: Choice, wish: Wish, needs: Iterable[Alternatives], *, equal: bool) -> None:
    for alternatives in needs:
        names = [_named(name, wish, choice.version) for name in alternatives]
        found = {name: wish.version_of(name) for name in names if wish.version_of(name)}
        fitting = [
            name for name, version in found.items() if not equal or version == choice.version
        ]
        if fitting:
            choice.packages.append(fitting[0])
        else:
            choice.problems.append(_lacking(names, found, choice.version if equal else ""))


def _lacking(names: Sequence[str], found: Mapping[str, str], version: str) -> Problem:
    """A package that belongs to the driver; with `version`, it must be of that very one."""
    has = ", ".join(f"{name} {known}" for name, known in found.items())
    return Problem(
        "fabric manager" if version or names[0] in sum(_SUBNET, ()) else "diagnosis",
        f"the bundle has {has}" if has else f"the bundle lacks {names[0]}",
        f"{' or '.join(names)} {version}: equal to the driver" if version else " or ".join(names),
        f"have a bundle made that fits together; this one holds: {_INSPECT}",
    )


def main() -> None:
    """Answer Ansible."""
    texts = ("system", "architecture", "kernel")
    module = AnsibleModule(
        argument_spec={
            **{name: {"type": "str", "required": True} for name in texts},
            "branch": {"type": "int", "required": True},
            "modules": {"type": "str", "choices": ["open", "proprietary"], "required": True},
            "fabric": {
                "type": "str",
                "choices": ["none", "nvswitch", "nvlink5"],
                "default": "none",
            },
            "floor": {"type": "str", "default": ""},
            "diagnosis": {"type": "bool", "default": False},
            "gpus": {"type": "list", "elements": "str", "default": []},
            "available": {"type": "list", "elements": "str", "required": True},
        },
        supports_check_mode=True,
    )
    given = dict(module.params)
    pairs = (item.partition("=") for item in given.pop("available"))
    available = tuple((name, version) for name, _, version in pairs)
    choice = choose(Wish(**{**given, "gpus": tuple(given["gpus"]), "available": available}))
    problems = [problem._asdict() for problem in choice.problems]
    module.exit_json(choice={**vars(choice), "problems": problems})


if __name__ == "__main__":
    main()
