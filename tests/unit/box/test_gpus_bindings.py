"""NVIDIA's own bindings against a double of the library that they load, made here in C.

What the library would say of a real card is not tested; that its functions are called as they
want to be called, and that its refusals become sentences, is.
"""

from __future__ import annotations

import ast
import inspect
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pynvml
import pytest

from aibox.box import gpus
from machines import A100_PCIE, add_pci_device

COMPILER = shutil.which("cc")
LIBRARY = r"""
#include <string.h>
typedef struct { unsigned long long total, free, used; } memory;
static int wanted(void *device) { return device == (void *)0x17; }
int nvmlInitWithFlags(unsigned flags) { return INIT; }
int nvmlShutdown(void) { return 0; }
const char *nvmlErrorString(int code) { return "?"; }
int nvmlDeviceGetHandleByPciBusId_v2(const char *bus, void **device) {
  if (strcmp(bus, "0000:17:00.0")) return 6;
  *device = (void *)0x17;
  return 0;
}
int nvmlDeviceGetMemoryInfo(void *device, memory *info) {
  info->total = 81920ULL << 20;
  return wanted(device) ? 0 : 2;
}
int nvmlDeviceGetMigMode(void *device, unsigned *now, unsigned *next) {
  *now = *next = 1;
  return wanted(device) ? 0 : 2;
}
int nvmlDeviceGetName(void *device, char *name, unsigned length) {
  strncpy(name, "NVIDIA A100 80GB PCIe", length);
  return wanted(device) ? 0 : 2;
}
int nvmlDeviceGetUUID(void *device, char *uuid, unsigned length) {
  strncpy(uuid, "GPU-17", length);
  return wanted(device) ? 0 : 2;
}
int nvmlDeviceGetCudaComputeCapability(void *device, int *major, int *minor) {
  *major = 8;
  *minor = 0;
  return wanted(device) ? 0 : 2;
}
"""
PROGRAM = """
import json, sys
from pathlib import Path
from aibox.box import gpus
found = gpus.detect(Path(sys.argv[1]) / "sys", Path(sys.argv[1]) / "proc")
one = found.gpus[0]
told = [one.name, one.uuid, one.memory_mib, one.capability, one.mig]
print(json.dumps([told, found.problems, len(found.gpus)]))
"""


def test_every_function_that_is_called_exists() -> None:
    tree = ast.parse(inspect.getsource(gpus))
    called = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    named = {name for name in called if name.startswith("nvml")}
    assert len(named) > 5
    assert named <= set(dir(pynvml))


@pytest.mark.skipif(COMPILER is None, reason="no C compiler to make a double of NVML with")
@pytest.mark.parametrize(
    ("init", "addresses", "told", "problem"),
    [
        (0, ["17"], ["NVIDIA A100 80GB PCIe", "GPU-17", 81920, [8, 0], True], ""),
        (0, ["17", "ca"], ["NVIDIA A100 80GB PCIe", "GPU-17", 81920, [8, 0], True], "ca:00.0"),
        (
            18,
            ["17"],
            ["", "", None, None, False],
            "NVML: RM has detected an NVML/RM version mismatch",
        ),
    ],
    ids=["a card", "a lost card", "a mismatch"],
)
def test_the_real_bindings_speak_to_the_library(
    tmp_path: Path, init: int, addresses: list[str], told: list[object], problem: str
) -> None:
    make_library(tmp_path, init)
    for one in addresses:
        add_pci_device(tmp_path / "sys", f"0000:{one}:00.0", A100_PCIE, "0x030200", "nvidia")
    loaded = tmp_path / "proc/driver/nvidia/version"
    loaded.parent.mkdir(parents=True)
    loaded.write_text("NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.95.05  x\n")
    found, problems, count = detect(tmp_path)
    assert found == told
    assert count == len(addresses)
    assert len(problems) == bool(problem)
    assert problem in "".join(problems)


def make_library(folder: Path, init: int) -> None:
    assert COMPILER is not None
    source = folder / "nvml.c"
    source.write_text(LIBRARY)
    library = folder / "libnvidia-ml.so.1"
    command = [COMPILER, "-shared", "-fPIC", f"-DINIT={init}", "-o", str(library), str(source)]
    subprocess.run(command, check=True, capture_output=True)


def detect(folder: Path) -> list[list[object]]:
    """In a process of its own, because a library is loaded once for all."""
    environment = {
        **os.environ,
        "LD_LIBRARY_PATH": str(folder),
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
    }
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(folder)],
        env=environment,
        check=True,
        capture_output=True,
        text=True,
    )
    found: list[list[object]] = json.loads(done.stdout)
    return found
