"""What vLLM logged on real GPUs, against what we compute from the same memory."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable
from typing import Any

import pytest

import fit_cases
from aibox import content
from aibox.fit import caches, cards, catalogue, fields, question, reading
from aibox.fit.answer import Answer
from aibox.fit.engine import GIB, Engine
from aibox.fit.models import Sources
from aibox.fit.question import Adjustment
from aibox.fit.reading import Family
from aibox.fit.shapes import Shape

READ = tomllib.loads((fit_cases.ASSETS / "start_logs.toml").read_text(encoding="utf-8"))
CATALOGUE = catalogue.load(content.find().catalogue)
WITHIN = 0.012


def shape(config: str) -> Shape:
    data = (fit_cases.ASSETS / "configs" / f"{config}.json").read_bytes()
    family = Family.DELTA if "linear_attention" in str(json.loads(data)) else Family.ATTENTION
    return reading.shape_of(fields.parse(data, config), family)


def engine(log: dict[str, Any]) -> Engine:
    keys = ("tensor_parallel", "batched_tokens", "cache_dtype")
    words = {key: log[key] for key in keys if key in log}
    if "drafted" in log:
        words |= {"draft_method": "mtp", "drafted": log["drafted"]}
    return Engine(context=log["context"], **words)


@pytest.mark.parametrize("log", READ["log"], ids=lambda log: f"{log['thread']} {log['gib']}")
def test_capacity_is_what_the_engine_logged(
    log: dict[str, Any], figure: Callable[[str], None]
) -> None:
    read, settings = shape(log["config"]), engine(log)
    pool, load = caches.pool_of(read, settings), caches.load_of(read, settings)
    blocks = pool.count([int(log["gib"] * GIB)])
    tokens = pool.tokens(blocks, log["context"], load)
    figure(f"fit: {log['thread']}: {tokens:,} tokens, logged {log['tokens']:,}")
    assert tokens == pytest.approx(log["tokens"], rel=WITHIN)
    if "concurrency" in log:
        many = pool.concurrency(blocks, log["context"], load)
        # It is logged with two decimals.
        assert many == pytest.approx(log["concurrency"], abs=0.005 + WITHIN * log["concurrency"])


@pytest.mark.parametrize("log", READ["refusal"], ids=lambda log: log["thread"])
def test_what_the_engine_refused_does_not_start_here_either(log: dict[str, Any]) -> None:
    read, settings = shape(log["config"]), engine(log)
    pool, load = caches.pool_of(read, settings), caches.load_of(read, settings)
    blocks = pool.count([int(log["gib"] * GIB)])
    needed = pool.per_request(log["context"], load) * pool.bytes_per_block(pool.stages[0])
    assert needed / GIB == pytest.approx(log["needed_gib"], abs=0.005)
    assert not pool.starts(blocks, log["context"], load)
    assert pool.longest(blocks, log["context"], load) == pytest.approx(log["longest"], rel=WITHIN)


def subject(log: dict[str, Any]) -> Answer:
    on = cards.cards(CATALOGUE, [log.get("gpu", "h200-sxm")], log.get("tensor_parallel", 1), None)
    told = (("gpu-memory-utilization", log["utilization"]),) if "utilization" in log else ()
    adjust = Adjustment(context=16384, arguments=told)
    return question.of_model(Sources(CATALOGUE), log["model"], on, adjust)


@pytest.mark.parametrize("log", READ["weights"], ids=lambda log: log["thread"])
def test_weights_take_what_the_engine_logged(log: dict[str, Any]) -> None:
    assert subject(log).weights_per_gpu / GIB == pytest.approx(log["gib"], rel=0.015)


@pytest.mark.parametrize("log", READ["start"], ids=lambda log: log["thread"])
def test_what_the_engine_found_lies_within_our_range(log: dict[str, Any]) -> None:
    found = subject(log)
    assert found.low.memory / GIB <= log["gib"] <= found.high.memory / GIB
