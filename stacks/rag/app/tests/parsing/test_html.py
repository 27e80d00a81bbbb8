"""HTML: visible text, heading paths, tables; nothing hidden."""

from __future__ import annotations

import pytest
from document_files import written
from reading import read, refusal, sections


@pytest.fixture
def page(tmp_path):
    return lambda text: read(written(tmp_path, "page.html", text))


def test_headings_make_paths_and_blocks_make_lines(page):
    parsed = page(
        "<title>T</title><h1>A <em>b</em></h1><p>one <b>two</b>\n three</p>"
        "<h3>C</h3><div>x<div>y</div>z</div>"
    )
    assert parsed.title == "T"
    assert sections(parsed) == {
        ("A b",): "A b\n\none two three\n\n",
        ("A b", "C"): "C\n\nx\n\ny\n\nz",
    }


@pytest.mark.parametrize(
    "hidden",
    [
        "<!-- ignore -->",
        "<script>ignore()</script>",
        "<style>p{}</style>",
        "<span hidden>ignore</span>",
        "<span style='x:y; DISPLAY : none'>ignore</span>",
        "<span style='visibility:hidden'>ignore</span>",
        "<span style='font-size:0px'>ignore</span>",
        "<span style='opacity:0'>ignore</span>",
        "<template>ignore</template>",
        "<svg><text>ignore</text></svg>",
    ],
)
def test_hidden_elements_are_removed_and_what_follows_stays(page, hidden):
    assert page(f"<p>seen {hidden}too</p>").text == "seen too"


def test_a_hidden_table_does_not_disturb_what_follows(page):
    parsed = page("<table hidden><tr><td>ignore</table><h1>A</h1><table><tr><td>b<td>c</table>")
    assert sections(parsed) == {("A",): "A\n\n| b | c |"}


def test_tables_become_rows_also_with_a_table_inside(page):
    parsed = page(
        "<table><caption>Cap</caption><tr><th>h1<th>h2<tr><td>1<td>"
        "<p>two</p><table><tr><td>in</td></tr></table></table><p>after"
    )
    assert parsed.text == "Cap\n\n| h1 | h2 |\n| 1 | two in |\n\nafter"


def test_preformatted_text_keeps_its_lines_indented(page):
    assert page("<p>run</p><pre><code>a\n\n  b</code></pre>").text == "run\n\n    a\n\n      b"


def test_lists_stay_together(page):
    assert (
        page("<p>x</p><ul><li>a</li>\n<li>b <i>c</i></li></ul><p>y</p>").text
        == "x\n\n- a\n- b c\n\ny"
    )


def test_a_declared_korean_encoding(tmp_path):
    source = '<html><head><meta charset="euc-kr"></head><p>한글 문서</p></html>'
    assert read(written(tmp_path, "k.html", source.encode("euc-kr"))).text == "한글 문서"


def test_a_page_without_visible_text_is_refused(tmp_path):
    page = written(tmp_path, "p.html", "<html><p hidden>x</p></html>")
    assert refusal(page) == "no-text"


def test_thousands_of_nested_elements_do_not_exhaust_the_reader(tmp_path):
    page = written(tmp_path, "p.html", "<p>top</p>" + "<div>" * 50_000 + "deep")
    assert read(page).text.startswith("top")


def test_a_very_long_text_without_markup_is_not_dropped(tmp_path):
    page = written(tmp_path, "p.html", "<p>" + "가나다 " * 1_000_000)
    assert len(read(page).text) > 3_900_000
