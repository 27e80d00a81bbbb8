"""Who may hand a component on, judged from what its publisher states as its licence. Pure.

A table of licences, not a lawyer: what it does not know is `operator-only`, never `allow`.
Publishers state a licence as an SPDX expression, as a sentence, or under a name of their own.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass

from aibox.bundle.manifest import Kind
from aibox.pins import Redistribution

_LIMIT = 1000
_DEPTH = 20
_STRICTNESS = (Redistribution.ALLOW, Redistribution.OPERATOR_ONLY, Redistribution.FORBID)


@dataclass(frozen=True, slots=True)
class Judgement:
    """A class of redistribution, and why a licence has it."""

    redistribution: Redistribution
    reason: str


_OPEN = Judgement(Redistribution.ALLOW, "an open-source licence")
_OURS = Judgement(Redistribution.ALLOW, "a file of this project")
_UNKNOWN = Judgement(Redistribution.OPERATOR_ONLY, "the licence is not stated, or not known here")

_EXPLANATIONS = {
    Redistribution.ALLOW: "anybody may hand a bundle with it on",
    Redistribution.OPERATOR_ONLY: (
        "the operator may carry a bundle with it to his own machines, once he has accepted the "
        "licence; such a bundle is not for others"
    ),
    Redistribution.FORBID: (
        "no bundle may hold it; whoever has a licence brings the files to the box himself: "
        "the operator brings the weights, the release names them by digest"
    ),
}

# Names of their own: the first that is found anywhere in a tidied term decides.
_OWN_NAMES = tuple(
    (re.compile(pattern), Judgement(redistribution, reason))
    for pattern, redistribution, reason in (
        (
            r"\bk exaone\b",
            Redistribution.OPERATOR_ONLY,
            "commercial use is allowed, passing on for commercial purposes needs an agreement",
        ),
        (
            r"\bnon ?commercial|\bnc\b|\bresearch only\b|\bexaone\b",
            Redistribution.FORBID,
            "commercial use, or passing on, is not allowed",
        ),
        (r"\btencent\b|\bhunyuan\b", Redistribution.FORBID, "the licence excludes whole countries"),
        (
            r"^(other: )?upstage solar( license)?( \d\.\d)?$",
            Redistribution.ALLOW,
            "commercial use and passing on are allowed; a derived work carries the name Solar",
        ),
        (
            r"\bhyperclova ?x?\b",
            Redistribution.OPERATOR_ONLY,
            "conditions on the number of users and on competing products, for the operator to meet",
        ),
        (
            r"\bkanana\b",
            Redistribution.OPERATOR_ONLY,
            "offering it on premises to others needs a commercial licence",
        ),
        (
            r"\bllama",
            Redistribution.OPERATOR_ONLY,
            "whoever uses it accepts the agreement; passing on asks for an attribution",
        ),
        (
            r"\bgemma\b",
            Redistribution.OPERATOR_ONLY,
            "whoever uses it accepts the terms, which restrict the use",
        ),
        (
            r"\bnvidia\b|\bcuda\b",
            Redistribution.OPERATOR_ONLY,
            "the operator accepts the publisher's agreement for his own machines",
        ),
        (r"\bqwen\b|\btongyi\b", Redistribution.OPERATOR_ONLY, "a limit on the number of users"),
        (
            r"\bbusl\b|\bbusiness source\b|\bsspl\b|\belastic\b",
            Redistribution.OPERATOR_ONLY,
            "the source is open, the use is restricted",
        ),
    )
)

# After tidying, and without a version at the end. `bsl 1.0` keeps its own: 1.1 is no open source.
_OPEN_NAMES = frozenset(
    """
    0bsd; afl; agpl; apache; apache software; artistic; asl; blueoak; boost; boost software;
    bsd; bsd 1 clause; bsd 2 clause; bsd 3 clause; bsd 4 clause; bsd derived; bsl 1.0; bzip2; cc by;
    cc by sa; cc0; cddl; curl; dependency; eclipse public; epl; eupl; expat; freetype; ftl; gfdl;
    gfdl niv; gnu affero general public; gnu general public; gnu lesser general public;
    gnu library general public; gpl; hpnd; icu; ijg; isc; iscl; lgpl; libpng; libtiff; mit; mit cmu;
    mozilla public; mpl; ms pl; ncsa; ofl; openssl; perl; postgresql; psf; public domain; python;
    python foundation; python software foundation; ruby; sleepycat; tcl; unicode; unicode dfs;
    unlicense; upl; vim; wtfpl; x11; zlib; zpl
    """.replace("\n", " ")
    .replace("    ", "")
    .strip()
    .split("; ")
)
_HARMLESS_REMARK = re.compile(r"(with )?(a |the )?(gpt oss )?usage policy( file)?|https?:\S*")
_EXCEPTION = re.compile(r"(.+?) with (\S+ ){0,4}\S*exception( \d+\.\d+)?")
_VERSION_AT_END = re.compile(r"( v?|v)\d+(\.\d+)*\+?$")
_WORDS_WITHOUT_WEIGHT = re.compile(r"\b(the|license[sd]?|version)\b")
_SPLIT = re.compile(r"([()]|\s+and(?:/or)?\s+|\s+or\s+|\s*[,;/&|]\s*)")
_SEPARATORS = frozenset({"(", ")", "and", "and/or", "or", ",", ";", "/", "&", "|"})
_JOINED_NAMES = (
    (re.compile(r"[\s-]+or[\s-]+(any[\s-]+)?(later|newer)([\s-]+version)?\b"), "+"),
    (re.compile(r",?\s+version\s+(?=\d)"), " "),
    (re.compile(r"[\"'“]new[\"'”] or [\"'“]revised[\"'”]"), ""),
    (re.compile(r"historical permission notice and disclaimer"), "hpnd"),
)


def classify(licence: str, kind: Kind) -> Redistribution:
    """The class of a component whose publisher states `licence`; total, never raises."""
    return judge(licence, kind).redistribution


def judge(licence: str, kind: Kind) -> Judgement:
    """Like `classify`, with the reason. In an expression AND takes the stricter, OR the laxer."""
    text = unicodedata.normalize("NFKC", licence).lower().replace("licence", "license").strip()
    for pattern, plain in _JOINED_NAMES:
        text = pattern.sub(plain, text)
    found = _Expression(text).judge() if len(text) <= _LIMIT else _own_name(_tidy(text))
    if found is None:
        return _OURS if kind is Kind.PROJECT else _UNKNOWN
    return found


def explain(redistribution: Redistribution) -> str:
    """What a class means for whoever holds the bundle, with the way out where there is one."""
    return _EXPLANATIONS[redistribution]


class _Expression:
    """`term AND (term OR term)` as people write it, read from the left; None is a term unknown.

    Brackets after a word are a remark on it, brackets before one make a group.
    """

    def __init__(self, text: str) -> None:
        self._parts = [part for part in _SPLIT.split(text) if part.strip()]
        self._depth = 0

    def judge(self) -> Judgement | None:
        found = self._alternatives()
        while self._parts:  # a bracket too many closed the expression early
            self._parts.pop(0)
            found = _stricter([found, self._alternatives()])
        return found

    def _alternatives(self) -> Judgement | None:
        found = [self._conjunction()]
        while self._next() in ("or", "|"):
            self._parts.pop(0)
            found.append(self._conjunction())
        # Something unknown is no alternative to a licence that is known.
        known = [item for item in found if item is not None]
        return min(known, key=_strictness) if known else None

    def _conjunction(self) -> Judgement | None:
        found = [self._term()]
        while self._next() and self._next() not in ("or", "|", ")"):
            if self._next() != "(":
                self._parts.pop(0)
            found.append(self._term())
        return _stricter(found)

    def _term(self) -> Judgement | None:
        if self._next() == "(" and self._depth < _DEPTH:
            self._parts.pop(0)
            self._depth += 1
            found = self._alternatives()
            self._depth -= 1
            if self._next() == ")":
                self._parts.pop(0)
            return found
        if not self._parts or self._next() in _SEPARATORS:
            del self._parts[: self._next() == "("]  # nested too deep: read on behind it
            return None
        name = self._parts.pop(0)
        return _term(name, self._remark() if self._next() == "(" else "")

    def _remark(self) -> str:
        text, depth = "", 0
        while self._parts:
            part = self._parts.pop(0)
            depth += {"(": 1, ")": -1}.get(part.strip(), 0)
            text += part
            if depth == 0:
                break
        return text[1:].removesuffix(")")

    def _next(self) -> str:
        return self._parts[0].strip() if self._parts else ""


def _term(name: str, remark: str) -> Judgement | None:
    """One licence and the remark in brackets behind it, which must not take anything back."""
    tidied = _tidy(name)
    named = _own_name(f"{tidied} {_tidy(remark)}".strip())
    if named is not None:
        return named
    if remark and not _HARMLESS_REMARK.fullmatch(_tidy(remark)) and not _is_open(_tidy(remark)):
        return None
    exception = _EXCEPTION.fullmatch(tidied)
    return _OPEN if _is_open(exception[1] if exception else tidied) else None


def _own_name(tidied: str) -> Judgement | None:
    return next((judgement for rule, judgement in _OWN_NAMES if rule.search(tidied)), None)


def _is_open(tidied: str) -> bool:
    plain = " ".join(_WORDS_WITHOUT_WEIGHT.sub(" ", tidied).removesuffix(" only").split())
    return plain in _OPEN_NAMES or _VERSION_AT_END.sub("", plain) in _OPEN_NAMES


def _tidy(text: str) -> str:
    return " ".join(re.sub(r"[\s_\"'-]+", " ", text).split())


def _strictness(judgement: Judgement) -> int:
    return _STRICTNESS.index(judgement.redistribution)


def _stricter(found: list[Judgement | None]) -> Judgement | None:
    """The strictest of several that all hold; one unknown among them keeps it from `allow`."""
    worst = max((item for item in found if item is not None), key=_strictness, default=None)
    if None in found and (worst is None or worst.redistribution is Redistribution.ALLOW):
        return None
    return worst
