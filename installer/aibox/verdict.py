"""What a gate said about a generation: values only, because history outlives the gate."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class CaseResult(BaseModel):
    """One question put to the box. `seconds` is wall time; `reason` says why it failed."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    id: str
    passed: bool
    reason: str = ""
    seconds: float = 0.0


class Verdict(BaseModel):
    """The gate's answer. `reason` is one sentence for people, empty when it passed."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    passed: bool
    results: tuple[CaseResult, ...] = ()
    reason: str = ""

    def failed_ids(self) -> tuple[str, ...]:
        """The cases that block, by name: an average never does."""
        return tuple(result.id for result in self.results if not result.passed)
