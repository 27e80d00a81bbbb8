"""Turns text into search terms, the same way for documents and questions.

A word becomes one or more terms: its stem first, then parts that let other spellings of it
match (bigrams of a Korean stem; the pieces of `models.lock` or `chunk_size`). Terms are hashed
to unsigned 32-bit ids, the indices of the sparse vectors: 2**32 ids for a vocabulary of a
million words make about a hundred collisions, each of which only adds a little noise.

Any change here that gives other terms for the same text must raise `TOKENIZER_VERSION`.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b

import snowballstemmer  # type: ignore[import-untyped]

from rag_app.text import korean
from rag_app.text.stopwords import english_weight, korean_weight

TOKENIZER_VERSION = 1

_HAN_KANA = "぀-ヿ㐀-䶿一-鿿"
_LETTER = rf"(?:(?![가-힣{_HAN_KANA}])[^\W_])"
_WORD = re.compile(
    rf"(?P<hangul>[가-힣]+)|(?P<han>[{_HAN_KANA}]+)|(?P<word>{_LETTER}+(?:[._/:@'’-]+{_LETTER}+)*)"
)
_PARTS = re.compile(r"[^\W_]+")
_INVISIBLE = re.compile("[\u00ad\u200b-\u200f\u2060\ufeff]")
_LONGEST_WORD = 64  # Longer "words" are encoded data; their parts would only bloat the index.


@dataclass(frozen=True, slots=True)
class Word:
    """One word of a text: its terms, the stem's first. `weight` as in `rag_app.text.stopwords`."""

    stem: int
    parts: tuple[int, ...]
    weight: float
    surface: str

    @property
    def terms(self) -> tuple[int, ...]:
        """Distinct term ids of this word."""
        return (self.stem, *(part for part in self.parts if part != self.stem))


def words(text: str) -> Iterator[Word]:
    """The words of a text in order, without those of weight 0."""
    folded = _INVISIBLE.sub("", unicodedata.normalize("NFKC", text)).casefold()
    last_end = -1
    for found in _WORD.finditer(folded):
        surface = found[0]
        kind = found.lastgroup or "word"
        glued = kind == "hangul" and found.start() == last_end
        last_end = found.end() if kind == "word" else -1
        word = _word(surface, kind, glued)
        if word is not None:
            yield word


def count_terms(text: str) -> Counter[int]:
    """How often each term occurs; the sum of the counts is the length that BM25 uses."""
    counts: Counter[int] = Counter()
    for word in words(text):
        counts.update(word.terms)
    return counts


@lru_cache(maxsize=200_000)
def _word(surface: str, kind: str, glued: bool) -> Word | None:
    if len(surface) > _LONGEST_WORD:
        return None
    if kind == "hangul":
        return _korean_word(surface, glued)
    if kind == "han":
        return _make(surface, korean.bigrams(surface), 1.0, surface)
    return _latin_word(surface)


def _korean_word(surface: str, glued: bool) -> Word | None:
    stem = korean.stem(surface, shortest=0 if glued else 2)
    weight = _korean_weight(stem)
    if not weight:
        return None
    noun = korean.bare_noun(stem)
    parts = korean.bigrams(stem) + ((noun,) if noun else ())
    return _make(stem, parts, weight, surface)


def _korean_weight(stem: str) -> float:
    if not stem or korean.is_light_verb(stem):
        return 0.0
    noun = korean.certain_noun(stem)
    return korean_weight(noun or stem)


def _latin_word(surface: str) -> Word | None:
    weight = english_weight(surface.replace("’", "'"))
    if not weight:
        return None
    parts = _PARTS.findall(surface)
    if len(parts) < 2:
        return _make(_english_stem(surface), (), weight, surface)
    kept = tuple(_english_stem(part) for part in parts if english_weight(part))
    if len(parts) == 2 and len(parts[1]) <= 2 and "'" in surface.replace("’", "'"):
        return _make(kept[0], (), weight, surface) if kept else None
    return _make(surface, kept, weight, surface)


def _make(stem: str, parts: tuple[str, ...], weight: float, surface: str) -> Word:
    ids = tuple(dict.fromkeys(term_id(part) for part in parts))
    return Word(term_id(stem), ids, weight, surface)


def _english_stem(word: str) -> str:
    # A stemmer keeps state while it works: one for each call is the cheap way to be thread-safe.
    return str(snowballstemmer.stemmer("english").stemWord(word))


@lru_cache(maxsize=200_000)
def term_id(term: str) -> int:
    """The index of a term in sparse vectors; the same on every machine and in every release."""
    return int.from_bytes(blake2b(term.encode(), digest_size=4).digest(), "big")
