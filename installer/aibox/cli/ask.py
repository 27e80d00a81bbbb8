"""`aibox ask`: one question, one cited answer."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from typing import Annotated, Any

import typer

from aibox import talking
from aibox.cli import show
from aibox.cli.options import AsJson
from aibox.cli.workplace import workplace


def ask(
    question: Annotated[str, typer.Argument(help="In Korean or English.")], as_json: AsJson = False
) -> None:
    """Ask the box; the answer cites the documents it rests on."""
    with show.progress() as report:
        answer = talking.ask(workplace(report), question)
    if as_json:
        show.data(answer)
    else:
        _print(answer)


def _print(answer: Mapping[str, Any]) -> None:
    show.text(str(answer["answer"]))
    if answer.get("degraded"):
        show.note(f"note: {answer['degraded']}")
    for number, citation in enumerate(answer["citations"], start=1):
        place = " - ".join(part for part in (citation["document"], citation["locator"]) if part)
        show.text()
        show.text(f"[{number}] {place}")
        quote = " ".join(str(citation["quote"]).split())
        show.text(textwrap.fill(quote, 96, initial_indent="    ", subsequent_indent="    "))
    show.note(f"engine {answer['engine']}, release {str(answer['release'])[:12]}")


COMMANDS = {"ask": ask}
