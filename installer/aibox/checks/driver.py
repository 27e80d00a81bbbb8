"""The driver: is it there, of one version, of the right kind, built, signed, and will it stay.

| check | what people run into |
|---|---|
| gpu driver | nouveau or a virtual machine holds the card; nothing is loaded (13) |
| driver versions | libraries were upgraded, the loaded module was not (5, 28) |
| driver age | older than the release needs (3) |
| kernel modules | proprietary ones on a card that wants open ones (§2.2) |
| secure boot | a module that nobody signed is rejected (16) |
| module build | DKMS did not build for this kernel (14), or has no headers (15) |
| after a reboot | the loaded module is not on this disk (27) |
| driver packages | branches or flavours are mixed (32) |
| held packages | an unattended upgrade will take the driver away (5) |
| leftover installer | an older .run installation shadows the packages (33) |
| heterogeneous memory | CUDA fails to start on EL 9 kernels (9) |
| mig and the driver | branch 570 miscounts where some cards are in slices (26) |

Numbers are those of the list of failures that people reported, which this project keeps.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from aibox.checks import texts
from aibox.checks.evidence import Evidence, Source, bad, doubtful, good, graded
from aibox.hardware import Modules, branch, version
from aibox.preflight import Finding, Status

REBOOT = "restart the host: systemctl reboot"
INSTALL = "let an installation bring it: ./aibox install"
_BLACKWELL = (10, 0)
_FLAVOURED = re.compile(
    r"^(?:nvidia-(?:driver|dkms|utils|compute-utils|kernel-source|kernel-common|headless"
    r"|headless-no-dkms|firmware)|libnvidia-(?:compute|cfg1|decode|encode|extra|fbc1|gl))"
    r"-(\d{3})(-server)?(-open)?(?:-[\d.]+)?$"
)
_UPGRADERS = ("unattended-upgrades.service", "apt-daily-upgrade.timer", "dnf-automatic.timer")
# nvidia-smi says "Driver/library version mismatch", NVML's bindings "NVML/RM version mismatch".
_MISMATCH = "version mismatch"


def examine(evidence: Evidence) -> Iterator[Finding]:
    """Every finding about the driver."""
    yield _loaded(evidence)
    yield from _secure_boot(evidence)
    yield from _build(evidence)
    yield from _mixed(evidence)
    yield from _leftovers(evidence)
    if evidence.machine.driver:
        yield _versions(evidence)
        yield from _age(evidence)
        yield from _flavour(evidence)
        yield from _after_reboot(evidence)
        yield from _held(evidence)
        yield from _memory(evidence)
        yield from _mig_branch(evidence)


def of_release(evidence: Evidence) -> Iterator[Finding]:
    """A host that has to have a driver already, because the release has none to install."""
    if evidence.wanted is None or evidence.brings_driver or not evidence.machine.gpus:
        return
    loaded, least = evidence.machine.driver, evidence.wanted.driver_min
    expected = f"{least} or newer; the release brings none"
    if version(loaded) >= version(least):
        yield good("gpu driver", loaded, expected)
    else:
        fix = "install NVIDIA's driver as the distribution does, then: ./aibox preflight"
        yield bad("gpu driver", loaded or "no driver is loaded", expected, fix=fix)


def _loaded(evidence: Evidence) -> Finding:
    holders = {one.kernel_driver for one in evidence.used} - {"", "nvidia"}
    if evidence.machine.driver and not holders:
        return good("gpu driver", evidence.machine.driver, "NVIDIA's driver holds every GPU")
    if "nouveau" in holders or "nouveau" in texts.loaded_modules(evidence.text(Source.MODULES)):
        found = "nouveau holds a GPU"
        fix = f"an installation bars nouveau; then {REBOOT}"
    elif holders:
        found = f"{', '.join(sorted(holders))} holds a GPU, perhaps for a virtual machine"
        fix = "give it back to the host, then see: lspci -k -d 10de:"
    else:
        found, fix = "no driver is loaded", INSTALL
    return graded(evidence.severe, "gpu driver", found, "NVIDIA's driver holds every GPU", fix=fix)


def _versions(evidence: Evidence) -> Finding:
    loaded = evidence.machine.driver
    told = {
        "loaded": loaded,
        "libraries": texts.cards(evidence.text(Source.CARDS)).driver,
        "on disk": texts.fields(evidence.text(Source.MODULE)).get("version", ""),
    }
    found = ", ".join(f"{name} {one}" for name, one in told.items() if one)
    refusals = (*evidence.refused.values(), *evidence.machine.problems)
    if any(_MISMATCH in one for one in refusals):
        found += ", libraries of another version"
    elif len(set(told.values()) - {""}) < 2:
        return good("driver versions", found, "one version everywhere")
    count, users = texts.loaded_modules(evidence.text(Source.MODULES)).get("nvidia", (0, ()))
    if count:
        found += f"; in use {count} times" + (f" ({', '.join(users)})" if users else "")
    return bad("driver versions", found, "one version everywhere", fix=REBOOT)


def _age(evidence: Evidence) -> Iterator[Finding]:
    if evidence.wanted is None:
        return
    loaded, least = evidence.machine.driver, evidence.wanted.driver_min
    if version(loaded) >= version(least):
        yield good("driver age", loaded, f"{least} or newer")
    else:
        yield bad("driver age", loaded, f"{least} or newer", fix=INSTALL)


def _flavour(evidence: Evidence) -> Iterator[Finding]:
    licence = texts.fields(evidence.text(Source.MODULE)).get("license", "")
    is_open = "Open Kernel Module" in evidence.text(Source.VERSION) or "GPL" in licence
    if is_open:
        yield good("kernel modules", "open", "open ones")
        return
    newest = max((one.capability or (0, 0) for one in evidence.used), default=(0, 0))
    expected = "open ones: this generation has no others"
    unseen = "No devices were found" in evidence.refused.get(Source.CARDS, "")
    if newest >= _BLACKWELL or unseen:
        yield bad("kernel modules", "proprietary", expected, fix=INSTALL)
    elif evidence.wanted and evidence.wanted.modules is Modules.OPEN:
        yield doubtful("kernel modules", "proprietary", "open ones", fix=INSTALL)


def _secure_boot(evidence: Evidence) -> Iterator[Finding]:
    module = texts.fields(evidence.text(Source.MODULE))
    if not evidence.secure_boot or not module.get("version"):
        return
    signer = module.get("signer", "")
    log = evidence.text(Source.KERNEL_LOG)
    rejected = "Key was rejected by service" in log or "unavailable key is rejected" in log
    if signer and not rejected:
        yield good("secure boot", f"on; the module is signed by {signer}", "a module it accepts")
        return
    found = f"on; the module is signed by {signer or 'nobody'}"
    fix = (
        "use the distribution's signed modules, or enrol the key that signed this one, at the "
        "host's console: mokutil --import /var/lib/dkms/mok.pub"
    )
    yield bad("secure boot", found, "a module it accepts", fix=fix)


def _build(evidence: Evidence) -> Iterator[Finding]:
    known = texts.dkms(evidence.text(Source.DKMS))
    if not known or not evidence.kernel:
        return
    mine = [one for one in known if one.kernel == evidence.kernel]
    told = ", ".join(
        f"{one.name} {one.version} {one.state}" + (f" for {one.kernel}" if one.kernel else "")
        for one in (mine or known)
    )
    expected = f"installed for {evidence.kernel}"
    if any(one.state == "installed" for one in mine):
        yield good("module build", told, expected)
        return
    headers = f"/lib/modules/{evidence.kernel}/build"
    if headers not in evidence.existing:
        told += f"; {headers} is missing"
        fix = f"install the headers of this kernel, then: dkms autoinstall -k {evidence.kernel}"
    else:
        log = f"/var/lib/dkms/{known[0].name}/{known[0].version}/build/make.log"
        fix = f"start a kernel that it was built for; why it failed: less {log}"
    yield graded(
        Status.WARN if _on_disk(evidence) else evidence.severe,
        "module build",
        told,
        expected,
        fix=fix,
    )


def _on_disk(evidence: Evidence) -> bool:
    return bool(texts.fields(evidence.text(Source.MODULE)).get("version"))


def _after_reboot(evidence: Evidence) -> Iterator[Finding]:
    if Source.MODULE not in evidence.said and Source.MODULE not in evidence.refused:
        return
    expected = "the loaded module lies on this host"
    if _on_disk(evidence):
        filename = texts.fields(evidence.text(Source.MODULE)).get("filename", "yes")
        yield good("after a reboot", filename, expected)
    else:
        found = "the module is loaded, and modinfo does not find it"
        yield bad("after a reboot", found, expected, fix=INSTALL)


def _mixed(evidence: Evidence) -> Iterator[Finding]:
    kinds: dict[str, list[str]] = {}
    for package in texts.packages(evidence.text(Source.PACKAGES)):
        if found := _FLAVOURED.match(package.name):
            kinds.setdefault(found[1] + (found[2] or ""), []).append(package.name)
    if not kinds:
        return
    told = "; ".join(f"{kind}: {len(names)} packages" for kind, names in sorted(kinds.items()))
    if len(kinds) == 1:
        yield good("driver packages", told, "one branch and flavour")
        return
    fewest = min(kinds.values(), key=len)
    fix = f"remove the ones that are not wanted: apt-get purge {' '.join(sorted(fewest))}"
    yield bad("driver packages", told, "one branch and flavour", fix=fix)


def _held(evidence: Evidence) -> Iterator[Finding]:
    """Packages that an upgrade nobody watches would replace under a running driver."""
    driver = [
        one
        for one in texts.packages(evidence.text(Source.PACKAGES))
        if _FLAVOURED.match(one.name) or _is_kernel(one.name, evidence.kernel)
    ]
    if not driver:
        return
    loose = sorted(one.name for one in driver if not one.held)
    known = texts.units(evidence.text(Source.UNITS))
    awake = [name for name in _UPGRADERS if known.get(name, {}).get("ActiveState") == "active"]
    if not loose:
        yield good("held packages", f"{len(driver)} held", "driver and kernel are held")
        return
    found = f"{len(loose)} of {len(driver)} may be upgraded" + (
        f", and {awake[0]} does it unasked" if awake else ""
    )
    fix = f"hold them: apt-mark hold {' '.join(loose)}"
    yield doubtful("held packages", found, "driver and kernel are held", fix=fix)


def _is_kernel(package: str, kernel: str) -> bool:
    return bool(kernel) and package in (
        f"linux-image-{kernel}",
        f"linux-modules-{kernel}",
        f"linux-headers-{kernel}",
    )


def _leftovers(evidence: Evidence) -> Iterator[Finding]:
    paths = ("/usr/bin/nvidia-uninstall", "/var/log/nvidia-installer.log")
    left = [path for path in paths if path in evidence.existing]
    if not left:
        return
    packaged = any(
        _FLAVOURED.match(one.name) for one in texts.packages(evidence.text(Source.PACKAGES))
    )
    fix = "remove that installation before one by packages: nvidia-uninstall"
    if packaged and paths[0] in left:
        found = f"{left[0]} beside packages of a driver"
        yield bad("leftover installer", found, "a driver from packages alone", fix=fix)
    else:
        yield doubtful("leftover installer", left[0], "a driver from packages alone", fix=fix)


def _memory(evidence: Evidence) -> Iterator[Finding]:
    if ".el9" in evidence.kernel and evidence.text(Source.HMM).strip() == "N":
        yield doubtful(
            "heterogeneous memory",
            f"on, with kernel {evidence.kernel}",
            "off where CUDA does not start with it",
            fix="if CUDA fails with error 3 or 999: echo options nvidia_uvm uvm_disable_hmm=1 "
            "> /etc/modprobe.d/aibox-uvm.conf",
        )


def _mig_branch(evidence: Evidence) -> Iterator[Finding]:
    sliced = {one.mig for one in evidence.machine.gpus}
    if sliced == {True, False} and branch(evidence.machine.driver) == "570":
        found = f"driver {evidence.machine.driver}, some GPUs in slices and some whole"
        yield doubtful("mig and the driver", found, "a driver of 580 or newer", fix=INSTALL)
