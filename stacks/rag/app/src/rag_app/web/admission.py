"""How many answers may be written at once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rag_app.web.refusal import Refusal

RETRY_AFTER_S = 2


class Admission:
    """Turns away what is over the limit at once: a full box must not become a slow one."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.running = 0

    @contextmanager
    def admitted(self) -> Iterator[None]:
        """Count one answer as long as it is being written; a 429 `Refusal` over the limit."""
        if self.running >= self._limit:
            raise Refusal(
                429,
                "busy",
                f"The box is writing {self._limit} answers already.",
                hint=f"Try again in {RETRY_AFTER_S} seconds.",
                fault="the host",
                headers={"retry-after": str(RETRY_AFTER_S)},
            )
        self.running += 1
        try:
            yield
        finally:
            self.running -= 1
