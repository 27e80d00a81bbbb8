"""A project of a few small files to lock, and profiles with wishes for it."""

from __future__ import annotations

import shutil
import tomllib
from pathlib import Path
from typing import Any

import tomli_w

from aibox import content as contents
from aibox.content import Content
from aibox.lock import PIN_KINDS
from examples import PROFILE

DIGESTS = {name: letter * 64 for name, letter in (("one", "1"), ("two", "2"), ("new", "3"))}
PROGRAM_LOCK = f"# made by a test\ntool==1.0 \\\n    --hash=sha256:{DIGESTS['two']}\n"
FILES = (
    "stacks/prompts/system.txt",
    "stacks/rag/golden.toml",
    "stacks/rag/rag.toml.j2",
    "stacks/rag/app/pyproject.toml",
    "stacks/rag/app/src/rag_app/model.py",
    "stacks/process/supervisord.conf.j2",
    "docs/manual/concepts.md",
)


def make(folder: Path) -> Content:
    """Copies of a few of the project's own files, and the profile `local` without wishes."""
    own = contents.find().root
    for file in FILES:
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(own / file, folder / file)
    content = Content(folder)
    content.profiles.mkdir()
    content.program_requirements.parent.mkdir()
    content.program_requirements.write_text(PROGRAM_LOCK)
    write_profile(content)
    return content


def write_profile(
    content: Content,
    name: str = "local",
    *,
    architectures: tuple[str, ...] = ("x86_64",),
    **wishes: Any,
) -> None:
    """The profile `name` with wishes by kind (`model=[...]`); replaces one of that name."""
    assert set(wishes) <= set(PIN_KINDS)
    values = tomllib.loads(PROFILE) | {"name": name}
    values["requires"]["architectures"] = list(architectures)
    for kind, found in wishes.items():
        values[kind] = [wish.model_dump(mode="json", exclude_none=True) for wish in found]
    (content.profiles / f"{name}.toml").write_text(tomli_w.dumps(values), encoding="utf-8")


def pylock(*packages: tuple[str, str, str]) -> str:
    """What uv answers for packages as (name, version, key of `DIGESTS`)."""
    return 'lock-version = "1.0"\n' + "".join(
        f'[[packages]]\nname = "{name}"\nversion = "{version}"\n'
        f'wheels = [{{ url = "http://127.0.0.1/x/{name}-{version}-py3-none-any.whl", size = 5, '
        f'hashes = {{ sha256 = "{DIGESTS[digest]}" }} }}]\n'
        for name, version, digest in packages
    )
