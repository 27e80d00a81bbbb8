"""What a user asks, with what was said before; pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Role = Literal["user", "assistant"]

# Older turns than these cost context and rarely change what "it" means.
MAX_TURNS = 6
MAX_TURN_CHARACTERS = 2000


@dataclass(frozen=True, slots=True)
class Turn:
    """One earlier message of the same conversation."""

    role: Role
    text: str


@dataclass(frozen=True, slots=True)
class Question:
    """A question; `language` ("en" or "ko") is detected when None; `history` is oldest first."""

    text: str
    language: str | None = None
    history: tuple[Turn, ...] = ()

    def in_context(self) -> str | None:
        """The question with the user's previous one before it ("And on two servers?"), or None."""
        previous = [turn.text for turn in self.history if turn.role == "user"]
        return f"{previous[-1]}\n{self.text}" if previous else None


def recent(turns: Sequence[Turn]) -> tuple[Turn, ...]:
    """The last `MAX_TURNS` turns, each cut to `MAX_TURN_CHARACTERS` characters."""
    return tuple(Turn(turn.role, turn.text[:MAX_TURN_CHARACTERS]) for turn in turns[-MAX_TURNS:])
