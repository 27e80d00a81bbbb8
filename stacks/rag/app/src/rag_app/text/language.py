"""Tells Korean from English by the letters; no other language is distinguished."""

from __future__ import annotations

import re

_HANGUL = re.compile(r"[가-힣]")
_LATIN = re.compile(r"[A-Za-z]")

# Korean writing about computers is full of Latin names and commands, while English text hardly
# ever holds Hangul: a syllable therefore outweighs several Latin letters.
_LATIN_LETTERS_PER_SYLLABLE = 5


def detect(text: str) -> str:
    """ "ko" or "en"; text without any letters is "en"."""
    syllables = len(_HANGUL.findall(text))
    if not syllables:
        return "en"
    letters = len(_LATIN.findall(text))
    return "ko" if syllables * _LATIN_LETTERS_PER_SYLLABLE >= letters else "en"
