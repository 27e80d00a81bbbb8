"""A profile: a class of hardware, the services it runs and the tuning it wishes for.

Written by people in `stacks/profiles/<name>.toml`; `aibox lock` resolves it.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, model_validator

from aibox.errors import BadUsage, Fault
from aibox.hardware import Hardware
from aibox.pins import PackageFormat, Reference, Repository
from aibox.schema import Model, Name, RelativePath, read_toml
from aibox.serving import Serving, problems

VERSION = 1


class Runtime(StrEnum):
    """How services run: Docker Compose under systemd, or supervised processes in the home."""

    CONTAINER = "container"
    PROCESS = "process"


class Requires(Model):
    """What a host must have; checked by preflight, never adapted to."""

    architectures: tuple[str, ...]
    python_min: str
    memory_mib_min: Annotated[int, Field(ge=0)]
    memory_mib_recommended: Annotated[int, Field(ge=0)]
    disk_mib_min: Annotated[int, Field(ge=0)]
    inodes_min: Annotated[int, Field(ge=0)]


class ThroughputPolicy(StrEnum):
    """What follows when an upgrade writes too slowly: nothing is asked, a word, the way back."""

    OFF = "off"
    WARN = "warn"
    ROLL_BACK = "roll-back"


class GatePolicy(Model):
    """How long a new generation may take to prove itself, in seconds, and what speed it may lose.

    `throughput_loss_max_percent` is of the tokens written per second that `aibox bench` measured
    of the release before. Left out they are no part of a manifest: older releases keep their ids.
    """

    ready_deadline_s: Annotated[float, Field(gt=0)]
    question_deadline_s: Annotated[float, Field(gt=0)]
    throughput_policy: ThroughputPolicy = Field(
        ThroughputPolicy.OFF, exclude_if=lambda value: value is ThroughputPolicy.OFF
    )
    throughput_loss_max_percent: Annotated[float, Field(ge=0, lt=100)] | None = Field(
        None, exclude_if=lambda value: value is None
    )

    @model_validator(mode="after")
    def _says_how_much_may_be_lost(self) -> GatePolicy:
        asked = self.throughput_policy is not ThroughputPolicy.OFF
        if asked != (self.throughput_loss_max_percent is not None):
            raise ValueError(
                "throughput_loss_max_percent and a throughput_policy other than off go together"
            )
        return self


# What a profile leaves out is no part of a manifest: older releases keep their ids.
_LEFT_OUT = Field(None, exclude_if=lambda value: value is None)
ROUTER = "router_"


class Tuning(Model):
    """The "secret salt": values that decide the quality of answers. Units as in the app's config.

    Sizes are characters, weights have no unit, thresholds lie in 0..1. Those of the router are
    there where a profile serves a small model.
    """

    chunk_size: Annotated[int, Field(ge=100, le=8000)]
    chunk_overlap: Annotated[int, Field(ge=0, le=2000)]
    top_k: Annotated[int, Field(ge=1, le=50)]
    candidates: Annotated[int, Field(ge=1, le=500)]
    fusion_k: Annotated[int, Field(ge=1, le=1000)]
    weight_sparse: Annotated[float, Field(ge=0)]
    weight_dense: Annotated[float, Field(ge=0)]
    bm25_k1: Annotated[float, Field(ge=0)]
    bm25_b: Annotated[float, Field(ge=0, le=1)]
    evidence_threshold: Annotated[float, Field(ge=0, le=1)]
    max_quotes: Annotated[int, Field(ge=1, le=10)]
    languages: tuple[str, ...]
    temperature: Annotated[float, Field(ge=0, le=2)]
    max_answer_tokens: Annotated[int, Field(ge=1)]
    router_max_characters: Annotated[int, Field(ge=1, le=4000)] | None = _LEFT_OUT
    router_max_turns: Annotated[int, Field(ge=0, le=6)] | None = _LEFT_OUT
    router_max_documents: Annotated[int, Field(ge=1, le=50)] | None = _LEFT_OUT
    router_min_evidence: Annotated[float, Field(ge=0, le=1)] | None = _LEFT_OUT

    @property
    def router(self) -> dict[str, int | float | None]:
        """What decides which questions the small model answers, by name."""
        return {
            name: getattr(self, name) for name in type(self).model_fields if name.startswith(ROUTER)
        }


class Embedding(Model):
    """The embedding model a release carries: its name on the endpoint and its vector length.

    A cosine similarity is no evidence up to `similarity_floor` and full evidence from
    `similarity_ceiling` on; without them the application's own values count.
    """

    model: str
    dimension: Annotated[int, Field(ge=1, le=65536)]
    similarity_floor: Annotated[float, Field(ge=-1, le=1)] | None = None
    similarity_ceiling: Annotated[float, Field(ge=-1, le=1)] | None = None

    @model_validator(mode="after")
    def _floor_is_below_the_ceiling(self) -> Embedding:
        ends = (self.similarity_floor, self.similarity_ceiling)
        if ends == (None, None):
            return self
        if None in ends or ends[0] >= ends[1]:  # type: ignore[operator]
            raise ValueError("similarity_floor and similarity_ceiling: both, the floor below")
        return self


class Rerank(Model):
    """The reranking model a release carries: its name on the endpoint.

    `candidates` is how many passages it puts in order for one question; more than `top_k`.
    """

    model: str
    candidates: Annotated[int, Field(ge=2, le=200)]


class Capacity(Model):
    """What the machine is promised to hold: so many questions at once, each of so many tokens.

    The tokens are those of the longest request: question, passages and answer together. Whether
    it holds them is for `aibox fit` to say.
    """

    concurrency: Annotated[int, Field(ge=1)]
    context_tokens: Annotated[int, Field(ge=1024)]


class ModelWish(Model):
    """A model repository to pin under `name`; `revision` is a branch, a tag or a commit.

    `patterns` choose its files; the default takes what an engine loads and leaves out pickles.
    """

    name: Name
    repository: Repository
    revision: str = "main"
    patterns: tuple[str, ...] = (
        "*.safetensors",
        "*.gguf",
        "*.json",
        "*.jinja",
        "*.txt",
        "*.model",
        "LICENSE*",
        "NOTICE*",
        "*POLICY*",
    )


class ImageWish(Model):
    """A container image to pin under `name`, by its tag at some registry."""

    name: Name
    reference: Reference


class PackageRole(StrEnum):
    """Which role of a server's provision installs a package set."""

    CONTAINER_RUNTIME = "container_runtime"
    NVIDIA_DRIVER = "nvidia_driver"
    NVIDIA_CONTAINER_TOOLKIT = "nvidia_container_toolkit"
    CUDA = "cuda"


class PackagesWish(Model):
    """Operating-system packages to pin under `name`, with all they need on an empty system.

    Those with a `role` are installed on hosts of the `target` release; others are only carried.
    """

    name: Name
    role: PackageRole | None = None
    format: PackageFormat
    target: Name
    wanted: Annotated[tuple[str, ...], Field(min_length=1)]
    kernels: tuple[str, ...] = ()


def _names_no_user(address: str) -> str:
    if "@" in urlsplit(address).netloc:
        raise ValueError("must hold no name and no password: it goes into the lock and the bundle")
    return address


class FileWish(Model):
    """A single file to pin under `name`."""

    name: Name
    address: Annotated[str, Field(pattern=r"^https?://\S+$"), AfterValidator(_names_no_user)]
    filename: RelativePath


class Profile(Model):
    """One profile file. Wishes are resolved by `aibox lock`; those of one name must be equal.

    `service_images` says which image wish a service runs where it does not bear its name.
    """

    version: int
    name: Name
    title: str
    runtime: Runtime
    services: tuple[Name, ...]
    requires: Requires
    hardware: Hardware | None = None
    gate: GatePolicy
    tuning: Tuning
    embedding: Embedding | None = None
    rerank: Rerank | None = None
    capacity: Capacity | None = None
    serving: dict[Name, Serving] = Field(default_factory=dict)
    service_images: dict[Name, Name] = Field(default_factory=dict)
    model: tuple[ModelWish, ...] = ()
    image: tuple[ImageWish, ...] = ()
    packages: tuple[PackagesWish, ...] = ()
    file: tuple[FileWish, ...] = ()

    @model_validator(mode="after")
    def _services_have_what_they_run(self) -> Profile:
        if self.runtime is Runtime.PROCESS:
            if self.serving or self.service_images:
                raise ValueError('serving and service_images need runtime = "container"')
            return self
        if text := "; ".join(_of_two_minds(self)):
            raise ValueError(text)
        found = problems(
            self.services,
            self.serving,
            self.service_images,
            images=[wish.name for wish in self.image],
            models=[wish.name for wish in self.model],
            gpus=self.hardware.count if self.hardware else 0,
        )
        if text := "; ".join(found):
            raise ValueError(text)
        return self


def _of_two_minds(profile: Profile) -> Iterator[str]:
    """Where what is said of a model twice is not the same."""
    for name, said in (("embedding", profile.embedding), ("rerank", profile.rerank)):
        served = profile.serving.get(name)
        if served is not None and said is None:
            yield f"serving.{name}: [{name}] is missing, which tells the application of it"
        elif served is not None and said is not None and served.model != said.model:
            yield f"{name}.model: is {said.model!r}, but [serving.{name}] serves {served.model!r}"
    if profile.rerank is not None:
        if "rerank" not in profile.serving:
            yield "rerank: has no [serving.rerank]"
        if profile.rerank.candidates <= profile.tuning.top_k:
            yield "rerank.candidates: must be more than tuning.top_k, or there is nothing to choose"
    yield from _of_router(profile)
    if profile.capacity is not None:
        yield from _unlike_the_engine(profile.capacity, profile.serving.get("chat"))


def _of_router(profile: Profile) -> Iterator[str]:
    small = "small" in profile.serving
    if small and "chat" not in profile.serving:
        yield "serving.small: has no [serving.chat], which answers what is not simple"
    for name, value in profile.tuning.router.items():
        if small and value is None:
            yield f"tuning.{name}: is missing, and [serving.small] needs it"
        elif not small and value is not None:
            yield f"tuning.{name}: has no [serving.small]"


def _unlike_the_engine(capacity: Capacity, chat: Serving | None) -> Iterator[str]:
    arguments = chat.arguments if chat is not None else {}
    together = chat.engine.together if chat is not None else "max-num-seqs"
    if "ctx-size" in arguments:  # One store of tokens, which answers at once share evenly.
        if arguments["ctx-size"] // arguments.get(together, 1) < capacity.context_tokens:
            yield "capacity.context_tokens: is more than ctx-size over parallel"
    elif arguments.get("max-model-len") != capacity.context_tokens:
        yield "capacity.context_tokens: must be [serving.chat.arguments] max-model-len"
    if int(arguments.get(together, capacity.concurrency)) < capacity.concurrency:
        yield f"capacity.concurrency: is more than [serving.chat.arguments] {together}"


def names(folder: Path) -> tuple[str, ...]:
    """The profiles that exist, sorted; what an editor keeps beside one is none."""
    files = (path for path in folder.glob("*.toml") if not path.name.startswith("."))
    return tuple(sorted(path.stem for path in files))


def load(folder: Path, name: str) -> Profile:
    """Read the profile `name`; raises `BadUsage` when there is none or it is malformed."""
    known = names(folder)
    if name not in known:
        raise BadUsage(
            "profile-unknown",
            f"there is no profile named {name!r}; there are: {', '.join(known) or 'none'}",
            hint="list them with: ./aibox profiles",
            fault=Fault.YOU,
        )
    path = folder / f"{name}.toml"
    profile = read_toml(
        path, Profile, what="profile", version=VERSION, command=f"./aibox profiles show {name}"
    )
    if profile.name != name:
        raise BadUsage(
            "profile-invalid",
            f"{path}: name: is {profile.name!r}, but the file is called {name!r}",
            hint=f"make them equal, then run: ./aibox profiles show {name}",
            fault=Fault.YOU,
        )
    return profile
