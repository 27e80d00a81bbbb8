"""A line chart as one SVG file: axes, a legend, marks. Pure; the same chart gives the same bytes.

The file stands alone (no script, no font, nothing fetched) and brings its own background, light or
dark as the reader's screen is. Lines differ by their dashes too, so it is understood without
colour. Everything that is text is escaped; what SVG cannot hold is replaced.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 860, 500
"""Size of the drawing, in its own units (pixels where nothing scales it)."""

_FONT, _SMALL = 13, 12
_TOP, _RIGHT, _BOTTOM = 44, 28, 58
_ROW = 20
_TICKS = 6
_KEY = 34
# Okabe and Ito's colours, told apart by people who see fewer; (light, dark) by line.
_COLOURS = (
    ("#0072b2", "#56b4e9"),
    ("#b34a00", "#e69f00"),
    ("#00795a", "#2cc9a0"),
    ("#a0467a", "#e39ac4"),
    ("#5b5b00", "#f0e442"),
    ("#333333", "#d9d9d9"),
)
_DASHES = ("", "8 4", "2 3", "10 3 2 3", "14 5", "5 5")
_UNITS = ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k"))
_NOT_XML = re.compile(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def compact(value: float) -> str:
    """A number of an axis in few characters: `800`, `1.5k`, `20k`, `3M`."""
    for size, unit in _UNITS:
        if abs(value) >= size * 0.99995:
            return f"{value / size:.4g}{unit}"
    return f"{value:.4g}"


@dataclass(frozen=True, slots=True)
class Line:
    """A line through `points` (x, y) in their order; steps are points of equal x."""

    name: str
    points: Sequence[tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Mark:
    """A dotted line across the whole drawing, at `value` of the axis, with its label.

    The label of a mark of the y axis stands where the line ends, or where it begins (`first`).
    """

    value: float
    label: str
    first: bool = False


@dataclass(frozen=True, slots=True)
class Axis:
    """What is measured, with its unit; `tick` writes a value of it.

    Linear axes of positive values begin at 0, logarithmic ones at the smallest value.
    """

    label: str
    logarithmic: bool = False
    tick: Callable[[float], str] = compact
    marks: Sequence[Mark] = ()


@dataclass(frozen=True, slots=True)
class Chart:
    """What is drawn; one to six lines."""

    title: str
    x: Axis
    y: Axis
    lines: Sequence[Line]


def draw(chart: Chart) -> str:
    """The SVG of a chart, ending in a newline.

    Raises `ValueError` where there is nothing to draw, for more lines than can be told apart, for
    values that are not finite and for values <= 0 on a logarithmic axis.
    """
    if not 0 < len(chart.lines) <= len(_COLOURS) or not all(line.points for line in chart.lines):
        raise ValueError(f"a chart has 1 to {len(_COLOURS)} lines, each with points")
    keys = list(_placed_keys([line.name for line in chart.lines]))
    y_range = _Range.of(chart.y, (y for line in chart.lines for _, y in line.points))
    x_range = _Range.of(chart.x, (x for line in chart.lines for x, _ in line.points))
    left = 40 + max(_width(chart.y.tick(value), _SMALL) for value in y_range.ticks())
    top = _TOP + _ROW * (1 + keys[-1][1]) + 8
    frame = _Frame(left, top, WIDTH - _RIGHT, HEIGHT - _BOTTOM, x_range, y_range)
    parts = (_head(chart), _grid(chart, frame), _marks(chart, frame), _lines(chart, frame))
    drawn = [element for part in (*parts, _legend(chart, keys)) for element in part]
    return "\n".join([*drawn, "</svg>", ""])


@dataclass(frozen=True, slots=True)
class _Range:
    """What of an axis is shown: from `low` to `high`, in decades where it is logarithmic."""

    low: float
    high: float
    logarithmic: bool

    @classmethod
    def of(cls, axis: Axis, values: Iterable[float]) -> _Range:
        shown = [*values, *(mark.value for mark in axis.marks)]
        if not all(map(math.isfinite, shown)):
            raise ValueError(f"{axis.label}: a value is not finite")
        low, high = min(shown), max(shown)
        if axis.logarithmic:
            if low <= 0:
                raise ValueError(f"{axis.label}: {low} on a logarithmic axis")
            return cls(low, high if high > low else low * 10, logarithmic=True)
        low = min(low, 0.0)
        step = _step(high - low) if high > low else 1.0
        return cls(
            math.floor(low / step) * step, max(math.ceil(high / step) * step, low + step), False
        )

    def share(self, value: float) -> float:
        """Where a value lies, 0 at the beginning and 1 at the end."""
        if self.logarithmic:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)

    def ticks(self) -> list[float]:
        if self.logarithmic:
            return _decades(self.low, self.high)
        step = _step(self.high - self.low)
        first = math.ceil(self.low / step - 1e-9)
        return [step * n for n in range(first, math.floor(self.high / step + 1e-9) + 1)]


def _step(span: float) -> float:
    """A round distance between ticks: 1, 2 or 5 times a power of ten."""
    size = 10.0 ** math.floor(math.log10(span / _TICKS))
    return next(size * times for times in (1, 2, 5, 10) if span / (size * times) <= _TICKS)


def _decades(low: float, high: float) -> list[float]:
    """Powers of ten between, with their halves and fifths where there are few."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    every = max(1, (last - first) // _TICKS)
    times = (1, 2, 5) if last - first <= 3 else (1,)
    ticks = [t * 10.0**n for n in range(first, last + 1, every) for t in times]
    return [tick for tick in ticks if low * 0.9999 <= tick <= high * 1.0001] or [low, high]


@dataclass(frozen=True, slots=True)
class _Frame:
    """The rectangle of the lines, and where values lie in it."""

    left: float
    top: float
    right: float
    bottom: float
    x_range: _Range
    y_range: _Range

    def x(self, value: float) -> float:
        return self.left + (self.right - self.left) * self.x_range.share(value)

    def y(self, value: float) -> float:
        return self.bottom - (self.bottom - self.top) * self.y_range.share(value)


def _head(chart: Chart) -> Iterator[str]:
    yield (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="aibox-chart" role="img" '
        f'viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" '
        f'font-family="system-ui, sans-serif" font-size="{_FONT}">'
    )
    yield f"<title>{_text(chart.title)}</title>"
    yield f"<style>@media (prefers-color-scheme: dark) {{ {' '.join(_dark())} }}</style>"
    yield f'<rect class="paper" width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>'
    yield _label(20, 28, chart.title, size=16)


def _dark() -> Iterator[str]:
    own = ".aibox-chart "
    yield f"{own}.paper {{ fill: #16181c }} {own}text {{ fill: #e8e8e8 }}"
    yield f"{own}.grid {{ stroke: #3a3f47 }} {own}.mark {{ stroke: #e8e8e8 }}"
    for number, (_, colour) in enumerate(_COLOURS):
        yield f"{own}.line-{number} {{ stroke: {colour} }}"


def _grid(chart: Chart, frame: _Frame) -> Iterator[str]:
    for value in frame.y_range.ticks():
        y = frame.y(value)
        yield _stroke("grid", (frame.left, y), (frame.right, y))
        yield _label(frame.left - 8, y + 4, chart.y.tick(value), anchor="end", size=_SMALL)
    for value in frame.x_range.ticks():
        x = frame.x(value)
        yield _stroke("grid", (x, frame.top), (x, frame.bottom))
        yield _label(x, frame.bottom + 18, chart.x.tick(value), anchor="middle", size=_SMALL)
    middle = (frame.left + frame.right) / 2
    yield _label(middle, HEIGHT - 16, chart.x.label, anchor="middle")
    height = (frame.top + frame.bottom) / 2
    yield _label(18, height, chart.y.label, anchor="middle", turned=True)


def _marks(chart: Chart, frame: _Frame) -> Iterator[str]:
    for number, mark in enumerate(chart.x.marks):
        x, y = frame.x(mark.value), frame.top + 16 + _ROW * number
        late = x > (frame.left + frame.right) / 2
        yield _stroke("mark", (x, frame.top), (x, frame.bottom))
        yield _label(x + (-6 if late else 6), y, mark.label, anchor="end" if late else "start")
    for mark in chart.y.marks:
        y = frame.y(mark.value)
        yield _stroke("mark", (frame.left, y), (frame.right, y))
        below = y - frame.top < _ROW
        x, anchor = (frame.left + 6, "start") if mark.first else (frame.right - 6, "end")
        yield _label(x, y + (16 if below else -6), mark.label, anchor=anchor)


def _lines(chart: Chart, frame: _Frame) -> Iterator[str]:
    for number, line in enumerate(chart.lines):
        points = " ".join(f"{_number(frame.x(x))},{_number(frame.y(y))}" for x, y in line.points)
        yield f'<polyline {_style(number)} points="{points}"/>'


def _legend(chart: Chart, keys: Sequence[tuple[float, int]]) -> Iterator[str]:
    for number, (line, (x, row)) in enumerate(zip(chart.lines, keys, strict=True)):
        y = _TOP + _ROW * row + 6
        ends = f'x1="{_number(x)}" y1="{y}" x2="{_number(x + _KEY - 8)}" y2="{y}"'
        yield f"<line {_style(number)} {ends}/>"
        yield _label(x + _KEY, y + 4, line.name)


def _placed_keys(names: Sequence[str]) -> Iterator[tuple[float, int]]:
    """Where each key of the legend begins: (x, row)."""
    x, row = 20.0, 0
    for name in names:
        width = _KEY + _width(name, _FONT) + 24
        if x > 20 and x + width > WIDTH:
            x, row = 20.0, row + 1
        yield x, row
        x += width


def _style(number: int) -> str:
    dash = f' stroke-dasharray="{_DASHES[number]}"' if _DASHES[number] else ""
    colour = f'class="line-{number}" stroke="{_COLOURS[number][0]}"'
    return f'{colour} fill="none" stroke-width="2.5" stroke-linejoin="round"{dash}'


def _stroke(kind: str, start: tuple[float, float], end: tuple[float, float]) -> str:
    look = 'stroke="#dddddd"' if kind == "grid" else 'stroke="#222222" stroke-dasharray="2 4"'
    ends = zip(("x1", "y1", "x2", "y2"), (*start, *end), strict=True)
    places = " ".join(f'{name}="{_number(value)}"' for name, value in ends)
    return f'<line class="{kind}" {look} {places}/>'


def _label(
    x: float, y: float, text: str, *, anchor: str = "start", size: int = _FONT, turned: bool = False
) -> str:
    place = f'x="{_number(x)}" y="{_number(y)}"'
    turn = f' transform="rotate(-90 {_number(x)} {_number(y)})"' if turned else ""
    look = f'text-anchor="{anchor}" font-size="{size}" fill="#222222"'
    return f"<text {place} {look}{turn}>{_text(text)}</text>"


def _text(text: str) -> str:
    return escape(_NOT_XML.sub("\N{REPLACEMENT CHARACTER}", text))


def _width(text: str, size: int) -> float:
    """Roughly what a text needs; letters of East Asia are as wide as high."""
    wide = sum(unicodedata.east_asian_width(letter) in "WF" for letter in text)
    return size * (0.6 * (len(text) - wide) + wide)


def _number(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")
