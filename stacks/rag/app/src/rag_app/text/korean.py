"""Reduces a Korean word to the part that carries its meaning, without a dictionary.

Korean glues particles (josa) and verb endings (eomi) to words: 문서, 문서를, 문서에서는 are one
search term. Stripping them by rule, together with bigrams of what is left, ranks better on
public Korean data than whitespace words and needs no model. The rules may cut a syllable too
much from some nouns; since questions and documents are cut alike and `stem` is idempotent, this
costs little.
"""

from __future__ import annotations

import re


def _longest_first(words: str) -> str:
    """A regular expression for any of the words, preferring the longest."""
    return "|".join(sorted(words.split(), key=len, reverse=True))


_PARTICLES = _longest_first("""
에서부터 으로부터 에게서 이라도 이라는 이라고 이라면 으로써 으로서 에서 에게 한테 께서 까지
부터 처럼 만큼 보다 으로 이나 이란 이며 라도 라는 라고 라면 조차 마저 밖에 대로 마다 하고 로서
로써 은 는 이 가 을 를 의 에 로 도 만 와 과 나 란
""")
# Endings of predicates that no noun ends in.
_ENDINGS = _longest_first("""
겠습니다 었습니다 았습니다 였습니다 하십시오 으십시오 습니다 습니까 입니다 입니까 십시오
이에요 예요 인가요 인지요 은가요 는가요 었나요 았나요 으려면 으려고 으면서 으니까 려면 려고
나요 까요 는데 은데 인데 었는데 았는데 더니 었더니 았더니 어요 아요 네요 군요 세요 으세요 는지
은지 도록 면서 지만 거나 니다 니까 었다 았다 는다 던데 어서 아서 어야 아야 으며 자마자
""")
# 하다 and 되다 make verbs of nouns: 설치하려면, 설치됩니다, 설치한, 설치했을 are all about 설치.
_VERB_TAILS = _longest_first("""
는 면 려면 려고 고 지 기 게 여 여서 며 면서 나요 는데 도록 다 던 자 니 니까 거나 지만 였다
였습니다 었다 었습니다 었을 십시오 시오 세요 는가 는지 니다 다면 데 다고 까 까요 지요 수 을
을까 습니다 습니까 었나요 나 어요 어서 어도 더니 다가 던데 야 야만 서 도 요 러 준 줘 주세요 둔
두면 는가요 는다 을때 을지 네요 었는데 었더니 자마자 인 가요 가 지요 건가요
""")
_PARTICLE = re.compile(f"(?:{_PARTICLES})$")
_ENDING = re.compile(f"(?:{_ENDINGS})$")
_LIGHT_VERB = re.compile(
    rf"(?:(?:하|되|시키|당하|합|됩|했|됐|돼|해)(?:{_VERB_TAILS})|[한된할될함됨해돼](?:{_VERB_TAILS})?)$"
)
_RULES = (_LIGHT_VERB, _ENDING, _PARTICLE)

# A syllable's code point is _FIRST_SYLLABLE + (initial * _VOWELS + vowel) * _FINALS + final.
_FIRST_SYLLABLE = ord("가")
_VOWELS = 21
_FINALS = 28
_FINAL_BIEUP = 17
# Endings that are no more than a last consonant: 옮길, 옮긴, 옮김, 옮깁, 옮겼 are forms of 옮기.
_INFLECTED_FINALS = frozenset((4, 8, 16, _FINAL_BIEUP, 20))
# Contractions: 옮겨 is 옮기어 (ㅕ of ㅣ), 바꿔 is 바꾸어 (ㅝ of ㅜ), 봐 is 보아 (ㅘ of ㅗ).
_UNCONTRACTED_VOWELS = {6: 20, 14: 13, 9: 8}


def stem(word: str, shortest: int = 2) -> str:
    """`word` (Hangul syllables) without particles and endings, at least `shortest` syllables long.

    `shortest=0` is for what is glued to a Latin word: `GPU에서는` leaves nothing of 에서는.
    """
    while (shorter := _strip_once(word, shortest)) != word:
        word = shorter
    return word


def bigrams(word: str) -> tuple[str, ...]:
    """Neighbouring pairs of syllables; a single syllable is its own only part."""
    if len(word) < 2:
        return (word,) if word else ()
    return tuple(word[at : at + 2] for at in range(len(word) - 1))


def is_light_verb(word: str) -> bool:
    """Whether `word` is an inflection of 하다 or 되다 standing alone (해야, 됐는데)."""
    return _LIGHT_VERB.match(word) is not None


def is_predicate(word: str, stem: str) -> bool:
    """Whether what was stripped from `word` to get `stem` ends only verbs and adjectives."""
    return word != stem and any(rule.search(word, 1) for rule in (_LIGHT_VERB, _ENDING))


def bare_noun(word: str) -> str:
    """The one-syllable noun of a two-syllable word that may end in a particle (값을), else ""."""
    return word[0] if len(word) == 2 and _PARTICLE.search(word, 1) else ""


def certain_noun(word: str) -> str:
    """As `bare_noun`, but only for particles that hardly any two-syllable noun ends in."""
    return word[0] if len(word) == 2 and word[1] in "은는을를" else ""


def dictionary_forms(stem: str) -> tuple[str, ...]:
    """What an inflected verb may be a form of: 옮기 for 옮길, 옮겨; nonsense for nouns."""
    code = ord(stem[-1]) - _FIRST_SYLLABLE if len(stem) > 1 else -1
    if code < 0:
        return ()
    syllable, final = divmod(code, _FINALS)
    initial, vowel = divmod(syllable, _VOWELS)
    if final and final not in _INFLECTED_FINALS:
        return ()
    vowels = {vowel, _UNCONTRACTED_VOWELS.get(vowel, vowel)}
    forms = (_FIRST_SYLLABLE + (initial * _VOWELS + one) * _FINALS for one in sorted(vowels))
    return tuple(form for last in forms if (form := stem[:-1] + chr(last)) != stem)


def _strip_once(word: str, shortest: int) -> str:
    for rule in _RULES:
        # Many verbs have one syllable (읽습니다), and their endings are unmistakable.
        found = rule.search(word, min(shortest, 1) if rule is _ENDING else shortest)
        if found:
            return _without_bieup(word[: found.start()], found[0])
    return word


def _without_bieup(start: str, ending: str) -> str:
    """되돌립 + 니다 is the verb 되돌리: its last consonant belongs to the ending."""
    if not start or ending not in ("니다", "니까"):
        return start
    code = ord(start[-1]) - _FIRST_SYLLABLE
    if code % _FINALS != _FINAL_BIEUP:
        return start
    return start[:-1] + chr(_FIRST_SYLLABLE + code - _FINAL_BIEUP)
