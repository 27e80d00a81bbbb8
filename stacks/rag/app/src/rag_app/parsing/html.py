"""HTML: what a browser would show, block by block; hidden elements never leave this file."""

from __future__ import annotations

import re
from typing import BinaryIO

from lxml import etree
from lxml import html as lxml_html

from rag_app.model import ParsedDocument
from rag_app.parsing.builder import TextBuilder
from rag_app.parsing.encoding import decode
from rag_app.parsing.hygiene import one_line
from rag_app.parsing.limits import Limits
from rag_app.parsing.refusals import refused

_SKIPPED_TAGS = (
    "script style template noscript head svg math iframe object embed canvas audio video"
    " select option textarea button input dialog"
)
_BLOCK_TAGS = (
    "address article aside blockquote body caption dd details div dl dt fieldset figcaption figure"
    " footer form h1 h2 h3 h4 h5 h6 header hr html li main nav ol p pre section summary table tbody"
    " td tfoot th thead tr ul"
)
_SKIPPED = frozenset(_SKIPPED_TAGS.split())
_BLOCKS = frozenset(_BLOCK_TAGS.split())
_HIDING_STYLE = re.compile(
    r"display\s*:\s*none|visibility\s*:\s*(hidden|collapse)|opacity\s*:\s*0?\.?0*\s*(;|$)"
    r"|font-size\s*:\s*0",
    re.I,
)
_DECLARED = re.compile(
    rb"<meta[^>]{0,200}charset\s*=\s*[\"']?([\w.:-]+)|encoding=[\"']([\w.:-]+)", re.I
)
_XML_DECLARATION = re.compile(r"\A\s*<\?xml[^>]*\?>")
_DECLARATION_BYTES = 2048


def parse_html(file: BinaryIO, limits: Limits) -> ParsedDocument:
    """The visible text of `file`, one segment for each of h1 to h6, tables row by row."""
    data = file.read()
    declared = _DECLARED.search(data[:_DECLARATION_BYTES])
    encoding = (declared[1] or declared[2]).decode("ascii", "replace") if declared else ""
    root = _tree(_XML_DECLARATION.sub("", decode(data, encoding)))
    reader = _Reader(TextBuilder(limits))
    reader.read(root)
    return reader.builder.finish(one_line(root.findtext(".//title") or ""))


def _tree(text: str) -> etree._Element:
    # Without `huge_tree` a text of more than 10 MB is dropped without a word.
    parser = lxml_html.HTMLParser(
        encoding="utf-8", remove_comments=True, remove_pis=True, no_network=True, huge_tree=True
    )
    try:
        return lxml_html.document_fromstring(text.encode(), parser=parser)
    except etree.ParserError:
        raise refused("no-text") from None


def _hidden(element: etree._Element) -> bool:
    hides = _HIDING_STYLE.search(element.get("style", ""))
    return element.tag in _SKIPPED or element.get("hidden") is not None or hides is not None


class _Reader:
    """Walks the tree once, without recursion, and writes blocks where block elements end."""

    def __init__(self, builder: TextBuilder) -> None:
        self.builder = builder
        self._inline: list[str] = []
        self._rows: list[list[str]] = []
        self._tables = 0

    def read(self, root: etree._Element) -> None:
        """Write everything visible below `root`."""
        walk = etree.iterwalk(root, events=("start", "end"))
        skipped: etree._Element | None = None
        for event, element in walk:
            if event == "start" and (not isinstance(element.tag, str) or _hidden(element)):
                skipped = element
                walk.skip_subtree()
            elif event == "start":
                self._start(element)
            else:
                if element is not skipped:
                    self._end(str(element.tag))
                self._inline.append(element.tail or "")
        self._flush()

    def _start(self, element: etree._Element) -> None:
        tag = str(element.tag)
        if tag == "table":
            if not self._tables:
                self._flush()
            self._tables += 1
        elif tag == "tr" and self._tables == 1:
            self._rows.append([])
        if tag in _BLOCKS and not self._tables:
            self._flush(tight=False)
        elif tag in _BLOCKS or tag == "br":
            self._inline.append("\n")
        self._inline.append(element.text or "")

    def _end(self, tag: str) -> None:
        if tag == "table":
            self._end_table()
        elif tag in {"td", "th"} and self._tables == 1:
            self._end_cell()
        elif tag == "caption" and self._tables == 1:
            self._flush()
        elif self._tables:
            self._inline.append(" ")
        elif tag in {"h1", "h2", "h3", "h4", "h5", "h6"}:
            self.builder.heading(int(tag[1]), self._take())
        elif tag == "pre":
            self.builder.code(self._take())
        elif tag in _BLOCKS:
            self._flush(item=tag == "li")

    def _end_cell(self) -> None:
        if not self._rows:
            self._rows.append([])
        self._rows[-1].append(self._take())

    def _end_table(self) -> None:
        self._tables -= 1
        if self._tables == 0:
            self.builder.table(self._rows)
            self._rows = []

    def _take(self) -> str:
        text = "".join(self._inline)
        self._inline.clear()
        return text

    def _flush(self, tight: bool = False, item: bool = False) -> None:
        text = one_line(self._take())
        self.builder.block(f"- {text}" if item and text else text, tight or item)
