"""Tells the CLI what Ansible does, one JSON object per line on inherited file descriptors.

Ansible loads this file by name (`callbacks_enabled`); `aibox.box.ansible_events` holds the models
of the lines. It emits names, states and durations, and of a failure its scrubbed `msg`: a result
as such is never emitted, because results of tasks without `no_log` carry secrets in clear.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import time
from typing import Any

from ansible.plugins.callback import CallbackBase  # type: ignore[import-untyped]

DOCUMENTATION = """
name: aibox_events
type: notification
short_description: One JSON line per event on inherited file descriptors
description:
  - Writes play, task, result, retry and statistics events for the CLI that started Ansible.
requirements:
  - the environment variable AIBOX_EVENT_FDS with comma separated file descriptor numbers
"""

DESCRIPTORS_VARIABLE = "AIBOX_EVENT_FDS"
MESSAGE_CHARACTERS = 2000

_CONTROL = re.compile(r"\x1b\[[0-9;]*[A-Za-z]|[\x00-\x08\x0b-\x1f\x7f]")
_SECRETS = (
    re.compile(r"(?<=://)[^/\s@]+(?=@)"),
    re.compile(r"(?i)(?<=bearer )\S+"),
    re.compile(r"""(?ix)\b[\w-]*(?:password|passphrase|passwd|secret|token|api[_-]?key)["']?
                   \s*[:=]\s*(?P<value>"[^"]*"|'[^']*'|[^\s,;}]+)"""),
)


def scrub(text: str) -> str:
    """`text` without control characters and without what looks like a secret, cut to a length."""
    for pattern in _SECRETS:
        text = pattern.sub(_mask, text)
    return _CONTROL.sub("", text)[:MESSAGE_CHARACTERS]


def failure_message(result: dict[str, Any]) -> str:
    """The `msg` of a failed result; of a loop, the messages of the items that failed."""
    if "censored" in result:
        return "hidden: the task handles a secret"
    failed = (item for item in result.get("results", []) if _has_failed(item))
    messages = [failure_message(item) for item in failed] or [str(result.get("msg", ""))]
    return scrub("; ".join(dict.fromkeys(messages)))


def _has_failed(item: object) -> bool:
    return isinstance(item, dict) and bool(item.get("failed") or item.get("unreachable"))


def _mask(match: re.Match[str]) -> str:
    if "value" not in match.re.groupindex:
        return "***"
    return match.group()[: match.start("value") - match.start()] + "***"


class CallbackModule(CallbackBase):  # type: ignore[misc]  # ansible-core ships no types
    """Writes one line per event; a reader that went away never disturbs the play."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "notification"
    CALLBACK_NAME = "aibox_events"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self) -> None:
        super().__init__()
        numbers = os.environ.get(DESCRIPTORS_VARIABLE, "")
        self._descriptors = [int(number) for number in numbers.split(",") if number]
        self._names: dict[str, str] = {}
        self._started: dict[tuple[str, str], float] = {}

    def v2_playbook_on_play_start(self, play: Any) -> None:
        self._emit("play", name=play.get_name())

    def v2_playbook_on_task_start(self, task: Any, is_conditional: bool) -> None:  # noqa: ARG002
        self._emit_task(task)

    def v2_playbook_on_handler_task_start(self, task: Any) -> None:
        self._emit_task(task)

    def v2_runner_on_start(self, host: Any, task: Any) -> None:
        self._started[host.get_name(), task._uuid] = time.monotonic()

    def v2_runner_on_ok(self, result: Any) -> None:
        self._emit_result(result, "changed" if result.is_changed() else "ok")

    def v2_runner_on_skipped(self, result: Any) -> None:
        self._emit_result(result, "skipped")

    def v2_runner_on_failed(self, result: Any, ignore_errors: bool = False) -> None:
        status = "ignored" if ignore_errors else "failed"
        self._emit_result(result, status, message=failure_message(result.result))

    def v2_runner_on_unreachable(self, result: Any) -> None:
        self._emit_result(result, "unreachable", message=failure_message(result.result))

    def v2_runner_retry(self, result: Any) -> None:
        attempt = int(result.result.get("attempts", 0))
        self._emit("retry", host=result.host.get_name(), task=self._name(result), attempt=attempt)

    def v2_playbook_on_stats(self, stats: Any) -> None:
        self._emit("stats", hosts={host: stats.summarize(host) for host in stats.processed})

    def _emit_task(self, task: Any) -> None:
        self._names[task._uuid] = task.get_name()
        self._emit("task", name=task.get_name())

    def _name(self, result: Any) -> str:
        """The name under which the task was announced (a result knows it without its role)."""
        return self._names.get(result.task._uuid, str(result.task_name))

    def _emit_result(self, result: Any, status: str, *, message: str = "") -> None:
        host = result.host.get_name()
        began = self._started.pop((host, result.task._uuid), None)
        seconds = 0.0 if began is None else time.monotonic() - began
        self._emit(
            "result",
            host=host,
            task=self._name(result),
            status=status,
            seconds=round(seconds, 3),
            message=message,
        )

    def _emit(self, event: str, **fields: object) -> None:
        record = {"event": event, "time": round(time.time(), 3), **fields}
        line = (json.dumps(record, ensure_ascii=False) + "\n").encode()
        for descriptor in tuple(self._descriptors):
            self._write(descriptor, line)

    def _write(self, descriptor: int, line: bytes) -> None:
        """Write all of `line`; a descriptor that fails (its reader died) is written no more."""
        try:
            while line:
                line = line[os.write(descriptor, line) :]
        except OSError:
            with contextlib.suppress(ValueError):
                self._descriptors.remove(descriptor)
