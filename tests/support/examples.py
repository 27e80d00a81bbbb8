"""Small valid values for tests of the pure middle."""

from __future__ import annotations

from aibox.lock import ModelsLock, parse
from aibox.plan import Target
from aibox.profile import Profile
from aibox.schema import parse_toml

HEX = "a" * 64
BINARY = "example-1.0-cp311-cp311-manylinux_2_17_x86_64.whl"
TARGET = Target(python="3.11", tags=("cp311-cp311-manylinux_2_17_x86_64", "py3-none-any"))

TUNING = """\
chunk_size = 600
chunk_overlap = 80
top_k = 6
candidates = 60
fusion_k = 60
weight_sparse = 1.0
weight_dense = 0.7
bm25_k1 = 1.2
bm25_b = 0.75
evidence_threshold = 0.5
max_quotes = 3
languages = ["en", "ko"]
temperature = 0.0
max_answer_tokens = 800
"""

LOCK = f"""\
version = 1
revision = 0
requirements = "{HEX}"

[tuning.local]
{TUNING}
[embedding]

[[golden]]
id = "rollback-en"
language = "en"
question = "How do I roll back?"
document = "upgrade-and-rollback.md"
owner = "aibox"

[[tree]]
name = "prompts"
role = "prompts"
root = "stacks/prompts"
licence = "Apache-2.0"
owner = "aibox"
files = [{{ path = "system.txt", size = 3, sha256 = "{HEX}" }}]

[[wheel]]
name = "example"
version = "1.0"
licence = "MIT"
owner = "somebody"
files = [
  {{ filename = "example-1.0-py3-none-any.whl", size = 10, sha256 = "{"b" * 64}" }},
  {{ filename = "{BINARY}", size = 11, sha256 = "{"c" * 64}" }},
]
"""

PROFILE = f"""\
version = 1
name = "local"
title = "A laptop"
runtime = "process"
services = ["vectors", "ingest", "web"]

[requires]
architectures = ["x86_64"]
python_min = "3.11"
memory_mib_min = 1
memory_mib_recommended = 2
disk_mib_min = 1
inodes_min = 1

[gate]
ready_deadline_s = 10.0
question_deadline_s = 1.0

[tuning]
{TUNING}"""

TEMPLATES = {
    "rag/rag.toml.j2": b"release = {{ release | toml }}\ntop_k = {{ tuning.top_k | toml }}\n",
    "process/supervisord.conf.j2": b"{% for name in services %}{{ inputs[name] }}{% endfor %}",
    "process/aibox.service.j2": b"ExecStart={{ launcher }} start # {{ root }}\n",
}


def lock(text: str = LOCK) -> ModelsLock:
    return parse(text)


def profile(text: str = PROFILE) -> Profile:
    return parse_toml(
        text, Profile, what="profile", version=1, command="./aibox profiles", source="local.toml"
    )
