"""What a measurement holds for, and what ends it."""

from __future__ import annotations

from typing import Any

import pytest

from aibox.hardware import Gpu, Machine
from aibox.measuring import basis
from measured_box import CARD, CHAT, HARDWARE, MACHINE, ON_GPU, SMALL_ON_GPU, TWO_ON_GPU, release

CARDS = basis.hardware(MACHINE, [0], 2)


def test_another_prompt_or_tuning_leaves_it() -> None:
    was = release()
    now = was.model_copy(
        update={"golden": (), "tuning": was.tuning.model_copy(update={"top_k": 9})}
    )
    assert was.id != now.id
    assert (
        basis.differences(
            basis.of_release(was, "chat", CARDS), basis.of_release(now, "chat", CARDS)
        )
        == ()
    )


def test_what_a_calibration_freezes_leaves_it() -> None:
    was = release(ON_GPU, hardware=HARDWARE)
    now = release(ON_GPU + "kv-cache-memory-bytes = 5\n", hardware=HARDWARE)
    assert basis.of_release(was, "chat", CARDS) == basis.of_release(now, "chat", CARDS)


def test_only_engines_on_the_same_gpus_are_beside_one_another() -> None:
    made = release(TWO_ON_GPU + SMALL_ON_GPU, hardware=HARDWARE)
    assert basis.beside(made, "chat") == ("small",)
    assert basis.of_release(made, "chat", CARDS).beside == {"small": 1 << 30}
    assert basis.of_release(made, "small", CARDS).beside == {"chat": 40 << 30}
    assert basis.of_release(release(), "chat", CARDS).beside == {}


@pytest.mark.parametrize(
    ("text", "images", "told"),
    [
        (CHAT, {"vllm": {"digest": "9" * 64}}, "the engine is another image"),
        (CHAT.replace("max-num-seqs = 4", "max-num-seqs = 8"), {}, "arguments was"),
        (CHAT.replace("kv_cache_gib = 1", "kv_cache_gib = 2"), {}, "kv_cache_gib was 1 and is 2"),
    ],
)
def test_another_engine_or_argument_ends_it(text: str, images: dict[str, Any], told: str) -> None:
    was, now = release(), release(text, **images)
    (difference,) = basis.differences(
        basis.of_release(was, "chat", CARDS), basis.of_release(now, "chat", CARDS)
    )
    assert told in difference


def test_hardware_is_the_gpus_of_the_engine_or_the_processor() -> None:
    two = Machine(gpus=(CARD, Gpu(address="0000:02:00.0", pci_id="10de:2330")))
    assert basis.hardware(two, [0], 2) == ("NVIDIA A100-SXM4-80GB, 81920 MiB",)
    assert basis.hardware(two, [1], 2) == ("10de:2330, unknown MiB",), "no driver is loaded"
    assert basis.hardware(two, [2], 2) == ("absent",)
    assert basis.hardware(MACHINE, [], 2) == ("x86_64, 2 processors, 24000 MiB",)
