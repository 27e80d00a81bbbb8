"""A small release of containers, and the templates of this checkout to render it with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pin_examples
from aibox import release as releases
from aibox.lock import ModelsLock
from aibox.pins import ModelFile
from aibox.profile import Profile
from aibox.release import Release
from aibox.render import Rendered, render
from aibox.schema import parse_toml
from aibox.site import Site
from examples import HEX, LOCK, PROFILE
from examples import lock as parsed_lock

STACKS = Path(__file__).parents[2] / "stacks"
TEMPLATES = {
    str(path.relative_to(STACKS)): path.read_bytes() for path in sorted(STACKS.glob("*/*.j2"))
}
IMAGES = ("app", "gateway", "qdrant", "vllm")
SERVICES = ("gateway", "web", "ingest", "qdrant", "chat")

CHAT = """
[serving.chat]
image = "vllm"
model = "small"
memory_mib = 8000
kv_cache_gib = 1
[serving.chat.arguments]
max-model-len = 1024
enforce-eager = true
"""
EMBEDDING = """
[embedding]
model = "vectors"
dimension = 3
[rerank]
model = "order"
candidates = 30
[serving.embedding]
image = "vllm"
model = "vectors"
runner = "pooling"
memory_mib = 4000
[serving.rerank]
image = "vllm"
model = "order"
runner = "pooling"
memory_mib = 4000
"""
SMALL = """
[serving.small]
image = "vllm"
model = "smaller"
memory_mib = 4000
kv_cache_gib = 1
"""
ROUTER = {
    "router_max_characters": 120,
    "router_max_turns": 0,
    "router_max_documents": 2,
    "router_min_evidence": 0.7,
}
ON_GPUS = CHAT.replace("kv_cache_gib = 1\n", "gpus = [0, 1]\n")
HARDWARE = """
[hardware]
gpus = ["10de:20b2"]
count = 2
memory_mib_min = 81000
driver_branch = "580"
driver_min = "580.65.06"
modules = "open"
quantisations = ["none"]
"""


def profile_text(serving: str = CHAT, services: tuple[str, ...] = SERVICES, extra: str = "") -> str:
    """A profile of containers with these services and engines."""
    base = PROFILE.replace('name = "local"', 'name = "cpu"')
    base = base.replace('runtime = "process"', 'runtime = "container"')
    old = 'services = ["vectors", "ingest", "web"]'
    base = base.replace(old, f"services = {list(services)}")
    wishes = [
        *(f'[[image]]\nname = "{n}"\nreference = "r.example/{n}:1"\n' for n in IMAGES),
        *(f'[[model]]\nname = "{n}"\nrepository = "a/{n}"\n' for n in MODELS),
    ]
    return base + extra + serving + "".join(wishes)


MODELS = ("small", "vectors", "order", "smaller")


def with_small(text: str) -> str:
    """A profile's text with a small model beside the one that writes, and its router."""
    values = "".join(f"{name} = {value}\n" for name, value in ROUTER.items())
    text = text.replace("'chat'", "'chat', 'small'").replace("[tuning]\n", f"[tuning]\n{values}")
    return text.replace("[serving.chat]", SMALL + "[serving.chat]", 1)


def profile(text: str | None = None) -> Profile:
    """A profile of containers, read as one of the project's own."""
    text = profile_text() if text is None else text
    return parse_toml(
        text, Profile, what="profile", version=1, command="./aibox profiles", source="cpu.toml"
    )


def lock(of: Profile, text: str = LOCK, **images: Any) -> ModelsLock:
    """What resolves it; `images` are changed fields of an image pin, by its name."""
    template = ModelFile(path="chat_template.jinja", size=3, sha256=HEX)
    models = [pin_examples.model(name) for name in MODELS]
    models[0] = models[0].model_copy(update={"files": (*models[0].files, template)})
    pins = [pin_examples.image(name, platforms=(_platform(name),)) for name in IMAGES]
    pins = [pin.model_copy(update=images.get(pin.name, {})) for pin in pins]
    tree = '[[tree]]\nname = "app"\nrole = "app"\nroot = "stacks/rag/app/src"\n'
    tree += 'licence = "Apache-2.0"\nowner = "aibox"\n'
    tree += f'files = [{{ path = "rag_app/x.py", size = 3, sha256 = "{HEX}" }}]\n\n[[tree]]'
    made = parsed_lock(text.replace("[tuning.local]", "[tuning.cpu]").replace("[[tree]]", tree, 1))
    wished = {"embedding": of.embedding, "rerank": of.rerank}
    locked = {kind: {"cpu": one} for kind, one in wished.items() if one is not None}
    tuning = made.tuning["cpu"].model_copy(update=of.tuning.router)
    return made.model_copy(
        update={
            "tuning": {**made.tuning, "cpu": tuning},
            "model": tuple(models),
            "image": tuple(pins),
            "serving": {"cpu": of.serving},
            **locked,
        }
    )


def _platform(name: str) -> Any:
    return pin_examples.platform(seed=name)


def release(text: str | None = None, lock_text: str = LOCK, **images: Any) -> Release:
    """The release of a profile's text."""
    of = profile(text)
    return releases.make(lock(of, lock_text, **images), of)


def rendered(made: Release | None = None, site: Site | None = None, **more: str) -> Rendered:
    """Everything rendered for it."""
    return render(made or release(), site or Site(), "e" * 64, TEMPLATES, **more)


def changed(before: Rendered, after: Rendered) -> set[str]:
    """The services that would be made anew."""
    return {
        name
        for name in {*before.inputs, *after.inputs}
        if before.inputs.get(name) != after.inputs.get(name)
    }
