"""`aibox have`: what this box holds."""

from __future__ import annotations

from aibox import exchange
from aibox.cli import show
from aibox.cli.options import AsJson
from aibox.cli.workplace import workplace


def have(as_json: AsJson = False) -> None:
    """What this box holds, signed by it: a delta bundle is made against this list."""
    del as_json  # It is JSON in any case, byte for byte as the box signed it.
    with show.progress() as report:
        data = exchange.have(workplace(report))
    show.text(data.decode())


COMMANDS = {"have": have}
