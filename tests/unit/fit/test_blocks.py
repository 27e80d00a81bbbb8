"""Blocks, groups and requests: equal to what vLLM's own functions made of the same cases."""

from __future__ import annotations

import json

import pytest

import fit_cases
from aibox.fit import caches
from aibox.fit.blocks import Kind, LayerCache, Load, pool
from fit_cases import Case

RECORDED = {one["id"]: one for one in json.loads(fit_cases.RECORDED.read_text())["cases"]}


@pytest.mark.parametrize("case", fit_cases.CASES, ids=lambda case: case.id)
def test_every_number_is_the_engines(case: Case) -> None:
    recorded = {key: value for key, value in RECORDED[case.id].items() if key != "id"}
    assert case.ours() == recorded


def test_nothing_is_recorded_that_is_no_longer_asked() -> None:
    assert set(RECORDED) == {case.id for case in fit_cases.CASES}


def test_layers_that_do_not_divide_go_to_the_later_but_one_stage() -> None:
    assert caches.stages_of(64, 3) == (range(21), range(21, 43), range(43, 64))
    assert [len(stage) for stage in caches.stages_of(66, 4)] == [16, 17, 17, 16]


def test_the_smallest_gpu_decides_how_many_blocks_all_have() -> None:
    layers = [LayerCache(Kind.FULL, 1024, 16)] * 4
    found = pool(layers, [range(2), range(2, 4)])
    assert found.count([2048 * 10, 2048 * 7]) == 7


def test_pages_that_do_not_divide_are_padded() -> None:
    layers = [LayerCache(Kind.FULL, 3000, 16), LayerCache(Kind.SLIDING, 2000, 16, window=64)]
    found = pool(layers, [range(2)])
    assert {cache.page for group in found.groups for _, cache in group.members} == {3000}
    assert [cache.block for group in found.groups for _, cache in group.members] == [16, 16]


def test_pages_that_divide_hold_more_tokens_instead() -> None:
    layers = [LayerCache(Kind.FULL, 3000, 16), LayerCache(Kind.SLIDING, 1500, 16, window=64)]
    found = pool(layers, [range(2)])
    assert [cache.block for group in found.groups for _, cache in group.members] == [16, 32]


def test_a_state_takes_its_block_however_short_the_request_is() -> None:
    state = LayerCache(Kind.STATE, 100_000, 16)
    found = pool([state, LayerCache(Kind.FULL, 100_000, 16)], [range(2)])
    assert found.per_request(1, Load(0, spare_states=1)) == 2 + 1


def test_one_block_is_the_engines_own() -> None:
    found = pool([LayerCache(Kind.FULL, 1024, 16)], [range(1)])
    assert not found.starts(8, 16 * 8, Load(0))
    assert found.starts(9, 16 * 8, Load(0))
    assert found.longest(9, 10_000, Load(0)) == 16 * 8
