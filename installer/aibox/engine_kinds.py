"""The kinds of engines that a profile may serve a model with, as data. Pure.

Each is a program in an image that speaks OpenAI's protocol at port 8000 of its container, asks for
a key, and tells its counters; so one health question, one admission and one application do for all
of them. What differs is how it is started, which is here.

vLLM's flags are those of 0.32, llama-server's those of builds 11434 to 11669 (its `--help`), NIM's
what its makers publish of 2.0.2 to 2.1.6, which has vLLM 0.32, for models from a local folder
(docs.nvidia.com/nim, "Model-Free NIM", "CLI Reference", "Architecture" and "Air-Gap Deployment": no
key of theirs is given where there is no network). Before 2.0.2 its vLLM had no shutdown-timeout.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

Command = Callable[[Mapping[str, Any]], list[str]]

# What is not among these is decided by the box (where weights lie, who may ask, on which address,
# over how many GPUs), needs a network, or runs code that came with a model: `trust-remote-code`,
# `middleware`, `tool-parser-plugin` and the like.
_VLLM = """
    async-scheduling attention-backend block-size chat-template-content-format
    compilation-config config-format convert cpu-offload-gb cudagraph-capture-sizes
    default-chat-template-kwargs distributed-executor-backend dtype enable-auto-tool-choice
    enable-chunked-prefill enable-expert-parallel enable-prefix-caching enforce-eager
    generation-config gpu-memory-utilization kv-cache-dtype kv-cache-memory-bytes
    limit-mm-per-prompt load-format long-prefill-token-threshold max-cudagraph-capture-size
    max-logprobs max-model-len max-num-batched-tokens max-num-queued-reqs max-num-queued-tokens
    max-num-seqs mm-processor-kwargs model-impl optimization-level override-generation-config
    performance-mode pipeline-parallel-size pooler-config quantization reasoning-parser
    safetensors-load-strategy scheduling-policy seed shutdown-timeout speculative-config
    stream-interval structured-outputs-config tokenizer-mode tool-call-parser
"""
_LLAMA = """
    batch-size cache-ram cache-reuse cache-type-k cache-type-v chat-template-kwargs ctx-size
    flash-attn load-mode main-gpu n-gpu-layers n-predict parallel reasoning reasoning-budget seed
    split-mode swa-full tensor-split threads threads-batch ubatch-size
"""

# They look like switches and want a word.
_ON_OR_OFF = ("flash-attn", "reasoning")


class KindName(StrEnum):
    """What `kind` of a [serving.NAME] may be."""

    VLLM = "vllm"
    NIM = "nim"
    LLAMA = "llama-server"


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind. `arguments` are those that a profile may set, `required` those that it must.

    `together` is the argument that says at how many answers it works at once. `command` makes its
    command line from `compose_values.engine`. `key_variable` is where it looks for its key;
    `drains` says that it ends answers in the works before it stops; `settings` that it reads
    serve.yaml; `one_file` how the name of the file ends that it is given, "" for a folder.
    """

    arguments: frozenset[str]
    together: str
    command: Command
    key_variable: str
    metrics_path: str
    drains: bool
    settings: bool = False
    required: tuple[str, ...] = ()
    one_file: str = ""
    only_writes: bool = True
    environment: Mapping[str, str] = field(default_factory=dict)


def _vllm(_: Mapping[str, Any]) -> list[str]:
    return ["vllm", "serve", "--config", "/box/serve.yaml"]


def _nim(values: Mapping[str, Any]) -> list[str]:
    own = {
        "served-model-name": values["serving"]["model"],
        "shutdown-timeout": values["shutdown_timeout_s"],
        "tensor-parallel-size": values["tensor_parallel"],
    }
    return ["nim-serve", *_flags({**own, **values["arguments"]}, negated="no-")]


def _llama(values: Mapping[str, Any]) -> list[str]:
    own = {
        "model": f"/model/{values['weights_file']}",
        "alias": values["serving"]["model"],
        "host": "0.0.0.0",  # noqa: S104 - of its own network, where only the application asks
        "port": 8000,
        # Beside the contexts it keeps old ones, up to 8 GiB that nobody reckoned with: the
        # container would be ended for want of memory after some hours of good answers.
        "cache-ram": 0,
    }
    switches = ["--metrics", "--no-slots", "--no-ui", "--offline"]
    said = {key: _for_llama(key, value) for key, value in values["arguments"].items()}
    return ["/app/llama-server", *switches, *_flags({**own, **said})]


def _for_llama(key: str, value: Any) -> Any:
    """A value as llama-server wants it, where that is not how it is written elsewhere."""
    if isinstance(value, list | tuple):
        return ",".join(map(str, value))
    return ("on" if value else "off") if key in _ON_OR_OFF and isinstance(value, bool) else value


def _flags(arguments: Mapping[str, Any], negated: str = "") -> Iterator[str]:
    """The words of a command line; what is false is left out, or `negated`."""
    for key, value in arguments.items():
        if isinstance(value, bool):
            if value or negated:
                yield f"--{key}" if value else f"--{negated}{key}"
            continue
        yield f"--{key}"
        for one in value if isinstance(value, list | tuple) else (value,):
            yield one if isinstance(one, str) else json.dumps(one, sort_keys=True)


KINDS: Mapping[KindName, Kind] = {
    KindName.VLLM: Kind(
        arguments=frozenset(_VLLM.split()),
        together="max-num-seqs",
        command=_vllm,
        key_variable="VLLM_API_KEY",
        metrics_path="/metrics",
        drains=True,
        settings=True,
        only_writes=False,
    ),
    KindName.NIM: Kind(
        arguments=frozenset(_VLLM.split()),
        together="max-num-seqs",
        command=_nim,
        key_variable="VLLM_API_KEY",
        metrics_path="/v1/metrics",
        drains=True,
        environment={
            "NIM_MODEL_PATH": "/model",
            "NIM_SERVER_PORT": "8000",
            "NIM_CACHE_PATH": "/cache/nim",
        },
    ),
    KindName.LLAMA: Kind(
        arguments=frozenset(_LLAMA.split()),
        together="parallel",
        command=_llama,
        key_variable="LLAMA_API_KEY",
        metrics_path="/metrics",
        drains=False,
        required=("ctx-size", "parallel"),
        one_file=".gguf",
        environment={"LLAMA_CACHE": "/cache/llama"},
    ),
}
