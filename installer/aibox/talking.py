"""Talking to the running box: questions, documents, what it has counted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from aibox import runtimes
from aibox.assistant import Added, Assistant
from aibox.box.store import Store
from aibox.errors import BadUsage, Fault
from aibox.prepare import Workplace, require_current

ASK_TIMEOUT_S = 120.0


def ask(place: Workplace, question: str) -> Mapping[str, Any]:
    """One question to the running box; the `ask` contract.

    Raises `BadUsage` (`question-empty`, `question-not-text`) for what is no question.
    """
    _refuse_question(question)
    place.say("ask", "the box is looking in its documents")
    return _assistant(place).ask(question, "", ASK_TIMEOUT_S)


def _refuse_question(question: str) -> None:
    if not question.strip():
        raise BadUsage(
            "question-empty",
            "there is no question",
            hint='for example: ./aibox ask "How do I roll back a failed upgrade?"',
            fault=Fault.YOU,
        )
    try:
        question.encode()
    except UnicodeEncodeError as error:
        raise BadUsage(
            "question-not-text",
            "the question is not UTF-8 text",
            context=repr(question[:80]),
            hint="let the terminal send UTF-8; what it is set to: locale",
            fault=Fault.YOU,
        ) from error


def list_documents(place: Workplace) -> list[dict[str, Any]]:
    """Every document with its state."""
    return _assistant(place).documents()


def add_documents(place: Workplace, paths: Sequence[Path]) -> Added:
    """Upload files and folders, and wait until each is searchable or has failed."""
    return _assistant(place).add_all(paths, place.report)


def remove_document(place: Workplace, document: str) -> None:
    """Remove a document by id."""
    _assistant(place).remove(document)


def usage(place: Workplace) -> Mapping[str, Any]:
    """What the running box has counted of its own answers."""
    return _assistant(place).usage()


def _assistant(place: Workplace) -> Assistant:
    store = Store(place.root)
    return runtimes.assistant(store, require_current(store))
