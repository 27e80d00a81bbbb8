"""Control files (deb822): paragraphs of `Field: value`, continued by lines that are indented."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Paragraph:
    """Fields in order; their names are compared without regard to case."""

    fields: tuple[tuple[str, str], ...]

    def get(self, name: str, default: str = "") -> str:
        """The value of a field, its first and continued lines joined by line feeds."""
        wanted = name.lower()
        for field, value in self.fields:
            if field.lower() == wanted:
                return value
        return default


def paragraphs(lines: Iterable[str]) -> Iterator[Paragraph]:
    """The paragraphs of a file; comments and lines that are neither field nor value are skipped."""
    fields: list[tuple[str, str]] = []
    for line in lines:
        if line.startswith("#"):
            continue
        if not line.strip():
            if fields:
                yield Paragraph(tuple(fields))
            fields = []
        elif line[0] in " \t":
            if fields:
                name, value = fields[-1]
                fields[-1] = (name, f"{value}\n{line.strip()}")
        elif ":" in line:
            name, _, value = line.partition(":")
            fields.append((name.strip(), value.strip()))
    if fields:
        yield Paragraph(tuple(fields))


def written(fields: Mapping[str, str]) -> str:
    """A paragraph of one-line values, in the order given."""
    return "".join(f"{name}: {value}\n" for name, value in fields.items())
