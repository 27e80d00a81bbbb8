"""`aibox lock`: resolve the profiles, the project's files and the app's packages to models.lock.

Files are hashed where they lie. Packages are resolved with `uv` (universal: every supported
interpreter and platform at once) and only when the app's requirements changed or an upgrade was
asked for; otherwise the locked ones stay, and nothing is fetched.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import tomli_w
from packaging.markers import Marker
from packaging.utils import canonicalize_name, parse_wheel_filename

from aibox import digest
from aibox import lock as locks
from aibox import profile as profiles
from aibox.content import Content
from aibox.errors import BadUsage, Failed, Fault
from aibox.lock import Golden, LockedFile, ModelsLock, Role, Tree, Wheel, WheelFile
from aibox.schema import Model, parse_toml

PYTHONS = ("3.11", "3.12", "3.13", "3.14")
_PLATFORMS = ("x86_64", "aarch64")
_OURS = {"licence": "Apache-2.0", "owner": "aibox"}
# name, role, root below the project, pattern
_TREES = (
    ("rag-app", Role.APP, "stacks/rag/app/src", ("**/*",)),
    ("manual", Role.DOCUMENTS, "docs/manual", ("**/*.md",)),
    ("prompts", Role.PROMPTS, "stacks/prompts", ("*.txt",)),
    ("templates", Role.TEMPLATES, "stacks", ("rag/*.j2", "process/*.j2")),
)

# (requirement lines, versions to keep) -> text of a PEP 751 pylock; asks the index.
Resolver = Callable[[Sequence[str], Sequence[str]], str]
# wheels -> (licence, owner) by package name, read from their metadata; fetches them.
Describer = Callable[[Sequence[Wheel]], dict[str, tuple[str, str]]]


class GoldenFile(Model):
    """`stacks/rag/golden.toml`."""

    version: int
    golden: tuple[Golden, ...]


def resolve(
    content: Content,
    names: Sequence[str],
    previous: ModelsLock | None,
    upgrade: Sequence[str],
    resolver: Resolver,
    describer: Describer,
) -> ModelsLock:
    """The lock for the profiles `names`; other profiles of `previous` are kept."""
    chosen = [profiles.load(content.profiles, name) for name in names]
    tuning = dict(previous.tuning) if previous else {}
    embedding = dict(previous.embedding) if previous else {}
    for profile in chosen:
        tuning[profile.name] = profile.tuning
        if profile.embedding is not None:
            embedding[profile.name] = profile.embedding
        else:
            embedding.pop(profile.name, None)
    return ModelsLock(
        version=locks.VERSION,
        revision=locks.REVISION,
        requirements=requirements_digest(content),
        tuning=tuning,
        embedding=embedding,
        golden=read_golden(content),
        tree=tuple(scan(content.root, *tree) for tree in _TREES),
        wheel=_wheels(content, previous, upgrade, resolver, describer),
    )


def read_golden(content: Content) -> tuple[Golden, ...]:
    """The gate's questions."""
    text = content.golden.read_text(encoding="utf-8")
    return parse_toml(
        text,
        GoldenFile,
        what="golden",
        version=1,
        command=locks.COMMAND,
        source=str(content.golden),
    ).golden


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


def _requirements(content: Content) -> list[str]:
    project = tomllib.loads(content.app_requirements.read_text(encoding="utf-8"))["project"]
    return sorted(project["dependencies"])


def requirements_digest(content: Content) -> str:
    """The digest of the app's direct requirements and the interpreters we resolve for."""
    return digest.of_json([_requirements(content), PYTHONS, _PLATFORMS])


def _wheels(
    content: Content,
    previous: ModelsLock | None,
    upgrade: Sequence[str],
    resolver: Resolver,
    describer: Describer,
) -> tuple[Wheel, ...]:
    same = previous is not None and previous.requirements == requirements_digest(content)
    if previous is not None and same and not upgrade:
        return previous.wheel
    known = {wheel.name: wheel for wheel in previous.wheel} if previous else {}
    _refuse_unknown(upgrade, known)
    moving = {canonicalize_name(name) for name in upgrade}
    keep = [
        f"{wheel.name}=={wheel.version}" for wheel in known.values() if wheel.name not in moving
    ]
    found = parse_pylock(resolver(_requirements(content), keep))
    described = describer([wheel for wheel in found if not _same(known.get(wheel.name), wheel)])
    return tuple(_with_owner(wheel, known.get(wheel.name), described) for wheel in found)


def _refuse_unknown(upgrade: Sequence[str], known: dict[str, Wheel]) -> None:
    for name in upgrade:
        if canonicalize_name(name) not in known:
            raise BadUsage(
                "package-unknown",
                f"models.lock has no package named {name!r}",
                context="packages: " + ", ".join(sorted(known)),
                hint="name one of them: ./aibox lock --upgrade NAME",
                fault=Fault.YOU,
            )


def _same(known: Wheel | None, wheel: Wheel) -> bool:
    return known is not None and known.version == wheel.version


def _with_owner(wheel: Wheel, known: Wheel | None, found: dict[str, tuple[str, str]]) -> Wheel:
    if known is not None and _same(known, wheel):
        licence, owner = known.licence, known.owner
    else:
        licence, owner = found[wheel.name]
    return wheel.model_copy(update={"licence": licence, "owner": owner})


def parse_pylock(text: str) -> tuple[Wheel, ...]:
    """Packages and their supported builds from a PEP 751 lock; addresses are dropped."""
    packages = [item for item in tomllib.loads(text)["packages"] if _needed(item)]
    return tuple(_wheel(package) for package in packages)


def _needed(package: dict[str, Any]) -> bool:
    """Whether any supported interpreter on Linux needs it (markers of other systems drop it)."""
    if "marker" not in package:
        return True
    marker = Marker(package["marker"])
    linux = {"sys_platform": "linux", "platform_system": "Linux", "os_name": "posix"}
    return any(
        marker.evaluate({**linux, "python_version": version, "python_full_version": f"{version}.9"})
        for version in PYTHONS
    )


def _wheel(package: dict[str, Any]) -> Wheel:
    files = [
        WheelFile(
            filename=item.get("name") or item["url"].rsplit("/", 1)[-1],
            size=item["size"],
            sha256=item["hashes"]["sha256"],
        )
        for item in package.get("wheels", ())
    ]
    supported = tuple(sorted(filter(_supported, files), key=lambda file: file.filename))
    if not supported:
        raise Failed(
            "package-without-wheel",
            f"{package['name']} {package['version']} has no wheel for Linux, only a source",
            hint="choose a version that has one, then: ./aibox lock",
            fault=Fault.UPSTREAM,
        )
    return Wheel(
        name=canonicalize_name(package["name"]),
        version=package["version"],
        licence="unknown",
        owner="unknown",
        files=supported,
    )


def _supported(file: WheelFile) -> bool:
    return any(
        _tag_fits(t.interpreter, t.abi, t.platform) for t in parse_wheel_filename(file.filename)[3]
    )


def _tag_fits(interpreter: str, abi: str, platform: str) -> bool:
    linux = platform.startswith(("manylinux", "linux")) and platform.endswith(_PLATFORMS)
    if platform != "any" and not linux:
        return False
    ours = {"cp" + version.replace(".", "") for version in PYTHONS}
    if abi == "none":
        return interpreter in {"py3", *ours}
    if abi == "abi3":
        return interpreter.startswith("cp3") and int(interpreter[3:] or 0) <= 14
    return interpreter in ours and abi == interpreter


def dump(lock: ModelsLock) -> str:
    """The text of models.lock; the same lock gives the same text."""
    head = (
        "# Written by `./aibox lock` and reviewed by people; do not edit by hand, except to try a\n"
        "# tuning value or a prompt with `./aibox upgrade --lockfile FILE`.\n"
    )
    return head + tomli_w.dumps(lock.model_dump(mode="json", exclude_defaults=False))
