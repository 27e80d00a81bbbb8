"""vLLM itself reads what a profile may say to it: directly, and inside a NIM.

Its own parser of the build for the CPU. Of llama-server: test_llama_server.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml

import stack_examples as stacks
from aibox.engine_kinds import KINDS, KindName

from . import service_images
from .systemd_host import daemon, docker, why_not

REASON = why_not() or service_images.why_not()

pytestmark = [
    pytest.mark.e2e,
    # Building the image takes three minutes where it is not there.
    pytest.mark.timeout(900),
    pytest.mark.enable_socket,
    pytest.mark.skipif(bool(REASON), reason=REASON),
]

# The command itself, which shows what it would serve with instead of serving.
READ = """
import json, sys
from vllm.entrypoints.cli import main, serve
from vllm.entrypoints.launchers.cli_args import make_arg_parser
from vllm.utils.argparse_utils import FlexibleArgumentParser
parser = make_arg_parser(FlexibleArgumentParser())
options = sorted(option for action in parser._actions for option in action.option_strings)
def show(read):
    print(json.dumps({"options": options, "read": vars(read)}, default=str))
serve.ServeSubcommand.cmd = staticmethod(show)
for words in json.loads(sys.argv[1]):
    sys.argv[1:] = words
    main.main()
"""
ARGUMENTS = """
cudagraph-capture-sizes = [1, 2, 4]
enable-prefix-caching = false
enforce-eager = false
kv-cache-memory-bytes = 1073741824
max-num-seqs = 8
max-num-queued-reqs = 64
default-chat-template-kwargs = { enable_thinking = false }
speculative-config = { method = "ngram", num_speculative_tokens = 3 }
"""


SERVING = stacks.ON_GPUS.replace("enforce-eager = true\n", "") + ARGUMENTS


def rendered(serving: str) -> tuple[list[str], bytes]:
    """What the engine is told, and its file, where it reads one."""
    text = stacks.profile_text(serving, extra=stacks.HARDWARE)
    made = stacks.rendered(stacks.release(text)).files
    command = yaml.safe_load(made["config/compose.yaml"])["services"]["chat"]["command"]
    return list(command), made.get("config/chat.serve.yaml", b"")


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> dict[KindName, dict[str, Any]]:
    """The engine's options, and what it read, for each kind that is one."""
    folder = tmp_path_factory.mktemp("arguments")
    folder.chmod(0o755)
    nim, _ = rendered(SERVING.replace("[serving.chat]", '[serving.chat]\nkind = "nim"'))
    vllm, settings = rendered(SERVING)
    (folder / "serve.yaml").write_bytes(settings)
    (folder / "chat_template.jinja").write_text("{{ messages }}")
    assert (nim[0], vllm[:2]) == ("nim-serve", ["vllm", "serve"])
    # A NIM hands its words to the same command, after the folder of the model.
    told = {KindName.VLLM: vllm[1:], KindName.NIM: ["serve", "/model", *nim[1:]]}
    with daemon(folder):
        image = service_images.engine(folder)
        run = ("run", "--rm", "--network", "none", "--tmpfs", "/tmp", "--env", "HOME=/tmp")
        mounts = [f"--volume={folder}:{place}:ro" for place in ("/box", "/model")]
        words = json.dumps(list(told.values()))
        done = docker(*run, *mounts, image, "python3", "-c", READ, words).out
    lines = [json.loads(line) for line in done.splitlines() if line.startswith('{"options"')]
    return dict(zip(told, lines, strict=True))


@pytest.mark.parametrize("name", [KindName.VLLM, KindName.NIM])
def test_every_argument_that_a_profile_may_set_is_one_of_the_engine(
    said: dict[KindName, dict[str, Any]], name: KindName
) -> None:
    assert not {f"--{one}" for one in KINDS[name].arguments} - set(said[name]["options"])


@pytest.mark.parametrize("name", [KindName.VLLM, KindName.NIM])
def test_the_engine_reads_what_the_profile_says(
    said: dict[KindName, dict[str, Any]], name: KindName
) -> None:
    read = said[name]["read"]
    assert read["served_model_name"] == ["small"]
    assert (read["shutdown_timeout"], read["tensor_parallel_size"]) == (120, 2)
    assert (read["enable_prefix_caching"], read["enforce_eager"]) == (False, False)
    assert read["cudagraph_capture_sizes"] == [1, 2, 4]
    assert read["default_chat_template_kwargs"] == {"enable_thinking": False}
    assert read["speculative_config"] == {"method": "ngram", "num_speculative_tokens": 3}
    assert (read["kv_cache_memory_bytes"], read["max_num_queued_reqs"]) == (1 << 30, 64)
