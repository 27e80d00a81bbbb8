"""vLLM's metrics (`/metrics`, the text format of Prometheus): what is needed of them here."""

from __future__ import annotations

import re
from collections.abc import Iterator

from aibox.schema import Model

_LINE = re.compile(r"^(vllm:[a-z_]+)\{(.*)\} (\S+)$", re.MULTILINE)
_MOST = float(1 << 63)
_LABEL = re.compile(r'([A-Za-z_]+)="((?:[^"\\]|\\.)*)"')


class Metrics(Model):
    """What the engine says of its memory for contexts, and what it has done since its start.

    None where it does not say. `cache_bytes` is what was frozen for contexts.
    """

    blocks: int | None = None
    block_tokens: int | None = None
    cache_bytes: int | None = None
    tokens: int | None = None
    preemptions: int | None = None
    written_tokens: int | None = None


def parse(text: str) -> Metrics:
    """Read what `/metrics` answered; any text is read."""
    told = [(name, dict(_LABEL.findall(labels)), value) for name, labels, value in _lines(text)]
    config = next((labels for name, labels, _ in told if name == "vllm:cache_config_info"), {})
    return Metrics(
        blocks=_number(config.get("num_gpu_blocks")),
        block_tokens=_number(config.get("block_size")),
        cache_bytes=_number(config.get("kv_cache_memory_bytes")),
        tokens=_number(config.get("kv_cache_size_tokens")),
        preemptions=_sum(told, "vllm:num_preemptions_total"),
        written_tokens=_sum(told, "vllm:generation_tokens_total"),
    )


def _lines(text: str) -> Iterator[tuple[str, str, str]]:
    return ((one[1], one[2], one[3]) for one in _LINE.finditer(text))


def _sum(told: list[tuple[str, dict[str, str], str]], wanted: str) -> int | None:
    """Over every engine that the server has."""
    found = [_number(value) for name, _, value in told if name == wanted]
    known = [one for one in found if one is not None]
    return sum(known) if known else None


def _number(text: str | None) -> int | None:
    """A count; None for what is none (the engine writes "None" for what it was not told)."""
    try:
        number = float(text or "")
    except ValueError:
        return None
    return int(number) if 0 <= number < _MOST else None
