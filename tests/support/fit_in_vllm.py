"""Runs inside vLLM's image, not in the tests' own environment: what the engine itself computes.

The real classes of vLLM lay out their layers on torch's `meta` device (no memory, no weights, no
GPU) and say what each keeps; the engine's own functions make blocks of it. GPUs that work together
are torch's fake process group. Read is a list of cases, written a line for each.
"""

from __future__ import annotations

import json
import os
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

os.environ |= {
    "HF_HUB_OFFLINE": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_LOGGING_LEVEL": "ERROR",
    "VLLM_CPU_KVCACHE_SPACE": "1",
    # Workers of one host know one another by this.
    "VLLM_DIST_IDENT": "fit",
}

import torch
import torch.distributed
from torch.testing._internal.distributed import fake_pg
from vllm.config import get_layers_from_vllm_config, set_current_vllm_config
from vllm.distributed import (
    destroy_distributed_environment,
    destroy_model_parallel,
    init_distributed_environment,
    initialize_model_parallel,
)
from vllm.distributed.device_communicators.shm_broadcast import MessageQueue
from vllm.distributed.utils import get_pp_indices
from vllm.engine.arg_utils import EngineArgs
from vllm.model_executor.layers.attention_layer_base import AttentionLayerBase
from vllm.model_executor.model_loader.utils import initialize_model
from vllm.platforms import current_platform
from vllm.v1.core import kv_cache_utils

_LONGEST = re.compile(r"estimated maximum model length is (\d+)")
_COMMUNICATOR = (
    "vllm.distributed.device_communicators.base_device_communicator.DeviceCommunicatorBase"
)
_real_new_group = torch.distributed.new_group


def _fake_group(*args: Any, **words: Any) -> Any:
    words["backend"] = "fake"
    return _real_new_group(*args, **words)


def compute(case: dict[str, Any], folder: str) -> dict[str, Any]:
    """The engine's numbers for one case."""
    Path(folder, "config.json").write_text(json.dumps(case["config"]))
    settings = EngineArgs(
        model=folder, skip_tokenizer_init=True, load_format="dummy", **case["arguments"]
    ).create_engine_config()
    settings.cache_config.kv_cache_layout = "LBNHC"
    settings.parallel_config.tensor_parallel_size = case["tensor_parallel"]
    with set_current_vllm_config(settings):
        specs = _specs(settings, case["tensor_parallel"])
    stages = _stages(specs, case["stages"])
    settings.parallel_config.pipeline_parallel_size = case["stages"]
    settings.scheduler_config.async_scheduling = case["asynchronous"]
    told: dict[str, Any] = {"in_flight": settings.max_in_flight_tokens}
    try:
        free = [case["available"]] * case["stages"]
        configs = kv_cache_utils.get_kv_cache_configs(settings, stages, free)
    except ValueError as refused:
        found = _LONGEST.search(str(refused))
        return {**told, "longest": int(found.group(1)) if found else 0}
    whole = kv_cache_utils.generate_scheduler_kv_cache_config(configs)
    tokens, concurrency = kv_cache_utils.get_kv_cache_capacity(settings, whole)
    return {
        **told,
        "blocks": whole.num_blocks,
        "groups": len(whole.kv_cache_groups),
        "tokens": tokens,
        "concurrency": round(concurrency, 6),
    }


def _specs(settings: Any, tensor_parallel: int) -> dict[str, Any]:
    """What each layer keeps, by the layers themselves."""
    store = fake_pg.FakeStore()
    torch.distributed.init_process_group("fake", rank=0, world_size=tensor_parallel, store=store)
    init_distributed_environment(tensor_parallel, 0, "env://", 0, "fake")
    initialize_model_parallel(tensor_parallel)
    with torch.device("meta"):
        initialize_model(settings)
    current_platform.update_block_size_for_backend(settings)
    layers = get_layers_from_vllm_config(settings, AttentionLayerBase)
    return {
        name: spec
        for name, layer in layers.items()
        if not getattr(layer, "kv_sharing_target_layer_name", None)
        and (spec := layer.get_kv_cache_spec(settings)) is not None
    }


def _stages(specs: dict[str, Any], count: int) -> list[dict[str, Any]]:
    """The layers of each pipeline stage."""
    ends = [get_pp_indices(len(specs), rank, count) for rank in range(count)]
    items = list(specs.items())
    return [dict(items[start:end]) for start, end in ends]


def main() -> None:
    """Compute every case of the file that is named; end with 1 when one could not be."""
    torch.distributed.new_group = _fake_group
    # GPUs that are not there share no memory and answer no messages.
    current_platform.get_device_communicator_cls = lambda: _COMMUNICATOR
    MessageQueue.create_from_process_group = staticmethod(lambda *_args, **_words: None)
    failed = False
    for case in json.loads(Path(sys.argv[1]).read_text()):
        with tempfile.TemporaryDirectory() as folder:
            try:
                found = compute(case, folder)
            except Exception as error:
                failed, found = True, {"error": f"{type(error).__name__}: {error}"[:400]}
            finally:
                destroy_model_parallel()
                destroy_distributed_environment()
        print(json.dumps({"id": case["id"], **found}), flush=True)
    sys.exit(failed)


if __name__ == "__main__":
    main()
