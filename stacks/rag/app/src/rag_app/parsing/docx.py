"""DOCX: paragraphs and tables in document order, heading styles as heading paths."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterator
from typing import BinaryIO

import docx
from docx.document import Document as WordDocument
from docx.oxml.ns import qn
from docx.styles.style import BaseStyle
from lxml import etree

from rag_app.model import ParsedDocument
from rag_app.parsing.builder import TextBuilder
from rag_app.parsing.limits import Limits
from rag_app.parsing.package import vetted
from rag_app.parsing.refusals import refused

_HEADING_NAME = re.compile(r"(?:heading|제목)\s*([1-9])$", re.I)
_DEEPEST_HEADING = 6
_DEEPEST_LINEAGE = 10
_OUTLINE_LEVELS = 9
# Deleted text, field codes, and the second copy of a drawing's text for old readers.
_UNSEEN = frozenset(
    qn(tag) for tag in ("w:del", "w:moveFrom", "w:instrText", "w:delText", "w:rPr", "w:pPr")
) | {"{http://schemas.openxmlformats.org/markup-compatibility/2006}Fallback"}
_TEXT, _RUN = qn("w:t"), qn("w:r")
_WHITE = {qn("w:tab"): "\t", qn("w:br"): "\n", qn("w:cr"): "\n", qn("w:noBreakHyphen"): "-"}
_PARAGRAPH, _TABLE, _ROW, _CELL = qn("w:p"), qn("w:tbl"), qn("w:tr"), qn("w:tc")


def parse_docx(file: BinaryIO, limits: Limits) -> ParsedDocument:
    """The text of `file`; raises `DocumentRefused`: broken-docx, zip-bomb, unsafe-xml."""
    document = _open(file, limits)
    levels = _heading_levels(document)
    builder = TextBuilder(limits)
    for block in _blocks(document.element.body):
        if block.tag == _TABLE:
            builder.table([_cells(row) for row in _within(block, _ROW, _TABLE)])
        else:
            _paragraph(block, levels, builder)
    return builder.finish(document.core_properties.title or "")


def _open(file: BinaryIO, limits: Limits) -> WordDocument:
    package = vetted(file, limits)
    try:
        return docx.Document(package)
    except (KeyError, ValueError, AttributeError, etree.XMLSyntaxError, zipfile.BadZipFile):
        raise refused("broken-docx") from None


def _heading_levels(document: WordDocument) -> dict[str, int]:
    """Heading level by style id: from the style's name, or its (or its base's) outline level."""
    levels: dict[str, int] = {}
    for style in document.styles:
        level = next(filter(None, map(_style_level, _lineage(style))), 0)
        if level and style.style_id:
            levels[style.style_id] = level
    return levels


def _lineage(style: BaseStyle) -> list[BaseStyle]:
    """The style and those it is based on, at most ten: a hostile file may close a ring."""
    lineage: list[BaseStyle] = []
    current: BaseStyle | None = style
    while current is not None and len(lineage) < _DEEPEST_LINEAGE:
        lineage.append(current)
        current = getattr(current, "base_style", None)
    return lineage


def _style_level(style: BaseStyle) -> int:
    named = _HEADING_NAME.match(style.name or "")
    return int(named[1]) if named else _outline_level(style.element)


def _outline_level(element: etree._Element) -> int:
    """The outline level in the paragraph properties of `element`, from 1; 0 for body text."""
    for outline in element.iterfind(f"{qn('w:pPr')}/{qn('w:outlineLvl')}"):
        value = outline.get(qn("w:val"), "")
        if value.isdigit() and int(value) < _OUTLINE_LEVELS:
            return int(value) + 1
    return 0


def _blocks(parent: etree._Element) -> Iterator[etree._Element]:
    """Paragraphs and tables below `parent`, also those in content controls and insertions."""
    pending = list(reversed(parent))
    while pending:
        element = pending.pop()
        if element.tag in (_PARAGRAPH, _TABLE):
            yield element
        elif element.tag not in _UNSEEN:
            pending.extend(reversed(element))


def _paragraph(element: etree._Element, levels: dict[str, int], builder: TextBuilder) -> None:
    properties = element.find(qn("w:pPr"))
    style = properties.find(qn("w:pStyle")) if properties is not None else None
    style_id = style.get(qn("w:val"), "") if style is not None else ""
    level = _outline_level(element) or levels.get(style_id, 0)
    text = _text(element)
    listed = properties is not None and properties.find(qn("w:numPr")) is not None
    if 0 < level <= _DEEPEST_HEADING and text.strip():
        builder.heading(level, text)
    else:
        builder.block(f"- {text}" if listed and text.strip() else text, tight=listed)


def _cells(row: etree._Element) -> list[str]:
    """The texts of a row's cells; a merged cell stands once, empty below its first row."""
    return [_text(cell) for cell in _within(row, _CELL, _ROW)]


def _within(outer: etree._Element, tag: str, outer_tag: str) -> Iterator[etree._Element]:
    """Elements `tag` of `outer` itself; those of nested tables are text of their outer cell."""
    for element in outer.iter(tag):
        if next(element.iterancestors(outer_tag)) is outer:
            yield element


def _text(element: etree._Element) -> str:
    """What a reader sees of a paragraph or cell: neither deleted nor hidden text."""
    pieces: list[str] = []
    pending = [element]
    while pending:
        node = pending.pop()
        if node.tag == _TEXT:
            pieces.append(node.text or "")
        elif node.tag in _WHITE:
            pieces.append(_WHITE[node.tag])
        elif node.tag not in _UNSEEN and not (node.tag == _RUN and _vanishes(node)):
            pending.extend(reversed(node))
            if node.tag == _PARAGRAPH and pieces:
                pieces.append("\n")
    return "".join(pieces)


def _vanishes(run: etree._Element) -> bool:
    hidden = run.find(f"{qn('w:rPr')}/{qn('w:vanish')}")
    return hidden is not None and hidden.get(qn("w:val"), "true") not in {"0", "false", "off"}
