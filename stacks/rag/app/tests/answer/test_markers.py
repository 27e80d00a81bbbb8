"""Citation markers keep their meaning however the text is cut into pieces."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag_app.markers import MarkerFilter


def filtered(text: str, passages: int, cuts: tuple[int, ...] = ()) -> tuple[str, tuple[int, ...]]:
    markers = MarkerFilter(passages)
    borders = [0, *sorted(cut % (len(text) + 1) for cut in cuts), len(text)]
    pieces = [text[a:b] for a, b in pairwise(borders)]
    shown = "".join(markers.feed(piece) for piece in pieces) + markers.finish()
    return shown, markers.cited


@pytest.mark.parametrize(
    ("written", "shown", "cited"),
    [
        ("Do it [1].", "Do it [1].", (1,)),
        ("First [3], then [1], again [3].", "First [1], then [2], again [1].", (3, 1)),
        ("Both [2, 3].", "Both [1][2].", (2, 3)),
        ("No such [9].", "No such.", ()),
        ("Partly [9, 2].", "Partly [1].", (2,)),
        ("Zero [0].", "Zero.", ()),
        ("A list[x] and [text].", "A list[x] and [text].", ()),
        ("Broken off [1", "Broken off [1", ()),
    ],
)
def test_markers_count_the_citations_in_the_order_of_mention(
    written: str, shown: str, cited: tuple[int, ...]
) -> None:
    assert filtered(written, passages=3) == (shown, cited)


@given(
    text=st.text(alphabet="ab [],0123;\n", max_size=60),
    cuts=st.lists(st.integers(0, 60), max_size=8).map(tuple),
)
def test_the_borders_of_pieces_change_nothing(text: str, cuts: tuple[int, ...]) -> None:
    assert filtered(text, 3, cuts) == filtered(text, 3)


def test_an_open_bracket_cannot_hold_the_text_back() -> None:
    markers = MarkerFilter(3)
    assert markers.feed("[" + "1, " * 100) != ""
