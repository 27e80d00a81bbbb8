"""Reading server-sent events."""

from __future__ import annotations

import json
from typing import Any


def named_events(body: str) -> list[tuple[str, Any]]:
    """`(event, data)` of each event of /api/ask."""
    found = []
    for block in body.strip().split("\n\n"):
        name, data = block.split("\n", 1)
        found.append((name.removeprefix("event: "), json.loads(data.removeprefix("data: "))))
    return found


def openai_chunks(body: str) -> list[Any]:
    """The chunks of an OpenAI stream, which must end with `[DONE]`."""
    blocks = [block.removeprefix("data: ") for block in body.strip().split("\n\n")]
    assert blocks.pop() == "[DONE]"
    return [json.loads(block) for block in blocks]
