"""The chart: what is drawn can be read, stands alone, and is the same every time."""

from __future__ import annotations

import math
import re
import xml.etree.ElementTree as ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aibox import chart
from aibox.chart import Axis, Chart, Line, Mark

SVG = "{http://www.w3.org/2000/svg}"
STRAIGHT = Line("cloud", [(0, 0), (1, 10), (2, 20)])


def of(*lines: Line, x: Axis | None = None, y: Axis | None = None, title: str = "title") -> Chart:
    return Chart(title, x or Axis("month"), y or Axis("USD"), lines)


def read(drawn: str) -> ElementTree.Element:
    return ElementTree.fromstring(drawn)


def texts(drawn: str) -> list[str]:
    return [element.text or "" for element in read(drawn).iter(f"{SVG}text")]


def points(drawn: str) -> list[list[tuple[float, float]]]:
    return [
        [
            (float(x), float(y))
            for x, y in re.findall(r"([-\d.]+),([-\d.]+)", line.get("points", ""))
        ]
        for line in read(drawn).iter(f"{SVG}polyline")
    ]


def test_title_axes_and_legend_are_written() -> None:
    drawn = chart.draw(of(STRAIGHT, Line("on-premise", [(0, 5), (2, 6)])))
    assert {"title", "month", "USD", "cloud", "on-premise"} <= set(texts(drawn))


def test_the_same_chart_gives_the_same_bytes() -> None:
    assert chart.draw(of(STRAIGHT)) == chart.draw(of(STRAIGHT))


def test_a_straight_line_is_straight_and_rises() -> None:
    ((first, middle, last),) = points(chart.draw(of(STRAIGHT)))
    assert first[0] < middle[0] < last[0]
    assert first[1] > middle[1] > last[1]
    assert middle[1] == pytest.approx((first[1] + last[1]) / 2, abs=0.11)


def test_equal_ratios_are_equal_distances_on_a_logarithmic_axis() -> None:
    line = Line("users", [(1, 1), (10, 2), (100, 3)])
    ((first, middle, last),) = points(chart.draw(of(line, x=Axis("users", logarithmic=True))))
    assert middle[0] - first[0] == pytest.approx(last[0] - middle[0], abs=0.11)


def test_text_cannot_leave_its_place() -> None:
    hostile = '</text><script>alert("1")</script>&\x00\ud800'
    drawn = chart.draw(
        of(Line(hostile, [(0, 1)]), title=hostile, x=Axis(hostile, marks=[Mark(0, hostile)]))
    )
    assert not list(read(drawn).iter(f"{SVG}script"))
    assert texts(drawn).count(hostile.replace("\x00", "\ufffd").replace("\ud800", "\ufffd")) == 4
    drawn.encode()


def test_marks_are_drawn_with_their_labels() -> None:
    marked = of(STRAIGHT, x=Axis("month", marks=[Mark(1, "break-even")]))
    assert "break-even" in texts(chart.draw(marked))
    assert len(re.findall('class="mark"', chart.draw(marked))) == 1


def test_a_mark_beyond_the_lines_is_inside_the_drawing() -> None:
    drawn = chart.draw(of(STRAIGHT, y=Axis("USD", marks=[Mark(500, "budget")])))
    mark = next(line for line in read(drawn).iter(f"{SVG}line") if line.get("class") == "mark")
    assert 0 < float(mark.get("y1", "-1")) < chart.HEIGHT


def test_a_mark_can_be_told_where_its_line_begins() -> None:
    def place(first: bool) -> str | None:
        mark = Mark(1, "asked for", first=first)
        drawn = read(chart.draw(of(STRAIGHT, y=Axis("requests", marks=[mark]))))
        found = next(one for one in drawn.iter(f"{SVG}text") if one.text == "asked for")
        return found.get("text-anchor")

    assert (place(True), place(False)) == ("start", "end")


def test_lines_differ_without_colour() -> None:
    six = [Line(str(number), [(0, number), (1, number)]) for number in range(6)]
    lines = read(chart.draw(of(*six))).iter(f"{SVG}polyline")
    assert len({line.get("stroke-dasharray") for line in lines}) == 6


def test_light_and_dark_bring_their_own_background() -> None:
    drawn = chart.draw(of(STRAIGHT))
    assert 'class="paper"' in drawn
    assert "prefers-color-scheme: dark" in drawn
    assert "http" not in drawn.replace("http://www.w3.org/2000/svg", "")


@pytest.mark.parametrize(
    "wrong",
    [
        of(),
        of(Line("empty", [])),
        of(*[STRAIGHT] * 7),
        of(Line("nan", [(0, math.nan)])),
        of(Line("infinite", [(math.inf, 0)])),
        of(Line("zero", [(0, 0), (1, 1)]), y=Axis("USD", logarithmic=True)),
    ],
    ids=["no-line", "no-point", "too-many", "nan", "infinite", "zero-on-logarithmic"],
)
def test_what_cannot_be_drawn_is_refused(wrong: Chart) -> None:
    with pytest.raises(ValueError, match=r"."):
        chart.draw(wrong)


@pytest.mark.parametrize(
    ("value", "written"),
    [(0, "0"), (800, "800"), (1500, "1.5k"), (20_000, "20k"), (3e6, "3M"), (1e9, "1B")],
)
def test_numbers_of_an_axis_are_short(value: float, written: str) -> None:
    assert chart.compact(value) == written


amounts = st.floats(min_value=1e-3, max_value=1e13)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(amounts, amounts), min_size=1, max_size=8), st.booleans(), st.booleans())
def test_every_point_lies_inside_and_few_ticks_are_written(
    values: list[tuple[float, float]], x_logarithmic: bool, y_logarithmic: bool
) -> None:
    drawn = chart.draw(
        of(Line("any", values), x=Axis("x", x_logarithmic), y=Axis("y", y_logarithmic))
    )
    for x, y in points(drawn)[0]:
        assert 0 <= x <= chart.WIDTH
        assert 0 <= y <= chart.HEIGHT
    assert 4 <= len(texts(drawn)) <= 50
