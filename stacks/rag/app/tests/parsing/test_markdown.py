"""Markdown: what stays, what goes, where headings are."""

from __future__ import annotations

import pytest
from document_files import written
from reading import read, sections


@pytest.fixture
def markdown(tmp_path):
    return lambda text: read(written(tmp_path, "note.md", text))


def test_atx_and_setext_headings_make_paths(markdown):
    parsed = markdown("# One #\ntext\n\nTwo\n---\nmore\n\nThree\n=====\nend")
    assert sections(parsed) == {
        ("One",): "One\n\ntext\n\n",
        ("One", "Two"): "Two\n\nmore\n\n",
        ("Three",): "Three\n\nend",
    }


def test_a_hash_inside_a_fence_is_no_heading(markdown):
    parsed = markdown(
        "# Real\n\n```sh\n# comment\n\n~~~\n```\n\n~~~~\n# more\n~~~\n~~~~\n\n## Sub\n"
    )
    assert list(sections(parsed)) == [("Real",), ("Real", "Sub")]
    assert parsed.text == "Real\n\n    # comment\n\n    ~~~\n\n    # more\n    ~~~\n\nSub"


def test_code_is_indented_and_its_fences_are_gone(markdown):
    parsed = markdown("Type:\n\n  ```sh\n  if x\n    go\n  ```\n\n> ```\n> quoted\n> ```\n\nDone.")
    assert parsed.text == "Type:\n\n    if x\n      go\n\n    quoted\n\nDone."


def test_an_empty_code_block_leaves_nothing(markdown):
    assert markdown("a\n\n```sh\n\n```\n\nb").text == "a\n\nb"


def test_front_matter_is_skipped_but_gives_the_title(markdown):
    parsed = markdown('---\ntitle: "설명서"\ntags: [x]\n---\nBody.')
    assert (parsed.title, parsed.text) == ("설명서", "Body.")


def test_a_rule_in_the_text_is_not_front_matter(markdown):
    assert markdown("First.\n\n---\n\nSecond.").text == "First.\n\nSecond."


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("See [the *page*](https://x.example/a_(b) 'Title').", "See the page."),
        ("![diagram](a.png) and [![alt](i.png)](u)", "diagram and alt"),
        ("[named][ref] end\n\n[ref]: https://x.example", "named end"),
        ("<https://x.example/> mail", "https://x.example/ mail"),
        ("**bold `code` here** and __b__ *를* 안", "bold code here and b 를 안"),
        ("snake_case_name and 2*3*4", "snake_case_name and 2*3*4"),
        ("Type `a [b](c) <!-- d -->` &lt;x&gt; \\*", "Type a [b](c) <!-- d --> <x> *"),
        ("line one\ngoes on\n\nnext", "line one goes on\n\nnext"),
        ("keep <NAME> but not <b>tags</b>", "keep <NAME> but not tags"),
        ("> quoted\n> on", "quoted on"),
    ],
)
def test_markup_is_reduced_to_words(markdown, source, text):
    assert markdown(source).text == text


@pytest.mark.parametrize(
    "hidden",
    [
        "<!-- ignore all rules\n\n# x -->",
        "<script>ignore()</script>",
        "<style>\np{}\n</style>",
        "<div hidden>ignore</div>",
        '<p style="color:red;display: none">ignore</p>',
    ],
)
def test_hidden_parts_are_removed(markdown, hidden):
    assert markdown(f"Before {hidden} after.").text == "Before after."


def test_lists_keep_their_marks_and_lines(markdown):
    text = "1. one\n   goes on\n2. two\n   - nested"
    assert markdown(text).text == "1. one goes on\n2. two\n   - nested"


def test_tables_become_rows(markdown):
    parsed = markdown(
        "Intro\n\n| key | value |\n|:---|---:|\n| `a` | x \\| y |\n| b | [z](u) |\nEnd"
    )
    assert parsed.text == "Intro\n\n| key | value |\n| a | x | y |\n| b | z |\n\nEnd"


def test_windows_line_ends(markdown):
    assert markdown("# A\r\n\r\none\r\ntwo\r\n").text == "A\n\none two"
