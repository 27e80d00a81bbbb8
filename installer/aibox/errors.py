"""What can go wrong, said so that the reader knows what to do next.

Every failure that leaves a module is an `AiboxError`::

    AiboxError                 exit  meaning
    ├── Failed                 1     failed; nothing changed, or what changed was undone
    ├── BadUsage               2     the command, a file or a value given to it is wrong
    ├── PreflightVeto          3     this host cannot take the release; nothing was changed
    ├── VerificationRefused    4     bytes are not what their digest or signature says
    ├── RolledBack             5     the new generation failed its gate; the old one serves
    └── NeedsPerson            6     only a person can go on (reboot, damaged store)

Bad input never shows a traceback: a traceback is always our fault.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum, IntEnum


class ExitCode(IntEnum):
    """The process exit codes of DESIGN §5.1; scripts rely on them."""

    DONE = 0
    FAILED = 1
    BAD_USAGE = 2
    PREFLIGHT_VETO = 3
    VERIFICATION_REFUSED = 4
    ROLLED_BACK = 5
    NEEDS_PERSON = 6


class Fault(Enum):
    """Who can put it right."""

    YOU = "you"
    HOST = "the host"
    UPSTREAM = "an upstream tool"
    US = "us"


class AiboxError(Exception):
    """One failure: a stable kebab-case reference, a message, its context and the way out.

    `hint` ends with the command to type. `context` is one line of facts (paths, values).
    """

    exit_code = ExitCode.FAILED

    def __init__(
        self, reference: str, message: str, *, hint: str, fault: Fault, context: str = ""
    ) -> None:
        super().__init__(message)
        self.reference = reference
        self.message = message
        self.context = context
        self.hint = hint
        self.fault = fault

    def as_json(self) -> dict[str, object]:
        """The contract of `--json` for errors (DESIGN §5.1)."""
        return {
            "reference": self.reference,
            "message": self.message,
            "context": self.context,
            "hint": self.hint,
            "fault": self.fault.value,
            "exit_code": int(self.exit_code),
        }

    def __str__(self) -> str:
        lines = [f"error[{self.reference}]: {self.message}"]
        if self.context:
            lines.append(f"  context: {self.context}")
        lines.append(f"  fault: {self.fault.value}")
        lines.append(f"  hint: {self.hint}")
        return "\n".join(lines)


class Failed(AiboxError):
    """Failed; nothing changed, or what changed was undone."""


class BadUsage(AiboxError):
    """The command, a file or a value given to it is wrong."""

    exit_code = ExitCode.BAD_USAGE


class PreflightVeto(AiboxError):
    """This host cannot take the release; nothing was changed."""

    exit_code = ExitCode.PREFLIGHT_VETO


class VerificationRefused(AiboxError):
    """Bytes are not what their digest or signature says."""

    exit_code = ExitCode.VERIFICATION_REFUSED


class RolledBack(AiboxError):
    """The new generation failed its gate; the old one serves again."""

    exit_code = ExitCode.ROLLED_BACK


class NeedsPerson(AiboxError):
    """Only a person can go on."""

    exit_code = ExitCode.NEEDS_PERSON


def told(facts: Mapping[str, object], *, by: str) -> AiboxError:
    """The failure that another aibox told of as JSON (`as_json`); `by` says who, in its message."""
    kinds = {int(kind.exit_code): kind for kind in AiboxError.__subclasses__()}
    faults = {fault.value: fault for fault in Fault}
    return kinds.get(_number(facts.get("exit_code")), Failed)(
        str(facts.get("reference", "unknown")),
        f"{by}: {facts.get('message', 'it does not say what')}",
        context=str(facts.get("context", "")),
        hint=str(facts.get("hint", "./aibox status")),
        fault=faults.get(str(facts.get("fault")), Fault.US),
    )


def _number(value: object) -> int:
    return value if isinstance(value, int) else int(ExitCode.FAILED)
