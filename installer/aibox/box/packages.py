"""The packager's side of packages: resolve requirements with uv, read what a wheel says of itself.

Only `aibox lock` comes here; a box never resolves anything.
"""

from __future__ import annotations

import importlib.util
import shutil
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from email.parser import Parser
from email.utils import parseaddr
from pathlib import Path

from aibox import process
from aibox.errors import Failed, Fault
from aibox.schema import Model

_TIMEOUT_S = 300.0
_LICENCE_CLASSIFIER = "License :: OSI Approved :: "


class Description(Model):
    """What a package's metadata states; `unknown` where it states nothing."""

    licence: str
    owner: str


def resolve(requirements: Sequence[str], keep: Sequence[str], python: str) -> str:
    """A PEP 751 lock of `requirements` for every platform from Python `python` up.

    `keep` are exact versions to stay with. Raises `Failed` without uv, or when uv fails.
    """
    with tempfile.TemporaryDirectory(prefix="aibox-lock-") as folder:
        wishes, kept = Path(folder) / "requirements.in", Path(folder) / "keep.txt"
        wishes.write_text("\n".join(requirements) + "\n", encoding="utf-8")
        kept.write_text("\n".join(keep) + "\n", encoding="utf-8")
        output = Path(folder) / "pylock.toml"
        done = process.run(
            [*_uv(), "pip", "compile", "--quiet", "--universal", "--python-version", python,
             "--format", "pylock.toml", "--constraint", kept, "-o", output, wishes],
            environment=process.environment(keep_prefixes=("PIP_", "UV_", "SSL_")),
            timeout_s=_TIMEOUT_S,
        )  # fmt: skip
        if done.status:
            raise Failed(
                "resolution-failed",
                "the app's packages could not be resolved",
                context=done.text[-600:],
                hint="check stacks/rag/app/pyproject.toml and the index, then: ./aibox lock",
                fault=Fault.UPSTREAM,
            )
        return output.read_text(encoding="utf-8")


def _uv() -> list[str]:
    if importlib.util.find_spec("uv") is not None:
        return [sys.executable, "-m", "uv"]
    found = shutil.which("uv")
    if found:
        return [found]
    raise Failed(
        "uv-missing",
        "resolving packages needs uv, which only a packager's machine has to have",
        hint="install it with: python3 -m pip install --user uv",
        fault=Fault.HOST,
    )


def describe(wheel: Path) -> Description:
    """Licence and owner as the wheel's own METADATA states them."""
    with zipfile.ZipFile(wheel) as archive:
        name = next(item for item in archive.namelist() if item.endswith(".dist-info/METADATA"))
        metadata = Parser().parsestr(archive.read(name).decode("utf-8"), headersonly=True)
    stated = [metadata.get("License-Expression", "")] + [
        value.removeprefix(_LICENCE_CLASSIFIER)
        for value in metadata.get_all("Classifier", [])
        if value.startswith(_LICENCE_CLASSIFIER)
    ]
    stated.append(metadata.get("License", ""))
    owners = [metadata.get("Maintainer", ""), metadata.get("Author", "")]
    # Names only: an address is personal data, and nobody on a site writes to it.
    owners += [parseaddr(metadata.get(f"{key}-email", ""))[0] for key in ("Maintainer", "Author")]
    return Description(licence=_first(stated), owner=_first(owners))


def _first(values: Sequence[object]) -> str:
    texts = [str(value).strip() for value in values if value]
    lines = [text.splitlines()[0] for text in texts if text]
    return next((line for line in lines if len(line) <= 120), "unknown")
