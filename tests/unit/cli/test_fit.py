"""`aibox fit`: what it prints, its JSON, its chart, and what it refuses."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from aibox import content

Types = Callable[..., Any]
CONTRACT = {
    *("fits", "weights_bytes_per_gpu", "kv_bytes_per_token", "kv_tokens"),
    *("max_concurrency", "range", "advice"),
}


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path


def test_json_has_the_keys_that_others_build_on(types: Types) -> None:
    ended = types("fit", "--model", "qwen3-8b", "--gpu", "l40s", "--json")
    assert ended.code == 0
    told = ended.json
    assert set(told) >= CONTRACT
    assert told["fits"] is True
    assert told["weights_bytes_per_gpu"] == pytest.approx(16.4e9, rel=0.01)
    assert told["kv_bytes_per_token"] == 147_456
    assert told["kv_tokens"] == told["range"]["kv_tokens"]["low"]
    assert told["range"]["kv_tokens"]["low"] < told["range"]["kv_tokens"]["high"]
    assert all(part["source"] for part in told["range"]["engine_bytes_per_gpu"])
    assert told["advice"] == []


def test_what_does_not_fit_is_an_answer_too_with_exit_code_0(types: Types) -> None:
    ended = types("fit", "--model", "qwen3-32b", "--gpu", "rtx4090", "--json")
    assert ended.code == 0
    assert ended.json["fits"] is False
    assert ended.json["verdict"] == "does-not-fit"
    assert {"kind", "told", "option"} == set(ended.json["advice"][0])


def test_the_verdict_comes_first_for_people(types: Types) -> None:
    lines = types("fit", "--model", "qwen3-32b-awq", "--gpu", "l40s").out.splitlines()
    assert lines[0] == "qwen3-32b-awq on 1 x l40s: fits"
    assert any("estimated; its first start measures it" in line for line in lines)


def test_advice_is_what_can_be_typed(types: Types) -> None:
    asked = ("fit", "--model", "qwen3-8b", "--gpu", "rtx4090", "--concurrency", "2")
    told = types(*asked, "--json").json
    assert not told["fits"]
    tried = [one for one in told["advice"] if one["kind"] in ("fp8-cache", "shorter-context")]
    assert tried
    for one in tried:
        assert types(*asked, *one["option"].split(), "--json").json["fits"], one


@pytest.mark.parametrize("name", ["a100x2", "h100x8", "l40sx2", "cpu"])
def test_a_profile_is_answered_for_each_of_its_engines(types: Types, name: str) -> None:
    told = types("fit", "--profile", name, "--json").json
    assert set(told) >= CONTRACT
    assert told["fits"]
    assert all(one["margin_bytes_per_gpu"] > 0 for one in told["services"].values())
    beside = {"small", "embedding", "rerank"}
    assert set(told["services"]) == {"chat"} | (set() if name == "cpu" else beside)


def test_advice_to_work_on_more_at_once_is_what_can_be_typed(types: Types) -> None:
    asked = ("fit", "--model", "qwen3-8b", "--gpu", "l40s", "--context", "128")
    told = types(*asked, "--concurrency", "300", "--json").json
    (one,) = [one for one in told["advice"] if one["kind"] == "more-sequences"]
    words = one["option"].split()
    assert types(*asked, "--concurrency", "300", *words, "--json").json["fits"], one


def test_the_memory_that_is_told_adds_up(types: Types) -> None:
    told = types("fit", "--model", "qwen3-32b-awq", "--gpu", "l40s").out

    def gib(words: str) -> float:
        found = re.search(rf"{words} ([0-9.]+)", told)
        assert found is not None, told
        return float(found[1])

    share, at_most = gib("takes at most"), gib("the engine itself [0-9.]+ to")
    assert gib("weights") + at_most + gib("left for contexts") == pytest.approx(share, abs=0.2)


def test_a_folder_of_gguf_is_told_where_it_belongs(types: Types, place: Path) -> None:
    (place / "model-Q4_K_M.gguf").write_bytes(b"GGUF")
    ended = types("fit", "--model", place, "--gpu", "l40s")
    assert (ended.code, "llama.cpp" in ended.err) == (2, True)


def test_what_lacks_is_said_to_whoever_decides(types: Types) -> None:
    told = types("fit", "--model", "qwen3-32b", "--gpu", "rtx4090").out
    assert re.search(r"in short, at worst: [0-9.]+ GiB of each GPU lack for what was asked", told)
    assert "0.0" not in told.split("note:")[0]


def test_a_key_of_the_engine_is_taken_as_it_writes_it(types: Types) -> None:
    asked = ("fit", "--model", "qwen3-8b", "--gpu", "l40s", "--json")
    dashed, plain = (types(*asked, "--set", key) for key in ("max-num-seqs=8", "max_num_seqs=8"))
    assert dashed.json == plain.json
    assert dashed.json["engine"]["max_num_seqs"] == 8


def test_unlike_gpus_are_told_each_with_its_number(types: Types) -> None:
    gpus = ("--gpu", "l40s", "--gpu", "h100-nvl", "--gpu", "l40s")
    told = types("fit", "--model", "qwen3-8b", *gpus).out
    assert told.startswith("qwen3-8b on 1 x h100-nvl and 2 x l40s:")


def test_a_name_that_several_gpus_have_is_said_to_be_taken_for_one(types: Types) -> None:
    asked = ("fit", "--model", "qwen3-8b", "--json", "--gpu")
    assert any("a100-pcie-40" in note for note in types(*asked, "a100").json["notes"])
    assert any("taken for NVIDIA L40S" in note for note in types(*asked, "L40").json["notes"])
    for whole in ("a100-pcie-80", "NVIDIA A100 80GB PCIe", "10de:26b9"):
        assert not any("is taken for" in note for note in types(*asked, whole).json["notes"])


def test_a_name_that_is_not_enough_is_told_which_gpus_it_fits(types: Types) -> None:
    ended = types("fit", "--model", "qwen3-8b", "--gpu", "A100 80GB")
    assert ended.code == 2
    assert "did you mean a100-sxm4-80 or a100-pcie-80?" in ended.err


def test_more_memory_than_a_gpu_has_is_said(types: Types) -> None:
    asked = ("fit", "--model", "qwen3-8b", "--gpu", "l40s", "--memory-mib", "99999", "--json")
    assert any("more than the 48 GB" in note for note in types(*asked).json["notes"])


def test_a_profile_can_be_asked_for_more_than_it_says(types: Types) -> None:
    told = types("fit", "--profile", "a100x2", "--concurrency", "60", "--json").json
    assert not told["fits"]
    assert told["concurrency_asked"] == 60
    shorter = types("fit", "--profile", "a100x2", "--concurrency", "60", "--context", "4096")
    assert ": fits" in shorter.out


def test_without_gpus_every_profile_is_judged(types: Types) -> None:
    rows = {row["profile"]: row for row in types("fit", "--model", "gpt-oss-120b", "--json").json}
    assert rows["a100x1"]["verdict"] == "fits"
    assert rows["rtx4090x1"]["verdict"] == "does-not-fit"
    assert "local" not in rows


def test_everything_known_is_listed(types: Types) -> None:
    told = types("fit", "--list").out
    assert "solar-open-100b" in told
    assert "l40s" in told
    assert {"gpus", "models", "architectures"} <= set(types("fit", "--list", "--json").json)


def test_the_chart_is_an_svg(types: Types, place: Path) -> None:
    path = place / "차트 한 장.svg"
    ended = types("fit", "--model", "qwen3-8b", "--gpu", "l40s", "--chart", path, "--json")
    assert ended.json["fits"]
    assert f"drawn: {path}" in ended.err
    assert path.read_text(encoding="utf-8").startswith("<svg")


def test_where_nothing_can_be_drawn_only_that_is_said(types: Types, place: Path) -> None:
    asked = ("fit", "--model", "qwen3-32b", "--gpu", "rtx4090", "--chart", place / "x.svg")
    ended = types(*asked, "--json")
    assert (ended.code, ended.json["reference"]) == (1, "fit-nothing-to-draw")


def test_a_chart_that_cannot_be_written_is_said(types: Types, place: Path) -> None:
    ended = types("fit", "--model", "qwen3-8b", "--gpu", "l40s", "--chart", place / "no" / "x.svg")
    assert ended.code == 1
    assert "fit-chart-unwritable" in ended.err


@pytest.mark.parametrize(
    ("words", "reference"),
    [
        ((), "fit-usage"),
        (("--model", "qwen3-8b", "--profile", "cpu"), "fit-usage"),
        (("--profile", "cpu", "--gpu", "l40s"), "fit-usage"),
        (("--model", "qwen3-8b", "--gpu", "l40s", "--set", "max-num-seqs"), "fit-usage"),
        (("--profile", "none"), "profile-unknown"),
        (("--profile", "local"), "fit-no-engine"),
        (("--model", "qwen3-8b", "--gpu", "gtx"), "gpu-unknown"),
        (("--model", "qwen3-8b", "--gpu", "A100 MIG 1g.10gb"), "gpu-in-slices"),
        (("--model", "solar-open-100b"), "fit-not-loadable"),
        (("--model", "../etc"), "fit-model-unknown"),
        (("--model", "", "--gpu", "l40s"), "fit-model-unknown"),
        (("--model", "m" * 5000, "--gpu", "l40s"), "fit-model-unknown"),
        (("--model", "model-Q4_K_M.gguf", "--gpu", "l40s"), "fit-model-unknown"),
        (("--model", "qwen3-8b", "--gpu", "g" * 5000), "gpu-unknown"),
        (("--model", "qwen3-8b", "--count", "2"), "fit-usage"),
        (("--model", "qwen3-8b", "--context", "4096"), "fit-usage"),
        (("--model", "qwen3-8b", "--chart", "fit.svg"), "fit-usage"),
        (("--profile", "a100x2", "--count", "4"), "fit-usage"),
        (("--profile", "a100x2", "--memory-mib", "40000"), "fit-usage"),
        (("--profile", "a100x2", "--set", "tensor-parallel-size=1"), "fit-cut-of-profile"),
        (("--list", "--model", "qwen3-8b"), "fit-usage"),
        (("--model", "qwen3-8b", "--gpu", "l40s", "--beside", "qwen3-4b"), "fit-beside-writes"),
        (("--model", "qwen3-8b", "--gpu", "l40s", "--beside", "bge-m4"), "fit-model-unknown"),
        (("--model", "qwen3-8b", "--gpu", "l40s", "--chart", "fit.png"), "fit-chart-format"),
        (("--model", "qwen3-8b", "--gpu", "l40s", "--set", "max-num-sequences=8"), "fit-usage"),
        (
            ("--model", "qwen3-8b", "--gpu", "l40s", *("--set", "dtype=half") * 2),
            "fit-usage",
        ),
        (
            ("--model", "qwen3-8b", "--gpu", "l40s", "--set", "max-num-seqs=0"),
            "fit-argument-invalid",
        ),
        (("--model", "qwen3-8b", "--gpu", "l40s", "--context", "9999999"), "fit-context-too-long"),
        (("--model", "qwen3-8b", "--gpu", "l40s", "--count", "0"), "wrong-usage"),
        (("--model", "qwen3-8b", "--gpu", "l40s", "--concurrency", "-1"), "wrong-usage"),
    ],
)
def test_what_cannot_be_answered_is_refused_with_the_way_out(
    types: Types, words: tuple[str, ...], reference: str
) -> None:
    ended = types("fit", *words, "--json")
    assert ended.code == 2
    assert ended.json["reference"] == reference
    assert "./aibox" in ended.json["hint"] or "aibox fit" in ended.json["hint"]


def test_it_answers_within_two_seconds(types: Types, figure: Callable[[str], None]) -> None:
    started = time.process_time()
    types("fit", "--profile", "h100x8")
    seconds = time.process_time() - started
    figure(f"aibox fit --profile h100x8: {seconds:.2f} s in a running interpreter")
    assert seconds < 2


def test_a_box_installed_from_a_bundle_has_the_catalogue() -> None:
    assert content.belongs_to_program("stacks/catalogue/gpus.toml")
    assert content.belongs_to_program("stacks/catalogue/models/qwen.toml")
