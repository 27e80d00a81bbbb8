"""The bundle of a server without a GPU, from a packager with images, a model and packages at hand.

The profile is `cpu` with its structure as it is, and small parts in it: images made here, a real
Llama whose weights were set by hand, Docker from the Debian mirror of this machine.
"""

from __future__ import annotations

import contextlib
import re
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp

from hand_made_model import files
from loopback_hub import Repository, loopback_hub

from . import service_images
from .journey import Person, clone
from .registry_host import RealRegistry, registry
from .systemd_host import checked

MODEL = "aibox/hand-made"
PROFILE = "stacks/profiles/cpu.toml"
PARTS = """
[serving.chat]
image = "vllm"
model = "hand-made"
runner = "generate"
memory_mib = 6000
shared_memory_mib = 512
kv_cache_gib = 1

[serving.chat.arguments]
dtype = "float32"
max-model-len = 16384
max-num-seqs = 4
enforce-eager = true

[service_images]
gateway = "caddy"
qdrant = "qdrant-double"

[[model]]
name = "hand-made"
repository = "{model}"

[[packages]]
name = "docker-debian-13"
role = "container_runtime"
format = "deb"
target = "debian-13"
wanted = ["docker.io", "docker-cli", "docker-compose", "nftables"]
"""


@dataclass(frozen=True)
class Workstation(Person):
    """Where the address of a hub is part of the surroundings."""

    hub: str = ""

    def surroundings(self) -> dict[str, str]:
        return {**super().surroundings(), "HF_ENDPOINT": self.hub}


@dataclass(frozen=True)
class Packager:
    """A person who has a clone with the profile, and what the clone's lock is resolved from."""

    person: Person
    registry: RealRegistry

    @property
    def keys(self) -> Path:
        return self.person.home.parent / "keys"

    def builds(self, output: Path, *options: str) -> None:
        """The bundle of the profile, signed."""
        self.person.types(
            *("bundle", "build", "--profile", "cpu", "--output", str(output)),
            *("--for-operator", "--sign", str(self.keys), *options),
        )

    @contextlib.contextmanager
    def changed(self, *edits: tuple[str, str]) -> Iterator[None]:
        """The profile with every pattern replaced in its one place, and locked; undone after.

        Not in the lock: it counts the states that were ever built, and no two have one number.
        """
        profile = self.person.checkout / PROFILE
        text = before = profile.read_text()
        for pattern, replacement in edits:
            text, count = re.subn(pattern, replacement, text, flags=re.MULTILINE)
            assert count == 1, f"{pattern} is there {count} times"
        profile.write_text(text)
        try:
            self.person.types("lock", "--profile", "cpu")
            yield
        finally:
            profile.write_text(before)


@contextlib.contextmanager
def packager(folder: Path) -> Iterator[Packager]:
    """Somebody with everything resolved, ready to build; his registry and hub run meanwhile."""
    # Not pytest's folder, which is closed to everybody else.
    base = Path(mkdtemp(prefix="aibox-packager-"))
    base.chmod(0o755)
    (base / "home").mkdir()
    with registry(folder / "registry") as shop, loopback_hub(Repository(MODEL, files())) as hub:
        try:
            person = Workstation(clone(base / "checkout"), base / "home", hub=hub.address())
            _write_profile(person.checkout / PROFILE, _publish(folder, shop))
            person.types("trust", "init", str(base / "keys"))
            person.types("lock", "--profile", "cpu")
            yield Packager(person, shop)
        finally:
            shutil.rmtree(base)


def _publish(folder: Path, shop: RealRegistry) -> dict[str, str]:
    application = service_images.application(folder)
    made = {
        "caddy": service_images.gateway(folder),
        "app": application,
        "qdrant-double": service_images.vectors(folder, application),
        "vllm": service_images.engine(folder),
    }
    return {name: service_images.publish(image, shop, f"{name}:1") for name, image in made.items()}


def _write_profile(path: Path, images: Mapping[str, str]) -> None:
    """The profile's own frame; everything in it that is large, replaced."""
    for other in path.parent.glob("*.toml"):
        if other.stem not in ("local", "cpu"):
            # They wish for the makers' images under the same names.
            checked("git", "-C", str(path.parent), "rm", "--quiet", other.name)
    text = path.read_text()
    frame = text[: text.index("[serving.chat]")] + "{parts}" + text[text.index("[gate]") :]
    for key, value in (
        *(("memory_mib_min", 4000), ("memory_mib_recommended", 8000)),
        *(("disk_mib_min", 8000), ("inodes_min", 20000), ("context_tokens", 16384)),
    ):
        frame = re.sub(rf"^{key} = \d+", f"{key} = {value}", frame, flags=re.MULTILINE)
    wishes = [
        f'[[image]]\nname = "{name}"\nreference = "{reference}"\n'
        for name, reference in images.items()
    ]
    parts = PARTS.format(model=MODEL) + "\n".join(wishes) + "\n"
    path.write_text(frame.replace("{parts}", parts))
