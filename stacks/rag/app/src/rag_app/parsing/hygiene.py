r"""Clean text: what a person cannot see must not reach the index or a language model.

Hidden characters carry instructions past the reader's eyes (OWASP LLM01); two spellings of the
same Hangul would never match. Documents are cleaned before spans are counted.
"""

from __future__ import annotations

import re
import unicodedata

# Controls, soft hyphen, zero-width and bidirectional marks, Hangul fillers, variation selectors,
# tag characters, specials and lone surrogates: none of them has a shape of its own.
_INVISIBLE = re.compile(
    "[\x00-\x08\x0e-\x1f\x7f-\x9f\u00ad\u034f\u061c\u180b-\u180e\u200b-\u200f\u202a-\u202e"
    "\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffc\ufffe\uffff\U000e0000-\U000e0fff"
    "\ud800-\udfff]"
)
_LINE_BREAK = re.compile("\r\n?|[\x0b\x0c\x1c-\x1e\x85\u2028\u2029]")
_SPACE = re.compile("[\xa0\u1680\u2000-\u200a\u202f\u205f\u3000]")
_TRAILING = re.compile(r"[ \t]+(?=\n|\Z)")
_EMPTY_LINES = re.compile(r"\n{3,}")
_WHITE = re.compile(r"\s+")


def clean(text: str) -> str:
    """`text` in NFC without invisible characters; line breaks become newlines.

    No line ends in white space, and there is at most one empty line between two lines.
    """
    text = _SPACE.sub(" ", _LINE_BREAK.sub("\n", text))
    text = unicodedata.normalize("NFC", _INVISIBLE.sub("", text))
    return _EMPTY_LINES.sub("\n\n", _TRAILING.sub("", text))


def one_line(text: str) -> str:
    """`text` cleaned, with every run of white space as one space."""
    return _WHITE.sub(" ", clean(text)).strip()
