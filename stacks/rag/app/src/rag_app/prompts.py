"""The release's prompt texts, and the one place where retrieved text meets a prompt.

Retrieved text is data: it goes into the user turn, inside a delimited block, never into the
system role, and it cannot close its own delimiter.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rag_app.config import Prompts
from rag_app.errors import ConfigError
from rag_app.model import Passage

_PLACEHOLDER = re.compile(r"\{(passages|question)\}")
# Also catches `</ passage >` and the plural: a model reads those as the end of the block too.
_DELIMITER = re.compile(r"<(?=\s*/?\s*passages?\b)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class PromptTexts:
    """System text, template of the user turn, and the sentence for "the documents do not say".

    `large_words` are words and phrases of questions that are no simple ones.
    """

    system: str
    context: str
    no_evidence: Mapping[str, str]
    large_words: tuple[str, ...] = ()

    def user_turn(self, question: str, passages: Sequence[Passage]) -> str:
        """Fill the template in one pass, so that a passage saying `{question}` stays as it is."""
        values = {"passages": data_block(passages), "question": _defused(question)}
        return _PLACEHOLDER.sub(lambda match: values[match.group(1)], self.context)


def load(files: Prompts) -> PromptTexts:
    """Read the files; raises `ConfigError` naming the one that is unreadable or incomplete."""
    context = _read(files.context)
    for name in ("passages", "question"):
        if f"{{{name}}}" not in context:
            raise ConfigError(f"{files.context}: the placeholder {{{name}}} is missing")
    return PromptTexts(
        system=_read(files.system),
        context=context,
        no_evidence={"en": _read(files.no_evidence_en), "ko": _read(files.no_evidence_ko)},
        large_words=tuple(word for path in files.large_words for word in _words(path)),
    )


def data_block(passages: Sequence[Passage]) -> str:
    """Passages numbered from 1, each between its own delimiters."""
    return "\n".join(
        f'<passage number="{number}" document="{_attribute(passage.document)}"'
        f' place="{_attribute(passage.locator)}">\n{_defused(passage.text)}\n</passage>'
        for number, passage in enumerate(passages, start=1)
    )


def _defused(text: str) -> str:
    """`text` with the first character of every look-alike of our delimiter replaced."""
    return _DELIMITER.sub("‹", text)


def _attribute(value: str) -> str:
    """Fit for a double-quoted attribute on one line: a file name is chosen by its uploader."""
    return _defused(" ".join(value.split())).replace('"', "'").replace(">", "›")


def _words(path: Path) -> list[str]:
    """The lines of a list; empty ones and those that begin with `#` are for its readers."""
    lines = [line.strip() for line in _read(path).splitlines()]
    found = [line for line in lines if line and not line.startswith("#")]
    if not found:
        raise ConfigError(f"{path}: it lists no words")
    return found


def _read(path: Path) -> str:
    try:
        text = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: {error}") from error
    if not text:
        raise ConfigError(f"{path}: the file is empty")
    return text
