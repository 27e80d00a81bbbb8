"""Makes the folder from which the application's image is built: its packages as they are locked.

    python3 stacks/rag/image_context.py FOLDER [INTERPRETER]

INTERPRETER is that of the base image, like 3.12 (the default). pip fetches the packages from the
index it is configured for and refuses any bytes but the locked ones. Then, with a base by digest:

    docker build --network none --build-arg BASE=python@sha256:... \\
        --file stacks/rag/Containerfile --tag localhost/aibox/app:0.1.0 FOLDER
"""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

LOCK = Path(__file__).resolve().parents[2] / "models.lock"
PLATFORMS = ("manylinux_2_28_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64")


def requirements(lock: dict[str, object]) -> str:
    """The locked packages in the form in which pip insists on their digests."""
    lines = []
    for wheel in lock["wheel"]:
        hashes = " ".join(f"--hash=sha256:{file['sha256']}" for file in wheel["files"])
        lines.append(f"{wheel['name']}=={wheel['version']} {hashes}")
    return "\n".join(sorted(lines)) + "\n"


def main() -> int:
    """Write requirements.txt and wheels/ into the folder; pip's exit status."""
    if len(sys.argv) not in {2, 3}:
        sys.stderr.write(str(__doc__))
        return 2
    folder, python = Path(sys.argv[1]), (*sys.argv[2:], "3.12")[0]
    (folder / "wheels").mkdir(parents=True, exist_ok=True)
    file = folder / "requirements.txt"
    file.write_text(requirements(tomllib.loads(LOCK.read_text(encoding="utf-8"))))
    command = [sys.executable, "-m", "pip", "download", "--require-hashes", "--no-deps"]
    command += ["--only-binary", ":all:", "--python-version", python, "--implementation", "cp"]
    command += [part for name in PLATFORMS for part in ("--platform", name)]
    command += ["--quiet", "--dest", str(folder / "wheels"), "--requirement", str(file)]
    return subprocess.run(command, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
