"""Why there is no environment or program yet, in the form of every error of the project."""

from __future__ import annotations

import json
import os
import sys

FAILED, HOST_CANNOT, NOT_WHAT_IT_SHOULD_BE, INTERRUPTED = 1, 3, 4, 130


class Refused(Exception):
    """One reason, whose fault it is, and a hint that ends with the command to type.

    It repeats the form of `aibox.errors.AiboxError`, which cannot be imported before there is
    an environment to import it in.
    """

    def __init__(
        self,
        reference: str,
        message: str,
        *,
        fault: str,
        hint: str,
        context: str = "",
        exit_code: int = FAILED,
    ) -> None:
        super().__init__(message)
        self.reference = reference
        self.message = message
        self.fault = fault
        self.hint = hint
        self.context = context
        self.exit_code = exit_code

    def __str__(self) -> str:
        lines = [f"error[{self.reference}]: {self.message}"]
        if self.context:
            lines.append(f"  context: {self.context}")
        return "\n".join([*lines, f"  fault: {self.fault}", f"  hint: {self.hint}"])

    def tell(self) -> None:
        """For people; with AIBOX_JSON also as one JSON document on standard output."""
        print(self, file=sys.stderr)
        if os.environ.get("AIBOX_JSON"):
            facts = ("reference", "message", "context", "hint", "fault", "exit_code")
            print(json.dumps({name: getattr(self, name) for name in facts}, ensure_ascii=False))
