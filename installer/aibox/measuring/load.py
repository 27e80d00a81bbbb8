"""The loads of `aibox bench`: what vLLM's own client is told, and what it answers.

Two shapes: texts that nobody has asked before, and questions about the same passages, which is
what a box that answers from documents sends. Both are made of random tokens, so they measure
speed and memory, never the quality of answers. Flags and result file are those of `vllm bench
serve` 0.32.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from enum import StrEnum
from typing import Annotated, Any

from pydantic import Field

from aibox.errors import Failed, Fault
from aibox.profile import Tuning
from aibox.schema import Model

CONCURRENCIES = (1, 2, 4, 8, 16, 32, 64)
QUICK = (1, 4)
CHARACTERS_PER_TOKEN = 2
"""A cautious guess between Korean and English, not measured: it makes passages long, not short."""
QUESTION_TOKENS = 64
FRESH_TOKENS = 1024
ASKED_AGAIN = 4
"""So many questions are put about the same passages."""
TEMPLATE_TOKENS = 64
"""Left for the chat template, and for random text that becomes more tokens than it was."""

_SHRINK = 4
_SECTIONS = ("ttft", "tpot", "e2el")


class Kind(StrEnum):
    """What is asked."""

    FRESH = "fresh"
    SHARED = "shared-prefix"


class Shape(Model):
    """One request in tokens: a beginning that others share, its own text, the answer."""

    kind: Kind
    shared: Annotated[int, Field(ge=0)]
    own: Annotated[int, Field(ge=1)]
    answer: Annotated[int, Field(ge=1)]

    @property
    def longest(self) -> int:
        """All of it in the engine, with the chat template around."""
        return self.shared + self.own + self.answer + TEMPLATE_TOKENS


class Load(Model):
    """So many requests of a shape, so many of them at once."""

    shape: Shape
    concurrency: Annotated[int, Field(ge=1)]
    requests: Annotated[int, Field(ge=1)]

    def __str__(self) -> str:
        return f"{self.shape.kind.value}, {self.concurrency} at once"


Count = Annotated[int, Field(ge=0, strict=True)]
NotNegative = Annotated[float, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]


class Spread(Model):
    """A latency in milliseconds: the middle one, and what 95 of 100 stay below."""

    p50: NotNegative
    p95: NotNegative


class Measured(Model):
    """What a load gave. `failed` requests got no answer; tokens and requests are per second."""

    load: Load
    completed: Count
    failed: Count
    seconds: Positive
    written_per_s: Positive
    all_per_s: Positive
    answers_per_s: Positive
    first_token: Spread
    token: Spread
    answer: Spread


def shapes(tuning: Tuning, context: int | None, *, quick: bool = False) -> tuple[Shape, ...]:
    """The two shapes for a release, within a `context` of tokens (None: as long as they are).

    `quick` divides texts and answers by four, for machines that need minutes for the whole.
    """
    part = _SHRINK if quick else 1
    passages = tuning.top_k * tuning.chunk_size // CHARACTERS_PER_TOKEN // part
    answer = max(1, tuning.max_answer_tokens // part)
    if context is not None:
        answer = max(1, min(answer, context // 4))
        passages = min(passages, max(1, context - answer - QUESTION_TOKENS - TEMPLATE_TOKENS))
    fresh = FRESH_TOKENS // part
    if context is not None:
        fresh = max(1, min(fresh, context - answer - TEMPLATE_TOKENS))
    return (
        Shape(kind=Kind.FRESH, shared=0, own=fresh, answer=answer),
        Shape(kind=Kind.SHARED, shared=passages, own=QUESTION_TOKENS, answer=answer),
    )


def concurrencies(most: int | None, *, quick: bool = False) -> tuple[int, ...]:
    """How many ask at once where nobody says; no more than the engine takes at once (`most`)."""
    wanted = QUICK if quick else CONCURRENCIES
    return tuple(many for many in wanted if most is None or many <= most) or (1,)


def loads(
    found: Sequence[Shape], at_once: Sequence[int], *, quick: bool = False
) -> tuple[Load, ...]:
    """Every shape at every concurrency, few at once first."""
    return tuple(
        Load(shape=shape, concurrency=many, requests=_requests(many, quick=quick))
        for shape in found
        for many in at_once
    )


def _requests(concurrency: int, *, quick: bool) -> int:
    # Whole sets of passages, each asked about `ASKED_AGAIN` times.
    return ASKED_AGAIN * -(-concurrency // 2) if quick else max(16, 8 * concurrency)


def command(load: Load, model: str, seed: int, folder: str, name: str) -> tuple[str, ...]:
    """The words for the client, beside the engine; it writes `folder`/`name` and nothing else.

    `seed` makes texts that the engine has not kept from an earlier measurement.
    """
    return (
        *("vllm", "bench", "serve", "--backend", "openai-chat"),
        *("--base-url", "http://127.0.0.1:8000", "--endpoint", "/v1/chat/completions"),
        *("--model", model, "--tokenizer", "/model", "--seed", str(seed)),
        *_dataset(load),
        *("--num-prompts", str(load.requests), "--max-concurrency", str(load.concurrency)),
        *("--num-warmups", str(min(load.concurrency, 4)), "--ignore-eos", "--temperature", "0"),
        *("--percentile-metrics", ",".join(_SECTIONS), "--metric-percentiles", "50,95"),
        *("--disable-tqdm", "--save-result", "--result-dir", folder, "--result-filename", name),
    )


def _dataset(load: Load) -> tuple[str, ...]:
    shape = load.shape
    if shape.kind is Kind.FRESH:
        lengths = ("--random-input-len", str(shape.own), "--random-output-len", str(shape.answer))
        return ("--dataset-name", "random", *lengths)
    prefix = "--prefix-repetition"
    return (
        *("--dataset-name", "prefix_repetition", f"{prefix}-prefix-len", str(shape.shared)),
        *(f"{prefix}-suffix-len", str(shape.own), f"{prefix}-output-len", str(shape.answer)),
        *(f"{prefix}-num-prefixes", str(max(1, load.requests // ASKED_AGAIN))),
    )


def parse(load: Load, text: str) -> Measured:
    """The client's result; raises `Failed` (`bench-not-understood`, `bench-no-answer`)."""
    try:
        told = json.loads(text)
        if not (told["completed"] and told["output_throughput"]):
            raise _no_answer(load)
        return _measured(load, told)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise _not_understood(error) from error


def _measured(load: Load, told: dict[str, Any]) -> Measured:
    first, token, answer = (
        Spread(p50=told[f"p50_{name}_ms"], p95=told[f"p95_{name}_ms"]) for name in _SECTIONS
    )
    completed, failed = told["completed"], told.get("failed", 0)
    if completed + failed > load.requests:
        raise ValueError(f"{completed} answers and {failed} failures of {load.requests} requests")
    return Measured(
        load=load,
        completed=completed,
        # What is not completed has failed, also where a client does not count it.
        failed=max(failed, load.requests - completed),
        seconds=told["duration"],
        written_per_s=told["output_throughput"],
        all_per_s=told["total_token_throughput"],
        answers_per_s=told["request_throughput"],
        first_token=first,
        token=token,
        answer=answer,
    )


def _not_understood(error: Exception) -> Failed:
    return Failed(
        "bench-not-understood",
        "the result of the engine's benchmark client is not in the form that is known here",
        context=f"{type(error).__name__}: {str(error).splitlines()[0][:200]}",
        hint="see which engine the release has: ./aibox status",
        fault=Fault.US,
    )


def _no_answer(load: Load) -> Failed:
    return Failed(
        "bench-no-answer",
        f"none of {load.requests} requests got an answer ({load})",
        hint="see whether the box answers at all: ./aibox health",
        fault=Fault.HOST,
    )
