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
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from hashlib import blake2b

import snowballstemmer  # type: ignore[import-untyped]

from rag_app.text import korean, loanwords
from rag_app.text.stopwords import english_weight, korean_weight

TOKENIZER_VERSION = 1

_HAN_KANA = "぀-ヿ㐀-䶿一-鿿"
_LETTER = rf"(?:(?![가-힣{_HAN_KANA}])[^\W_])"
_WORD = re.compile(
    rf"(?P<hangul>[가-힣]+)|(?P<han>[{_HAN_KANA}]+)"
    rf"|(?P<phrase>[a-z]+ (?:up|back|down|off|out)\b(?![._/:@'’-]))"
    rf"|(?P<word>{_LETTER}+(?:[._/:@'’-]+{_LETTER}+)*)"
)
_PARTS = re.compile(r"[^\W_]+")
_INVISIBLE = re.compile("[\u00ad\u200b-\u200f\u2060\ufeff]")
# 할 수도 있다: no capital city (수도) is meant, as it is with another particle.
_IDIOMS = frozenset(("수도", "수가"))
_BEFORE_VERBS = frozenset(("i", "we", "you", "they", "how to"))
# About 15 MB; by Zipf's law nearly all words of a text are among these.
_REMEMBERED_WORDS = 30_000
_LONGEST_WORD = 64  # Longer "words" are encoded data; their parts would only bloat the index.


@dataclass(frozen=True, slots=True)
class Word:
    """One word of a text: its terms, the stem's first. `weight` as in `rag_app.text.stopwords`.

    `forms` are dictionary forms that an inflected word may have; `alternatives` are the same word
    in the other script, which questions search for and documents do not index. A `predicate` is
    surely not a name: people put the same thing in other verbs more often than in other nouns.
    """

    stem: int
    parts: tuple[int, ...]
    weight: float
    surface: str
    forms: tuple[int, ...] = ()
    alternatives: tuple[int, ...] = ()
    predicate: bool = False
    terms: tuple[int, ...] = field(init=False)
    """Distinct term ids under which a document with this word is indexed."""

    def __post_init__(self) -> None:
        """Made once: a word of the cache is counted in a great many chunks."""
        terms = tuple(dict.fromkeys((self.stem, *self.parts, *self.forms)))
        object.__setattr__(self, "terms", terms)


def words(text: str) -> Iterator[Word]:
    """The words of a text in order, without those of weight 0."""
    folded = _INVISIBLE.sub("", unicodedata.normalize("NFKC", text)).casefold()
    latin_end, before = -1, ""
    for found in _WORD.finditer(folded):
        kind = found.lastgroup or "word"
        glued = kind == "hangul" and found.start() == latin_end
        if word := _word(found[0], kind, glued or before in _BEFORE_VERBS):
            yield word
        latin_end, before = found.end("word"), found[0]


def count_terms(text: str) -> Counter[int]:
    """How often each term occurs; the sum of the counts is the length that BM25 uses."""
    counts: Counter[int] = Counter()
    for word in words(text):
        counts.update(word.terms)
    return counts


@lru_cache(maxsize=_REMEMBERED_WORDS)
def _word(surface: str, kind: str, after: bool) -> Word | None:
    """`after`: a Korean word stands glued to a Latin one, a Latin one where a verb is expected."""
    if len(surface) > _LONGEST_WORD:
        return None
    if kind == "hangul":
        return _korean_word(surface, after)
    if kind == "han":
        return Word(term_id(surface), _ids(korean.bigrams(surface)), 1.0, surface)
    if kind == "phrase":
        return _phrase(surface)
    return _latin_word(surface, after)


def _korean_word(surface: str, glued: bool) -> Word | None:
    stem = korean.stem(surface, shortest=0 if glued else 2)
    weight = _korean_weight(surface, stem)
    if not weight:
        return None
    noun = korean.bare_noun(stem)
    parts = korean.bigrams(stem) + ((noun,) if noun else ())
    return Word(
        term_id(stem),
        _ids(parts),
        weight,
        surface,
        forms=_ids(korean.dictionary_forms(stem)),
        alternatives=_ids(map(_english_stem, loanwords.to_english(stem))),
        predicate=korean.is_predicate(surface, stem),
    )


def _korean_weight(surface: str, stem: str) -> float:
    if not stem or surface in _IDIOMS or korean.is_light_verb(stem):
        return 0.0
    noun = korean.certain_noun(stem)
    return korean_weight(noun or stem)


def _latin_word(surface: str, verbal: bool = False) -> Word | None:
    weight = english_weight(surface.replace("’", "'"))
    if not weight:
        return None
    parts = _PARTS.findall(surface)
    if len(parts) > 1:
        return _compound(surface, parts)
    return Word(
        term_id(_english_stem(surface)),
        (),
        weight,
        surface,
        alternatives=_ids(loanwords.to_korean(surface)),
        predicate=verbal or surface.endswith(("ing", "ed")),
    )


def _compound(surface: str, parts: list[str]) -> Word | None:
    """`models.lock` is itself and its parts; the end of `gate's` is grammar."""
    kept = [_english_stem(part) for part in parts if english_weight(part)]
    if len(parts) == 2 and len(parts[1]) <= 2 and surface[len(parts[0])] in "'’":
        return Word(term_id(kept[0]), (), 1.0, surface) if kept else None
    return Word(term_id(surface), _ids(kept), 1.0, surface)


def _phrase(surface: str) -> Word | None:
    """`rolled back` is the verb of `rollback`: one word, whose parts are found as well."""
    verb, particle = surface.split(" ")
    if not english_weight(verb):
        return _latin_word(particle)
    parts = [_english_stem(part) for part in (verb, particle) if english_weight(part)]
    return Word(term_id(_english_stem(verb) + particle), _ids(parts), 1.0, surface, predicate=True)


def _ids(terms: Iterable[str]) -> tuple[int, ...]:
    return tuple(dict.fromkeys(map(term_id, terms)))


def _english_stem(word: str) -> str:
    # A stemmer keeps state while it works: one for each call is the cheap way to be thread-safe.
    return str(snowballstemmer.stemmer("english").stemWord(word))


@lru_cache(maxsize=_REMEMBERED_WORDS)
def term_id(term: str) -> int:
    """The index of a term in sparse vectors; the same on every machine and in every release."""
    return int.from_bytes(blake2b(term.encode(), digest_size=4).digest(), "big")
