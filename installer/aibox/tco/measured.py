"""What the box has counted of its own answers since its application started."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Annotated, Any

from pydantic import Field, ValidationError

from aibox.schema import Model

DAY_S = 86_400
Number = Annotated[int, Field(ge=0)]


class Usage(Model):
    """`GET /api/usage`. `counted` are the answers whose engine counted tokens."""

    model_config = Model.model_config | {"extra": "ignore"}

    seconds: Annotated[float, Field(ge=0)]
    answers: Number
    counted: Number
    prompt_tokens: Number
    completion_tokens: Number


@dataclass(frozen=True, slots=True)
class Measured:
    """Averages of a box; None where it has not measured, with `reasons`."""

    tokens_in: Decimal | None = None
    tokens_out: Decimal | None = None
    requests_per_day: Decimal | None = None
    answers: int = 0
    seconds: int = 0
    reasons: tuple[str, ...] = ()

    def as_json(self) -> dict[str, object]:
        """For `--json`; averages are rounded to tokens and requests."""
        return {
            "answers": self.answers,
            "seconds": self.seconds,
            "tokens_in": _rounded(self.tokens_in),
            "tokens_out": _rounded(self.tokens_out),
            "requests_per_day": _rounded(self.requests_per_day),
            "unknown_because": list(self.reasons),
        }


def read(body: Mapping[str, Any]) -> Measured:
    """What a box says of itself.

    An average needs one counted answer, a rate a whole day. Where tokens are counted only such
    answers are requests: the others (no evidence, quotes) asked no language model.
    """
    try:
        usage = Usage.model_validate(body)
    except ValidationError:
        return Measured(reasons=("what the box says of its usage is not understood",))
    tokens_in, tokens_out, reasons = _tokens(usage)
    rate = None
    if usage.seconds < DAY_S:
        hours = f"{usage.seconds / 3600:.1f} hours"
        reasons += (f"requests a day, for the box has counted for {hours} and a day is needed",)
    elif usage.answers:
        requests = usage.counted if tokens_in is not None else usage.answers
        rate = Decimal(requests) * DAY_S / Decimal(int(usage.seconds))
    return Measured(tokens_in, tokens_out, rate, usage.answers, int(usage.seconds), reasons)


def _tokens(usage: Usage) -> tuple[Decimal | None, Decimal | None, tuple[str, ...]]:
    if not usage.answers:
        return None, None, ("tokens, for the box has answered nothing since it started",)
    if not usage.counted or not usage.prompt_tokens or not usage.completion_tokens:
        return None, None, (f"tokens, for the engine counted none in {usage.answers:,} answers",)
    tokens_in = Decimal(usage.prompt_tokens) / usage.counted
    return tokens_in, Decimal(usage.completion_tokens) / usage.counted, ()


def _rounded(number: Decimal | None) -> int | None:
    return None if number is None else round(number)
