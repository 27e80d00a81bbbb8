"""`aibox compiled`: what an engine of this box has compiled, for others of the same kind."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from aibox import runtimes
from aibox.box.store import Store
from aibox.cli import show
from aibox.cli.options import AsJson
from aibox.cli.workplace import workplace
from aibox.prepare import require_current


def compiled(
    file: Annotated[Path, typer.Argument(help="A new file, which a packager takes in.")],
    service: Annotated[str, typer.Option("--service", help="Of which engine.")] = "chat",
    as_json: AsJson = False,
) -> None:
    """Write what an engine compiled at its starts into a file, for a release to carry."""
    with show.progress() as report:
        store = Store(workplace(report).root)
        done = runtimes.pack_compiled(store, require_current(store), service, file)
    if as_json:
        show.data({**asdict(done), "file": str(done.file)})
        return
    show.text(f"{done.file}: {done.files} files, {done.size} bytes, sha256 {done.sha256}")
    show.text("carried by a release whose profile wishes for it as a [[file]] with the name")
    show.text(f"compiled-{done.service}; read it first: it is code that engines will run")


COMMANDS = {"compiled": compiled}
