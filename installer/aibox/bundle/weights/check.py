"""Whether one file of a model is only data, judged by its bytes."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import PurePosixPath
from typing import BinaryIO

from aibox.bundle.weights import configuration, gguf, safetensors, templates
from aibox.bundle.weights.names import check_names
from aibox.bundle.weights.problem import Problem, Unsound
from aibox.bundle.weights.reading import HEAD_BYTES, Reader, disguise
from aibox.bundle.weights.rendering import try_out

_SENTENCEPIECE = re.compile(rb"\n.", re.DOTALL)  # Field 1 of ModelProto: its pieces.
_TIKTOKEN = re.compile(rb"[A-Za-z0-9+/]+={0,2} \d+\n")

TryOut = Callable[[str], str]


def check_file(
    path: str, stream: BinaryIO, size: int, try_template: TryOut = try_out
) -> list[Problem]:
    """What is wrong with a file of `size` bytes; `stream` is read forward, weights only in part.

    `try_template` renders a chat template and says what went wrong, or nothing.
    """
    if refused := check_names([path]):
        return refused
    try:
        found = list(_judge(PurePosixPath(path).name, stream, size, try_template))
    except Unsound as error:
        found = [str(error)]
    return [Problem(path, what) for what in found]


def _judge(name: str, stream: BinaryIO, size: int, try_template: TryOut) -> Iterable[str]:
    suffix = PurePosixPath(name).suffix
    if suffix == ".safetensors":
        safetensors.check(Reader(stream, size, safetensors.HEADER_LIMIT + 8))
        return []
    if suffix == ".gguf":
        found = gguf.check(Reader(stream, size, gguf.HEADER_LIMIT))
        return _judge_templates(found, try_template)
    if suffix == ".json":
        return _judge_json(name, stream, size, try_template)
    limit = templates.LIMIT * 4 if suffix == ".jinja" else HEAD_BYTES
    head = Reader(stream, size, limit).take(size if suffix == ".jinja" else min(size, HEAD_BYTES))
    _refuse_disguise(head)
    if suffix == ".jinja":
        return _judge_templates({name: _text(head)}, try_template)
    if suffix == ".model" and not (_SENTENCEPIECE.match(head) or _TIKTOKEN.match(head)):
        return ["is no vocabulary of SentencePiece or tiktoken"]
    return []


def _judge_json(name: str, stream: BinaryIO, size: int, try_template: TryOut) -> Iterable[str]:
    limit = configuration.size_limit(name)
    if size > limit:
        return [f"has {size} bytes; at most {limit} may be"]
    reader = Reader(stream, size, limit)
    if size > configuration.LIMIT and not configuration.is_index(name):
        _refuse_disguise(reader.take(HEAD_BYTES))
        return []
    data = reader.take(size)
    _refuse_disguise(data[:HEAD_BYTES])
    if configuration.is_index(name):
        return configuration.check_index(data)
    problems, found = configuration.check(data)
    return [*problems, *_judge_templates(found, try_template)]


def _judge_templates(found: Mapping[str, str], try_template: TryOut) -> list[str]:
    return [
        f"{place}: {what}"
        for place, text in found.items()
        for what in templates.check(text, try_template)
    ]


def _refuse_disguise(head: bytes) -> None:
    if what := disguise(head):
        raise Unsound(f"is {what} under another name")


def _text(data: bytes) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise Unsound("is not UTF-8") from error
