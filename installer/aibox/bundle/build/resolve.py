"""`aibox lock`: resolve profiles, the project's files and all they need to models.lock.

The project's own files are hashed where they lie; that needs no network (`local`). The rest is
asked of somebody elsewhere (`Resolvers`), and only when a wish has no pin, is of something else,
or its pin is not complete; so a lock that is up to date is written again without a network.
Pins that no profile wishes for are kept word for word: they are the catalogue to choose from.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from aibox import digest
from aibox import lock as locks
from aibox import profile as profiles
from aibox.bundle import licences
from aibox.bundle.build import moves, python_packages, wishes
from aibox.bundle.build.python_packages import Describer, Index
from aibox.bundle.build.wishes import Key, Standing, Want
from aibox.bundle.manifest import Kind
from aibox.bundle.packages import python_folder
from aibox.content import Content
from aibox.errors import Failed, Fault
from aibox.lock import PIN_KINDS, Golden, LockedFile, ModelsLock, Role, Tree, Wheel
from aibox.pins import FilePin, ImagePin, ModelPin, PackageSet, Pin
from aibox.profile import FileWish, ImageWish, ModelWish, PackagesWish
from aibox.progress import Progress, Report
from aibox.schema import Model, read_toml

STEP = "lock"
_OURS = {"licence": "Apache-2.0", "owner": "aibox"}
# name, role, root below the project, pattern
_TREES = (
    ("rag-app", Role.APP, "stacks/rag/app/src", ("**/*",)),
    ("manual", Role.DOCUMENTS, "docs/manual", ("**/*.md",)),
    ("prompts", Role.PROMPTS, "stacks/prompts", ("*.txt",)),
    ("templates", Role.TEMPLATES, "stacks", ("*/*.j2",)),
)
_DEBIAN = {"x86_64": "amd64", "aarch64": "arm64"}
_COMPONENT = {"model": Kind.MODEL, "image": Kind.IMAGE, "packages": Kind.PACKAGE, "file": Kind.FILE}


@dataclass(frozen=True, slots=True)
class Resolvers:
    """Whom to ask elsewhere. Each raises an `AiboxError` when it cannot tell.

    A pin given along is to be completed: its commit or digest stays. Without one, whatever the
    wish names now is pinned, and its redistribution judged. Architectures are the kernel's names.
    """

    wheels: Index
    describe: Describer
    model: Callable[[ModelWish, ModelPin | None], ModelPin]
    image: Callable[[ImageWish, ImagePin | None, Sequence[str]], ImagePin]
    packages: Callable[[PackagesWish, str], PackageSet]
    file: Callable[[FileWish, FilePin | None], FilePin]


class GoldenFile(Model):
    """`stacks/rag/golden.toml`."""

    version: int
    golden: tuple[Golden, ...]


class ProgramWishes(Model):
    """`stacks/program.toml`: what the command line in a bundle brings along."""

    version: int
    interpreters: tuple[Literal["x86_64", "aarch64"], ...] = ()


def resolve(
    content: Content,
    names: Sequence[str],
    previous: ModelsLock | None,
    upgrade: Sequence[str],
    resolvers: Resolvers,
    today: datetime.date,
    report: Report,
    *,
    strict: bool = False,
) -> ModelsLock:
    """The lock for the profiles `names` (their wishes; tuning of others is kept).

    `upgrade` names entries to move: then no other pin is touched. `sequence` rises and `date`
    becomes `today` exactly when anything else differs from `previous`. A pin that nobody can
    complete now stays unresolved, but with `strict` that is an error.
    """
    base = local(content, names, previous)
    wants = wanted(content)
    moving = moves.find(upgrade, base, wants)
    pins = wishes.pins_of(base)
    for key, want in _asked(wants, names, moving, pins).items():
        moves_on = key in moving
        pins[key] = _pin(want, pins.get(key), resolvers, report, moves_on=moves_on, strict=strict)
    made = base.model_copy(
        update={
            "requirements": python_packages.requirements_digest(content),
            "program_requirements": python_packages.program_digest(content),
            "wheel": _app_wheels(content, previous, moving, resolvers),
            "program": _program_wheels(content, previous, resolvers),
            **{kind: _of_kind(pins, kind) for kind in PIN_KINDS},
        }
    )
    return _numbered(made, previous, today)


def local(content: Content, names: Sequence[str], previous: ModelsLock | None) -> ModelsLock:
    """The lock as far as the checkout tells: no pin and no package is looked up, nothing fetched.

    Profiles that are gone lose their tuning; licences are judged anew.
    """
    exist = profiles.names(content.profiles)
    chosen = [profiles.load(content.profiles, name) for name in names]
    kept = [name for name in exist if name not in names]
    tuning = {name: previous.tuning[name] for name in kept if previous and name in previous.tuning}
    embedding = {
        name: previous.embedding[name] for name in kept if previous and name in previous.embedding
    }
    serving = {
        name: previous.serving[name] for name in kept if previous and name in previous.serving
    }
    rerank = {name: previous.rerank[name] for name in kept if previous and name in previous.rerank}
    tuning |= {profile.name: profile.tuning for profile in chosen}
    serving |= {item.name: dict(sorted(item.serving.items())) for item in chosen if item.serving}
    embedding |= {item.name: item.embedding for item in chosen if item.embedding is not None}
    rerank |= {item.name: item.rerank for item in chosen if item.rerank is not None}
    found = wishes.pins_of(previous)
    for key, want in wanted(content).items():
        if key in found:
            found[key] = wishes.adopted(want, found[key])
    own = ModelsLock(
        version=locks.VERSION,
        revision=locks.REVISION,
        sequence=previous.sequence if previous else 1,
        date=previous.date if previous else datetime.date(1970, 1, 1),
        requirements=previous.requirements
        if previous
        else python_packages.requirements_digest(content),
        program_requirements=previous.program_requirements if previous else None,
        tuning=dict(sorted(tuning.items())),
        embedding=dict(sorted(embedding.items())),
        rerank=dict(sorted(rerank.items())),
        serving=dict(sorted(serving.items())),
        golden=read_golden(content),
        tree=tuple(scan(content.root, *tree) for tree in _TREES),
        wheel=python_packages.classified(previous.wheel) if previous else (),
        program=python_packages.classified(previous.program) if previous else (),
    )
    return own.model_copy(update={kind: _of_kind(found, kind) for kind in PIN_KINDS})


def wanted(content: Content) -> dict[Key, Want]:
    """The wishes of every profile there is, and of the command line for its interpreters."""
    names = profiles.names(content.profiles)
    found = wishes.collect(profiles.load(content.profiles, name) for name in names)
    for machine in _interpreters(content):
        wish = python_folder.wish(_DEBIAN[machine])
        found["packages", wish.name] = Want("packages", wish, (machine,), tuple(names))
    return dict(sorted(found.items()))


def _interpreters(content: Content) -> tuple[str, ...]:
    if not content.program_wishes.exists():
        return ()
    command = locks.COMMAND
    read = read_toml(
        content.program_wishes, ProgramWishes, what="program", version=1, command=command
    )
    return read.interpreters


def _of_kind(pins: Mapping[Key, Pin], kind: str) -> tuple[Pin, ...]:
    return tuple(pin for (found, _), pin in sorted(pins.items()) if found == kind)


def _numbered(made: ModelsLock, previous: ModelsLock | None, today: datetime.date) -> ModelsLock:
    if previous is None:
        return made.model_copy(update={"date": today})
    if locks.dump(made) == locks.dump(previous):
        return previous
    return made.model_copy(update={"sequence": previous.sequence + 1, "date": today})


# -- what is asked elsewhere --------------------------------------------------------------------


def _asked(
    wants: Mapping[Key, Want], names: Sequence[str], moving: Iterable[Key], pins: Mapping[Key, Pin]
) -> dict[Key, Want]:
    """The wishes somebody has to be asked about: those that move, else those that do not fit."""
    if moving:
        pinned = [key for key in moving if key[0] in PIN_KINDS]
        return {key: wants.get(key) or wishes.want_of(key[0], pins[key]) for key in pinned}
    return {
        key: want
        for key, want in wants.items()
        if set(want.profiles) & set(names)
        and wishes.compare(want, pins.get(key)).standing is not Standing.FITS
    }


def _pin(
    want: Want,
    known: Pin | None,
    resolvers: Resolvers,
    report: Report,
    *,
    moves_on: bool,
    strict: bool,
) -> Pin:
    finding = wishes.compare(want, known)
    keep = known if finding.keeps and not moves_on else None
    name = f"{want.kind} {want.wish.name}"
    report(Progress(STEP, f"resolving {name}" + (f": {finding.detail}" if finding.detail else "")))
    try:
        return _resolved(want, keep, resolvers)
    except Failed as failure:
        # A revision without hashes is a legal state, which a build completes or refuses: somebody
        # without a network can still lock a prompt. Anything the lock does not say yet must come.
        legal = finding.standing is Standing.UNRESOLVED and not moves_on
        if known is None or strict or not legal:
            raise
        report(Progress(STEP, f"{name} stays unresolved: {failure.message}"))
        return known


def _resolved(want: Want, keep: Pin | None, resolvers: Resolvers) -> Pin:
    pin = _ask(want, keep, resolvers)
    if keep is None:
        return pin
    moves.refuse_other_bytes(keep, pin)
    if keep.licence == pin.licence:
        return pin
    redistribution = licences.classify(pin.licence, _COMPONENT[want.kind])
    return pin.model_copy(update={"redistribution": redistribution})


def _ask(want: Want, keep: Pin | None, resolvers: Resolvers) -> Pin:
    match want.wish:
        case ModelWish() as wish:
            known = keep if isinstance(keep, ModelPin) else None
            if known is not None:
                wish = wish.model_copy(update={"revision": known.revision})
            return resolvers.model(wish, known)
        case ImageWish() as wish:
            image = keep if isinstance(keep, ImagePin) else None
            return resolvers.image(wish, image, want.architectures)
        case PackagesWish() as wish:
            return resolvers.packages(wish, want.architectures[0])
        case FileWish() as wish:
            return resolvers.file(wish, keep if isinstance(keep, FilePin) else None)


def _app_wheels(
    content: Content, previous: ModelsLock | None, moving: Iterable[Key], resolvers: Resolvers
) -> tuple[Wheel, ...]:
    """The app's packages; only a changed requirement or an upgrade of one asks for them."""
    names = {name for kind, name in moving if kind == moves.WHEEL}
    known = previous.wheel if previous else ()
    now = python_packages.requirements_digest(content)
    if previous is not None and previous.requirements == now and not names:
        return python_packages.classified(known)
    lines = python_packages.requirements(content)
    return python_packages.resolve(lines, known, names, resolvers.wheels, resolvers.describe)


def _program_wheels(
    content: Content, previous: ModelsLock | None, resolvers: Resolvers
) -> tuple[Wheel, ...]:
    """The command line's packages; only a change of its own lock asks for them."""
    known = previous.program if previous else ()
    if previous and previous.program_requirements == python_packages.program_digest(content):
        return python_packages.classified(known)
    pins = python_packages.program_pins(content)
    return python_packages.program(pins, known, resolvers.wheels, resolvers.describe)


# -- the project's own files --------------------------------------------------------------------


def read_golden(content: Content) -> tuple[Golden, ...]:
    """The gate's questions."""
    command = locks.COMMAND
    return read_toml(content.golden, GoldenFile, what="golden", version=1, command=command).golden


def scan(root: Path, name: str, role: Role, folder: str, patterns: Iterable[str]) -> Tree:
    """Hash a folder's files; caches and compiled files are not part of a tree."""
    base = root / folder
    paths = sorted({path for pattern in patterns for path in base.glob(pattern)})
    files = [
        LockedFile(
            path=path.relative_to(base).as_posix(),
            size=path.stat().st_size,
            sha256=digest.of_bytes(path.read_bytes()),
        )
        for path in paths
        if path.is_file() and not _is_cache(path.relative_to(base))
    ]
    if not files:
        raise Failed(
            "tree-empty",
            f"the folder {folder} holds nothing to lock",
            context=str(base),
            hint="restore it with: git checkout -- " + folder,
            fault=Fault.YOU,
        )
    return Tree(name=name, role=role, root=folder, files=tuple(files), **_OURS)


def _is_cache(path: Path) -> bool:
    """Whether tools left it there: hidden files, compiled modules."""
    hidden = any(part.startswith(".") for part in path.parts)
    return hidden or "__pycache__" in path.parts or path.suffix == ".pyc"
