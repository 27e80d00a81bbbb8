"""Reading, and replacing, the TOML files people and `aibox lock` write: typed, closed, versioned.

Every file carries `version`; a reader refuses a greater one. Unknown keys are refused with
their path (`tree[2].files[0].colour`), because a misspelt key that is silently ignored is a
value somebody believes to be set.
"""

from __future__ import annotations

import tomllib
from contextlib import suppress
from pathlib import Path
from typing import Annotated, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, StringConstraints, ValidationError
from pydantic_core import ErrorDetails

from aibox.errors import BadUsage, Failed, Fault


def _without_dot_parts(path: str) -> str:
    if {".", ".."} & set(path.split("/")):
        raise ValueError("must not have . or .. as a part")
    return path


Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9._-]{0,127}$")]
# Relative, no "..", no empty or dot part, no backslash: safe to join below a folder.
RelativePath = Annotated[
    str,
    StringConstraints(
        pattern=r"^[^/\\\x00-\x1f]+(/[^/\\\x00-\x1f]+)*$", min_length=1, max_length=1024
    ),
    AfterValidator(_without_dot_parts),
]


class Model(BaseModel):
    """Frozen, and closed: unknown keys are an error. Its parser is made when it is first needed."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, defer_build=True)


M = TypeVar("M", bound=Model)

MOST_BYTES = 32 << 20
"""More than any file that people write or review; what is larger is not read into memory."""
_LONGEST_KEY = 80


def read_toml(path: Path, model: type[M], *, what: str, version: int, command: str) -> M:
    """Parse the file at `path` as `model`.

    Raises `BadUsage` (references `<what>-missing`, `-unreadable`, `-too-new`, `-invalid`), its
    hint ending with `command`.
    """
    text = read_text(path, what=what, command=command)
    return parse_toml(text, model, what=what, version=version, command=command, source=str(path))


def read_text(path: Path, *, what: str, command: str) -> str:
    """The file's text; raises `BadUsage` (`<what>-missing`, `<what>-unreadable`)."""
    try:
        with path.open("rb") as file:
            data = file.read(MOST_BYTES + 1)
    except FileNotFoundError as error:
        raise _refusal(f"{what}-missing", f"{path} does not exist", command) from error
    except OSError as error:
        problem = f"{path} cannot be read: {error.strerror or error}"
        raise _refusal(f"{what}-unreadable", problem, command) from error
    if len(data) > MOST_BYTES:
        most = f"{MOST_BYTES >> 20} MiB"
        raise _refusal(f"{what}-unreadable", f"{path} is larger than {most}", command)
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        problem = f"{path} cannot be read: byte {error.start} is no UTF-8; save it as UTF-8"
        raise _refusal(f"{what}-unreadable", problem, command) from error


def replace_text(path: Path, text: str, *, what: str, command: str) -> None:
    """Write a whole file in the place of the old one, which stays where that fails.

    Raises `Failed` (`<what>-not-written`), its hint ending with `command`.
    """
    new = path.with_name(path.name + ".new")
    try:
        new.write_text(text, encoding="utf-8")
        new.replace(path)
    except OSError as error:
        with suppress(OSError):
            new.unlink(missing_ok=True)
        raise Failed(
            f"{what}-not-written",
            f"{path} cannot be written: {error.strerror or error}",
            hint=f"see who owns its folder and what room is left there, then: {command}",
            fault=Fault.HOST,
        ) from error


def parse_toml(
    text: str, model: type[M], *, what: str, version: int, command: str, source: str
) -> M:
    """Like `read_toml`, for text already in memory; `source` names it in messages."""
    try:
        raw = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        problem = f"{source} is not TOML: {_no_toml(text, error)}"
        raise _refusal(f"{what}-invalid", problem, command) from error
    _check_version(raw.get("version"), version, what=what, source=source, command=command)
    try:
        return model.model_validate(raw)
    except ValidationError as error:
        raise invalid(error, what=what, source=source, command=command) from error


def _no_toml(text: str, error: Exception) -> str:
    """What people can mend; editors of some systems begin a file with a mark that nobody sees."""
    if text.startswith("\ufeff"):
        return "it begins with a byte order mark; save it as UTF-8 without one"
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    if not isinstance(error, tomllib.TOMLDecodeError):
        return "a number in it has too many digits"
    return str(error)


def _check_version(found: object, known: int, *, what: str, source: str, command: str) -> None:
    if not isinstance(found, int) or isinstance(found, bool) or found < 1:
        raise _refusal(f"{what}-invalid", f"{source}: version: must be a whole number", command)
    if found > known:
        raise BadUsage(
            f"{what}-too-new",
            f"{source} has version {found}; this aibox reads up to {known}",
            hint="use an aibox as new as the file; see yours with: ./aibox --version",
            fault=Fault.YOU,
        )


def invalid(error: ValidationError, *, what: str, source: str, command: str) -> BadUsage:
    """Every problem pydantic found, one per line, each with its path."""
    problems = [_problem(item) for item in error.errors()]
    shown = "; ".join(problems[:8]) + ("; …" if len(problems) > 8 else "")
    return _refusal(f"{what}-invalid", f"{source}: {shown}", command)


_IN_OUR_WORDS = {
    "extra_forbidden": "there is no such key",
    "tuple_type": "must be a list",
    "dict_type": "must be a table",
    "model_type": "must be a table",
}


def _problem(item: ErrorDetails) -> str:
    told = _IN_OUR_WORDS.get(item["type"], item["msg"])
    if item["type"] == "value_error":
        told = str(item["ctx"]["error"])
    where = _location(item["loc"])
    return f"{where}: {told}" if where else told


def _location(parts: tuple[int | str, ...]) -> str:
    """The path of a value, as TOML writes it; "" for the whole file."""
    text = ""
    for part in parts:
        shown = str(part)[:_LONGEST_KEY]
        text += f"[{part}]" if isinstance(part, int) else f".{shown}" if text else shown
    return text


def _refusal(reference: str, message: str, command: str) -> BadUsage:
    return BadUsage(reference, message, hint=f"correct it, then run: {command}", fault=Fault.YOU)
