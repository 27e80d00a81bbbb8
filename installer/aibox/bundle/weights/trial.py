"""Renders a chat template over a few conversations, under limits that the kernel keeps.

A program of its own (template, seconds of processor time), started by `rendering.try_out`; it
needs Jinja and nothing else of ours.
Status 0: harmless. Otherwise a traceback, whose last line says why, or a signal at a limit.
Sandbox, settings and functions are those of the engines (transformers, `apply_chat_template`).
"""

from __future__ import annotations

import datetime
import json
import resource
import sys
from pathlib import Path
from typing import NoReturn

import jinja2
from jinja2 import nodes
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

MEMORY_BYTES = 512 << 20

_USER = {"role": "user", "content": "What does the manual say?"}
_IN_PARTS = {"role": "user", "content": [{"type": "text", "text": "What does the manual say?"}]}
_ASSISTANT = {"role": "assistant", "content": "It says so."}
_SYSTEM = {"role": "system", "content": "Answer from the documents."}
_TOOL = {
    "type": "function",
    "function": {
        "name": "search",
        "description": "Search the documents.",
        "parameters": {
            "type": "object",
            "properties": {"query": {"type": "string", "description": "words"}},
            "required": ["query"],
        },
    },
}
CONVERSATIONS: tuple[dict[str, object], ...] = (
    {"messages": [_USER]},
    {"messages": [_SYSTEM, _USER, _ASSISTANT, _USER]},
    {"messages": [_IN_PARTS]},
    {"messages": [_SYSTEM, _USER], "tools": [_TOOL]},
)
_GIVEN = {"add_generation_prompt": True, "bos_token": "<s>", "eos_token": "</s>"}


class Generation(Extension):
    """`{% generation %}`, by which templates mark what the assistant said; its body counts."""

    tags = {"generation"}  # noqa: RUF012 - as the base class has it

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


EXTENSIONS: tuple[str | type[Extension], ...] = ("jinja2.ext.loopcontrols", Generation)


class Declined(jinja2.TemplateError):
    """The template itself does not take this conversation, which is its right."""


def render(text: str) -> None:
    """Raises what a template may not do, or why no conversation at all can be rendered."""
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=EXTENSIONS
    )
    environment.filters["tojson"] = _to_json
    environment.globals.update(raise_exception=_decline, strftime_now=_now)
    template = environment.from_string(text)
    failures = []
    for conversation in CONVERSATIONS:
        try:
            template.render(**_GIVEN, **conversation)
        except Declined:
            continue
        except (SecurityError, OverflowError, RecursionError, MemoryError):
            raise
        except Exception as failure:
            failures.append(failure)
    if len(failures) == len(CONVERSATIONS):
        raise failures[0]


def _to_json(
    value: object,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    return json.dumps(
        value,
        ensure_ascii=ensure_ascii,
        indent=indent,
        separators=separators,
        sort_keys=sort_keys,
    )


def _decline(message: str) -> NoReturn:
    raise Declined(message)


def _now(pattern: str) -> str:
    return datetime.datetime.now(datetime.UTC).strftime(pattern)


def _main(path: str, processor_s: str) -> None:
    resource.setrlimit(resource.RLIMIT_CPU, (int(processor_s), int(processor_s)))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    render(Path(path).read_text(encoding="utf-8"))


if __name__ == "__main__":
    _main(*sys.argv[1:])
