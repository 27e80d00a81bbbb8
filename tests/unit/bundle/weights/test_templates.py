"""Chat templates: what real ones use passes; what reaches out, or never ends, does not."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aibox.bundle.weights import rendering, templates, trial

CHATML = """{%- for message in messages %}
{{- '<|im_start|>' + message['role'] + '\\n' + message['content'] | trim + '<|im_end|>' + '\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}"""

TOOLS = """{%- macro shown(value, depth=0) -%}
{%- if value is mapping -%}
{%- for key, item in value.items() -%}{{ key }}: {{ shown(item, depth + 1) }}{%- endfor -%}
{%- elif value is iterable and value is not string -%}
{{ value | map("string") | join(", ") }}
{%- else -%}{{ value | tojson(indent=2) | safe }}{%- endif -%}
{%- endmacro -%}
{%- set ns = namespace(found=false, last=messages[(messages | length) - 1]) -%}
{%- if tools -%}{% for tool in tools %}{{ shown(tool) }}{% endfor %}{%- endif -%}
{%- for message in messages[::-1] -%}
{%- if message.content is string and message.content.startswith('<tool_response>') -%}
{%- set ns.found = true -%}{%- break -%}
{%- endif -%}
{%- if message.role == 'user' and not ns.found -%}{%- continue -%}{%- endif -%}
{%- endfor -%}
{{ strftime_now('%d %b %Y') }}{{ bos_token ~ range(3) | list | last }}
{%- for role in messages | map(attribute='role') | unique -%}{{ role.upper() }}{%- endfor -%}
{{ messages | selectattr('role', 'equalto', 'user') | list | count }}
{%- generation -%}{{ ns.last.content }}{%- endgeneration -%}"""

STRICT = """{% if messages[0].role == 'system' %}{{ raise_exception('no system here') }}{% endif %}
{{ messages[0].content }}"""


def check(text: str, said: str = "") -> list[str]:
    return templates.check(text, lambda _: said)


@pytest.mark.parametrize("text", [CHATML, TOOLS, STRICT, "", "no Jinja at all"])
def test_what_real_templates_do_passes_and_renders(text: str) -> None:
    assert templates.check(text, rendering.try_out) == []


REFUSED = [
    ("{{ ''.__class__.__mro__ }}", "__class__"),
    ("{{ messages['__class__'] }}", "__class__"),
    ("{{ messages['_private'] }}", "_private"),
    ("{{ messages['__cla' ~ 'ss__'] }}", "__cla"),
    ("{{ messages['_' + '_class_'] }}", "put together"),
    ("{{ messages | attr('__class__') }}", "the filter attr"),
    ("{{ messages | map(attribute='__class__') | list }}", "__class__"),
    ("{{ messages | map(attribute='a._b') | list }}", "_b"),
    ("{{ messages | map(attribute=messages[0].content) | list }}", "written out"),
    ("{{ messages | map('attr', 'content') | list }}", "the filter attr"),
    ("{{ messages | map('map', 'attr', '_x') | list }}", "the filter map"),
    ("{{ messages | map(messages[0].content) | list }}", "written out"),
    ("{{ messages | selectattr('_x') | list }}", "_x"),
    ("{{ messages | selectattr('x', 'filter') | list }}", "the test filter"),
    ("{{ messages | select('callable') | list }}", "the test callable"),
    ("{{ messages | groupby('_x') }}", "_x"),
    ("{{ messages | sort(false, false, '_x') }}", "_x"),
    ("{{ messages | sum(attribute='_x') }}", "_x"),
    ("{{ messages | map(*messages) | list }}", "put together"),
    ("{{ messages | pprint }}", "the filter pprint"),
    ("{{ messages | random }}", "the filter random"),
    ("{{ messages | xmlattr }}", "the filter xmlattr"),
    ("{{ messages | format('x') }}", "the filter format"),
    ("{{ messages is callable }}", "the test callable"),
    ("{{ cycler.__init__.__globals__ }}", "the name cycler"),
    ("{{ joiner() }}", "the name joiner"),
    ("{{ lipsum.x }}", "the name lipsum"),
    ("{{ self.x }}", "the name self"),
    ("{{ __builtins__ }}", "__builtins__"),
    ("{{ open('/etc/passwd') }}", "the function open"),
    ("{{ messages.append(1) }}", "the method append"),
    ("{{ '{0.x}'.format(messages) }}", "format"),
    ("{{ '{a}'.format_map(messages) }}", "format_map"),
    ("{{ messages.mro }}", "mro"),
    ("{{ messages.gi_frame }}", "gi_frame"),
    ("{{ messages[0]() }}", "must be named"),
    ("{{ range(*messages) }}", "put together"),
    ("{{ 10 ** 10 ** 10 }}", "Pow"),
    ("{% import 'x' as y %}", "Import"),
    ("{% from 'x' import y %}", "FromImport"),
    ("{% include 'x' %}", "Include"),
    ("{% extends 'x' %}", "Extends"),
    ("{% block x %}{% endblock %}", "Block"),
    ("{% do messages.append(1) %}", "no Jinja"),
    ("{% for x in %}", "no Jinja"),
    ("{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}", "too deeply"),
    ("{% if x %}" * 2000 + "{% endif %}" * 2000, "too deeply"),
    ("x" * (templates.LIMIT + 1), "at most"),
]


@pytest.mark.parametrize(("text", "said"), REFUSED)
def test_what_reaches_out_is_refused_before_it_runs(text: str, said: str) -> None:
    def never(_text: str) -> str:
        raise AssertionError("a refused template was rendered")

    assert any(said in problem for problem in templates.check(text, never))


def test_a_problem_says_its_line() -> None:
    assert check("a\nb\n{{ open }}\n{{ open() }}") == [
        "the chat template, line 4: the function open may not be called"
    ]


def test_a_template_of_many_problems_is_told_shortly() -> None:
    assert len(check("".join(f"{{{{ f{n}() }}}}" for n in range(99)))) < 10


def test_what_went_wrong_in_rendering_is_a_problem() -> None:
    assert check("{{ x }}", "MemoryError") == ["the chat template cannot be rendered: MemoryError"]


NEVER_ENDING = [
    ("{% for i in range(10000000000) %}x{% endfor %}", "Range too big"),
    ("{{ 'a' * 100000000000 }}", "MemoryError"),
    (
        "{% set ns = namespace(x='aaaaaaaa') %}"
        "{% for i in range(99) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}",
        "MemoryError",
    ),
    ("{% macro f() %}{{ f() }}{{ f() }}{% endmacro %}{{ f() }}", "RecursionError"),
    ("{% set k = '_' ~ '_class_' ~ '_' %}{{ messages[k].x }}", "SecurityError"),
    ("{{ nothing.at.all }}", "UndefinedError"),
    ("{{ '%999999999999d' % 1 }}", "Error"),
]


@pytest.mark.parametrize(("text", "said"), NEVER_ENDING)
def test_what_only_running_shows_is_seen_in_another_process(text: str, said: str) -> None:
    [found] = templates.check(text, rendering.try_out)
    assert said in found


ENDLESS = "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}"


@pytest.mark.parametrize(
    ("limit", "value", "said"),
    [("WALL_S", 0.3, "did not end"), ("PROCESSOR_S", 1, "stopped after")],
)
def test_a_template_that_computes_for_ever_is_stopped(
    monkeypatch: pytest.MonkeyPatch, limit: str, value: float, said: str
) -> None:
    monkeypatch.setattr(rendering, limit, value)
    [found] = templates.check(ENDLESS, rendering.try_out)
    assert said in found


def test_one_conversation_that_works_is_enough() -> None:
    trial.render("{{ messages[0].content.strip() }}{{ tools[0].function.name if tools }}")
    with pytest.raises(trial.jinja2.UndefinedError):
        trial.render("{{ documents[0].text.x }}")


WORDS = """{{ }} {% %} for x in messages if endfor endif set = . [ ] ( ) | ~ + * attr map join
__class__ _a 'b' 1 range namespace loop include macro endmacro is defined not , :"""
PIECES = st.sampled_from(WORDS.split())


@settings(max_examples=300)
@given(st.lists(PIECES, max_size=25).map(" ".join) | st.text(max_size=60))
def test_no_text_breaks_the_check(text: str) -> None:
    for problem in check(text):
        assert problem.isprintable()
