"""What a gate said about a generation: values only, because history outlives the gate."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class CaseResult(BaseModel):
    """One question put to the box. `seconds` is wall time.

    `reason` says why it failed; of one that passed, what stepped in for a language model elsewhere.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    id: str
    passed: bool
    reason: str = ""
    seconds: float = 0.0


class Trouble(BaseModel):
    """What an error said beside its message (`errors.AiboxError`); `fault` as it is told."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    reference: str
    context: str
    hint: str
    fault: str


class Verdict(BaseModel):
    """The gate's answer. `reason` is one sentence for people, empty when it passed.

    `trouble` is there when no question was asked, because an error came before. `throughput` is
    one sentence about the speed against the release before, "" where it was not asked for.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    passed: bool
    results: tuple[CaseResult, ...] = ()
    reason: str = ""
    trouble: Trouble | None = None
    throughput: str = ""

    def failed_ids(self) -> tuple[str, ...]:
        """The cases that block, by name: an average never does."""
        return tuple(result.id for result in self.results if not result.passed)
