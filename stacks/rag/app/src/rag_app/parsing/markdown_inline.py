"""Markdown inside a line: what remains when links, emphasis and tags are reduced to their words."""

from __future__ import annotations

import html
import re

_CODE = re.compile(r"(?<!`)(`+)(?!`)((?:(?!\n[ \t]*\n)[\s\S])*?[^`])\1(?!`)")
_CODE_OR_HIDDEN = re.compile(
    r"(?P<code>(?<!`)(?P<ticks>`+)(?!`)(?:(?!\n[ \t]*\n)[\s\S])*?[^`](?P=ticks)(?!`))"
    r"|<!--(?:[\s\S]*?-->|[\s\S]*\Z)"
    r"|<(?P<name>script|style|template)\b[^>]*>[\s\S]*?(?:</(?P=name)\s*>|\Z)"
    r"|<(?P<tag>\w+)\b[^<>]*(?:\shidden\b|display\s*:\s*none|visibility\s*:\s*hidden)[^<>]*>"
    r"[\s\S]*?(?:</(?P=tag)\s*>|\Z)",
    re.I,
)
# Tags of HTML that Markdown files use; `<name>` as a placeholder is kept.
_TAG = re.compile(
    r"</?(?:a|abbr|b|blockquote|br|center|code|dd|del|details|div|dl|dt|em|font|h[1-6]|hr|i|img|ins"
    r"|kbd|li|mark|ol|p|picture|pre|s|small|source|span|strong|sub|summary|sup|table|tbody|td|th"
    r"|thead|tr|u|ul|video)(?:\s[^<>]*)?/?>",
    re.I,
)
_TARGET = r"\((?:[^()\s]|\([^()\s]*\))*(?:[ \t\n]+(?:\"[^\"]*\"|'[^']*'))?[ \t]*\)"
_REPLACEMENTS = (
    (re.compile(r"!\[([^\[\]]*)\](?:" + _TARGET + r"|\[[^\[\]]*\])"), r"\1"),
    (re.compile(r"(?<!!)\[([^\[\]]*)\](?:" + _TARGET + r"|\[[^\[\]]*\])"), r"\1"),
    (re.compile(r"<((?:https?|mailto):[^<>\s]+)>", re.I), r"\1"),
    (_TAG, ""),
    (re.compile(r"\*\*(?=\S)([^*]*[^*\s])\*\*"), r"\1"),
    (re.compile(r"(?<!\w)__(?=\S)([^_]*[^_\s])__(?!\w)"), r"\1"),
    (re.compile(r"(?<![\w*\\])\*(?=[^\s*])([^*\n]*[^\s*])\*(?!\*)"), r"\1"),
    (re.compile(r"(?<![\w\\])_(?=[^\s_])([^_\n]*[^\s_])_(?!\w)"), r"\1"),
    (re.compile(r"~~(?=\S)([^~]*[^~\s])~~"), r"\1"),
    (re.compile(r"(?:[ \t]{2,}|\\)(?=\n)"), ""),
    (re.compile(r"(?<=\S)[ \t]{2,}"), " "),
    (re.compile(r"\\([!-/:-@\[-`{-~])"), r"\1"),
)
_PUT_ASIDE = re.compile(r"\x00(\d+)\x00")
_CELL_END = re.compile(r"(?<!\\)\|")


def without_hidden(text: str) -> str:
    """`text` without comments, scripts, styles and hidden elements, code spans untouched."""
    return _CODE_OR_HIDDEN.sub(lambda found: found[0] if found["code"] else "", text)


def plain(text: str) -> str:
    """`text` without inline markup; code spans keep their content to the letter."""
    spans: list[str] = []

    def put_aside(found: re.Match[str]) -> str:
        spans.append(found[2].strip())
        return f"\x00{len(spans) - 1}\x00"

    text = _CODE.sub(put_aside, text.replace("\x00", ""))
    for pattern, replacement in _REPLACEMENTS:
        text = pattern.sub(replacement, text)
    return _PUT_ASIDE.sub(lambda found: spans[int(found[1])], html.unescape(text))


def split_cells(line: str) -> list[str]:
    """The cells of a table row, without markup."""
    inner = line.strip().removeprefix("|")
    cells = _CELL_END.split(inner[:-1] if inner.endswith("|") and inner[-2:] != "\\|" else inner)
    return [plain(cell.replace("\\|", "|").strip()) for cell in cells]
