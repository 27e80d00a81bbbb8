"""`python -m rag_app web|vectors|ingest --config FILE`: the processes of the application."""

from __future__ import annotations

import argparse
import signal
import sys
from importlib import import_module
from pathlib import Path

from rag_app.config import load
from rag_app.errors import RagError

# Imported only when chosen: no process carries the libraries of another.
COMMANDS = {
    "web": "rag_app.web.server",
    "vectors": "rag_app.vectors.service",
    "ingest": "rag_app.ingest.worker",
}


def main(arguments: list[str] | None = None) -> int:
    """Run one process until it is told to stop; its exit status, 2 for a wrong configuration."""
    parser = argparse.ArgumentParser(prog="rag_app", description=__doc__)
    parser.add_argument("command", choices=sorted(COMMANDS))
    parser.add_argument("--config", type=Path, required=True, metavar="FILE", help="rag.toml")
    chosen = parser.parse_args(arguments)
    _end_when_told()
    try:
        config = load(chosen.config)
        return int(import_module(COMMANDS[chosen.command]).run(config) or 0)
    except RagError as error:
        sys.stderr.write(f"rag_app {chosen.command}: {error}\n")
        return 2


def _end_when_told() -> None:
    """End with 0 at SIGTERM from the first moment on, until the process handles it itself.

    The first process of a container does not get signals that it has no handler for.
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))


if __name__ == "__main__":
    sys.exit(main())
