"""Chat templates: programs in Jinja that every engine runs over every conversation.

A template may only use what is named here. This is read from its syntax tree, before anything
runs. What a tree cannot show (an endless loop, memory without end) is shown by rendering a few
conversations in a process of its own (`trial.py`), under limits that the kernel keeps.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import jinja2
from jinja2 import nodes, sandbox

from aibox.bundle.weights.problem import printable
from aibox.bundle.weights.trial import EXTENSIONS

LIMIT = 256 << 10
"""Characters of a template; the longest of 80 that were looked at has 19,574."""

_SHOWN = 6


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Node types beside expressions that only compute from what they are given.
_NODES = (
    *(nodes.Template, nodes.Output, nodes.TemplateData, nodes.For, nodes.If, nodes.Assign),
    *(nodes.AssignBlock, nodes.Macro, nodes.CallBlock, nodes.FilterBlock, nodes.With),
    *(nodes.Break, nodes.Continue, nodes.Name, nodes.NSRef, nodes.Const, nodes.List),
    *(nodes.Tuple, nodes.Dict, nodes.Pair, nodes.Keyword, nodes.CondExpr, nodes.Filter),
    *(nodes.Test, nodes.Call, nodes.Getattr, nodes.Getitem, nodes.Slice, nodes.Concat),
    *(nodes.Compare, nodes.Operand, nodes.And, nodes.Or, nodes.Not, nodes.Neg, nodes.Pos),
    *(nodes.Add, nodes.Sub, nodes.Mul, nodes.Div, nodes.FloorDiv, nodes.Mod),
)

FILTERS = _words(
    "abs batch capitalize count d default dictsort e escape first float groupby indent int items "
    "join last length list lower map max min reject rejectattr replace reverse round safe select "
    "selectattr slice sort string sum title tojson trim truncate unique upper wordcount"
)
TESTS = _words(
    "boolean defined divisibleby eq equalto even false float ge greaterthan gt in integer iterable "
    "le lessthan lower lt mapping ne none number odd sameas sequence string true undefined "
    "upper == != < > <= >="
)
FUNCTIONS = _words("caller dict loop namespace raise_exception range strftime_now")
METHODS = _words(
    "capitalize count cycle endswith find get index isalnum isalpha isdigit isspace items join "
    "keys lower lstrip partition removeprefix removesuffix replace rfind rpartition rsplit rstrip "
    "split splitlines startswith strip title upper values"
)
_FORBIDDEN_NAMES = _words("self cycler joiner lipsum")
_FORBIDDEN_ATTRIBUTES = _words("mro format format_map").union(
    *(
        getattr(sandbox, f"UNSAFE_{kind}_ATTRIBUTES")
        for kind in ("FUNCTION", "METHOD", "GENERATOR", "COROUTINE", "ASYNC_GENERATOR")
    )
)
# What the arguments of a filter name, by position; such names must be written out.
_NAMED: dict[str, tuple[str, ...]] = {
    "map": ("filter",),
    "select": ("test",),
    "reject": ("test",),
    "selectattr": ("attribute", "test"),
    "rejectattr": ("attribute", "test"),
    "groupby": ("attribute",),
    "sum": ("attribute",),
    "min": ("", "attribute"),
    "max": ("", "attribute"),
    "unique": ("", "attribute"),
    "sort": ("", "", "attribute"),
}
_DUNDER = re.compile(r"__\w")


def check(text: str, try_out: Callable[[str], str]) -> list[str]:
    """What is wrong with a template; `try_out` renders it and says what went wrong, or nothing."""
    if len(text) > LIMIT:
        return [f"the chat template has {len(text)} characters; at most {LIMIT} may be"]
    try:
        tree = _environment().parse(text)
        macros = frozenset(node.name for node in _walk(tree) if isinstance(node, nodes.Macro))
        found = [problem for node in _walk(tree) if (problem := _judge(node, macros))]
    except jinja2.TemplateSyntaxError as error:
        return [f"the chat template is no Jinja: line {error.lineno}: {printable(str(error))}"]
    except RecursionError:
        return ["the chat template is nested too deeply"]
    if found:
        return sorted(set(found))[:_SHOWN]
    return [f"the chat template cannot be rendered: {what}"] if (what := try_out(text)) else []


def _environment() -> jinja2.Environment:
    return jinja2.Environment(  # noqa: S701 - parses only; nothing is rendered in this process
        trim_blocks=True, lstrip_blocks=True, extensions=EXTENSIONS
    )


def _walk(tree: nodes.Node) -> Iterator[nodes.Node]:
    left = [tree]
    while left:
        node = left.pop()
        yield node
        left.extend(node.iter_child_nodes())


def _judge(node: nodes.Node, macros: frozenset[str]) -> str:
    """Why a node is refused; empty if it is not."""
    what = "" if type(node) in _NODES else f"{type(node).__name__} may not be used"
    for kind, judge in _JUDGES:
        if not what and isinstance(node, kind):
            what = judge(node, macros)
    return f"the chat template, line {node.lineno}: {what}" if what else ""


def _judge_attribute(node: nodes.Getattr, _macros: frozenset[str]) -> str:
    return _hidden(node.attr)


def _hidden(name: str) -> str:
    hidden = name.startswith("_") or name in _FORBIDDEN_ATTRIBUTES
    return f"the attribute {printable(name)} may not be used" if hidden else ""


def _judge_item(node: nodes.Getitem, _macros: frozenset[str]) -> str:
    if isinstance(node.arg, nodes.Const) and isinstance(node.arg.value, str):
        return _hidden(node.arg.value)
    parts = list(_walk(node.arg))
    text = any(isinstance(part, nodes.Const) and isinstance(part.value, str) for part in parts)
    built = any(isinstance(part, nodes.Concat | nodes.BinExpr) for part in parts)
    return "an item may not be named by a text put together" if text and built else ""


def _judge_constant(node: nodes.Const, _macros: frozenset[str]) -> str:
    hidden = isinstance(node.value, str) and _DUNDER.search(node.value)
    return f"the text {printable(node.value, 40)} may not be used" if hidden else ""


def _judge_name(node: nodes.Name, _macros: frozenset[str]) -> str:
    hidden = node.name in _FORBIDDEN_NAMES or node.name.startswith("__")
    return f"the name {printable(node.name)} may not be used" if hidden else ""


def _judge_filter(node: nodes.Filter, _macros: frozenset[str]) -> str:
    if node.name not in FILTERS:
        return f"the filter {printable(node.name)} may not be used"
    if node.dyn_args is not None or node.dyn_kwargs is not None:
        return "a filter may not have arguments put together"
    named: list[tuple[str, nodes.Expr]] = [
        *zip(_NAMED.get(node.name, ()), node.args, strict=False),
        *((str(pair.key), pair.value) for pair in node.kwargs if pair.key == "attribute"),
    ]
    return next((what for kind, name in named if (what := _judge_named(kind, name))), "")


def _judge_named(kind: str, name: nodes.Expr) -> str:
    """A filter, a test or an attribute that a filter is told by its name."""
    if not kind:
        return ""
    if not isinstance(name, nodes.Const):
        return f"the {kind} that a filter takes must be written out"
    text = str(name.value)
    if kind == "attribute":
        return next((what for part in text.split(".") if (what := _hidden(part))), "")
    # A filter told to a filter may not itself be told one: that name could not be judged here.
    known = text in TESTS if kind == "test" else text in FILTERS and text not in _NAMED
    return "" if known else f"the {kind} {printable(text)} may not be used"


def _judge_test(node: nodes.Test, _macros: frozenset[str]) -> str:
    return "" if node.name in TESTS else f"the test {printable(node.name)} may not be used"


def _judge_call(node: nodes.Call, macros: frozenset[str]) -> str:
    if node.dyn_args is not None or node.dyn_kwargs is not None:
        return "a call may not have arguments put together"
    called = node.node
    if isinstance(called, nodes.Name):
        known = called.name in FUNCTIONS or called.name in macros
        return "" if known else f"the function {printable(called.name)} may not be called"
    if isinstance(called, nodes.Getattr):
        known = called.attr in METHODS
        return "" if known else f"the method {printable(called.attr)} may not be called"
    return "what is called must be named"


_JUDGES: tuple[tuple[type[nodes.Node], Callable[..., str]], ...] = (
    (nodes.Getattr, _judge_attribute),
    (nodes.Getitem, _judge_item),
    (nodes.Const, _judge_constant),
    (nodes.Name, _judge_name),
    (nodes.Filter, _judge_filter),
    (nodes.Test, _judge_test),
    (nodes.Call, _judge_call),
)
