"""From text to a tree: what is one, where it is not, and that writing a tree down gives it back."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ondol.api import cel
from ondol.api.cel import literals, parser
from ondol.api.cel.errors import Refused
from ondol.api.cel.nodes import Call, Comprehension, Ident, ListOf, Literal, MapOf, Node, Select, Struct
from ondol.api.cel.values import Uint

EXPECTED_OPERAND = (
    "{'[', '{', '(', '.', '-', '!', 'true', 'false', 'null', NUM_FLOAT, NUM_INT, NUM_UINT, STRING, BYTES,"
    " IDENTIFIER}"
)

REFUSED = [
    ("", 1, 1, f"Syntax error: mismatched input '<EOF>' expecting {EXPECTED_OPERAND}"),
    ("1 +", 1, 4, f"Syntax error: mismatched input '<EOF>' expecting {EXPECTED_OPERAND}"),
    ("a\n  b", 2, 3, "Syntax error: extraneous input 'b' expecting <EOF>"),
    ("f(1", 1, 4, "Syntax error: mismatched input '<EOF>' expecting ')'"),
    ("[1", 1, 3, "Syntax error: mismatched input '<EOF>' expecting ']'"),
    ("{1 2}", 1, 4, "Syntax error: mismatched input '2' expecting ':'"),
    ("a ? b", 1, 6, "Syntax error: mismatched input '<EOF>' expecting ':'"),
    ("a.1", 1, 2, "Syntax error: extraneous input '.1' expecting <EOF>"),
    ("a # b", 1, 3, "Syntax error: token recognition error at: '#'"),
    ("'abc", 1, 1, "Syntax error: token recognition error at: '''"),
    (r"'\q'", 1, 1, "Syntax error: token recognition error at: '''"),
    (r"'\ud800'", 1, 1, "invalid unicode code point"),
    ("9223372036854775808", 1, 1, "invalid int literal"),
    ("18446744073709551616u", 1, 1, "invalid uint literal"),
    ("1e999", 1, 1, "invalid double literal"),
    ("for", 1, 1, "reserved identifier: for"),
    ("has(a)", 1, 5, "invalid argument to has() macro"),
    ("a.all(1, b)", 1, 7, "argument must be a simple name"),
    ("a.map(b.c, b)", 1, 8, "argument is not an identifier"),
    ("a.all(__result__, true)", 1, 7, "iteration variable overwrites accumulator variable"),
    ("a.all(b, b, true)", 1, 10, "duplicate variable name: b"),
    ("cel.bind(1, 2, 3)", 1, 10, "cel.bind() variable names must be simple identifiers"),
]


@pytest.mark.parametrize(("source", "line", "column", "message"), REFUSED)
def test_what_is_no_expression(source: str, line: int, column: int, message: str) -> None:
    """It is refused with the place of the fault, and the line it is in below."""
    with pytest.raises(Refused) as refusal:
        parser.parse(source)
    head, shown, arrow = str(refusal.value).split("\n")
    assert head == f"ERROR: <input>:{line}:{column}: {message}"
    assert shown == f" | {source.split(chr(10))[line - 1]}"
    assert arrow == f" | {'.' * (column - 1)}^"


@pytest.mark.parametrize(
    "source",
    [
        "(" * 1000 + "1" + ")" * 1000,
        "[" * 1000 + "]" * 1000,
        "-(" * 500 + "1" + ")" * 500,
        "!(" * 500 + "true" + ")" * 500,
        "1" + " + 1" * 1000,
        "a" + ".b" * 1000,
        "a" + "[0]" * 1000,
        "true ? 1 : " * 1000 + "1",
        "[1].map(x, " * 300 + "1" + ")" * 300,
        "{1: " * 1000 + "1" + "}" * 1000,
        "a." * 50_000,
    ],
)
def test_what_is_nested_too_deeply(source: str) -> None:
    """Is refused before anything recurses."""
    with pytest.raises(Refused):
        cel.compile(source, cel.policy())


def test_what_is_too_long() -> None:
    """A hundred thousand characters are the most."""
    with pytest.raises(Refused, match="expression code point size exceeds limit: size: 100002, limit 100000"):
        parser.parse(f"'{'a' * 100_000}'")


def test_a_long_chain_of_conditions_is_not_deep() -> None:
    """`&&` and `||` make balanced trees."""
    environment = cel.policy()
    chain = " && ".join(["true"] * 5000)
    assert cel.compile(chain, environment).evaluate({}).value is True


def test_operators_bind_as_in_other_languages() -> None:
    """From the loosest: the conditional, or, and, relations, sums, products, signs, members."""
    assert parser.parse("a ? b : c ? d : e") == parser.parse("a ? b : (c ? d : e)")
    assert parser.parse("a || b && c == d + e * -f.g") == parser.parse(
        "a || (b && (c == (d + (e * (-(f.g))))))"
    )
    assert parser.parse("a - b - c") == parser.parse("(a - b) - c")
    assert parser.parse("a - b - c") != parser.parse("a - (b - c)")
    assert parser.parse("-1") == Literal(-1)


def test_macros_are_what_they_stand_for() -> None:
    """A call that only looks like a macro stays a call."""
    assert isinstance(parser.parse("a.all(x, x)"), Comprehension)
    assert isinstance(parser.parse("a.all(x)"), Call)
    assert isinstance(parser.parse("a.bind(x, 1, x)"), Call)
    assert parser.parse("has(a.b)") == Select(Ident("a"), "b", test_only=True)


# --- a tree written down is the tree -----------------------------------------------------------------------

NAMES = st.sampled_from(["a", "b", "self", "x1", "_y"])
LITERALS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.integers(0, 2**64 - 1).map(Uint),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=6).filter(lambda text: text.isprintable() or text in ("\n", "\t")),
    st.binary(max_size=4),
)


def _literal(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, Uint):
        return f"{int(value)}u"
    if isinstance(value, float):
        return repr(value) if "." in repr(value) or "e" in repr(value) else f"{value!r}.0"
    if isinstance(value, str):
        return literals.quoted(value)
    if isinstance(value, bytes):
        return "b'" + "".join(f"\\x{byte:02x}" for byte in value) + "'"
    return str(value)


def written(node: Node) -> str:
    """A tree as text, with every operator in brackets."""
    match node:
        case Literal():
            return f"({_literal(node.value)})"
        case Ident():
            return node.name
        case Select():
            text = f"{written(node.operand)}.{node.name}"
            return f"has({text})" if node.test_only else text
        case ListOf():
            marks = ("?" if place in node.optional else "" for place in range(len(node.elements)))
            return f"[{', '.join(mark + written(e) for mark, e in zip(marks, node.elements, strict=True))}]"
        case MapOf():
            entries = (f"{'?' * e.optional}{written(e.key)}: {written(e.value)}" for e in node.entries)
            return "{" + ", ".join(entries) + "}"
        case Struct():
            fields = (f"{'?' * f.optional}{f.name}: {written(f.value)}" for f in node.fields)
            return node.name + "{" + ", ".join(fields) + "}"
        case Comprehension():
            assert node.macro is not None
            return _call(node.macro)
    return _call(node.macro or node)


def _call(node: Call) -> str:
    args = [written(arg) for arg in node.args]
    if node.function == "_?_:_":
        return f"({args[0]} ? {args[1]} : {args[2]})"
    if node.function in ("_[_]", "_[?_]"):
        return f"{args[0]}[{'?' if node.function == '_[?_]' else ''}{args[1]}]"
    if node.function == "_?._":
        name = node.args[1]
        assert isinstance(name, Literal)
        return f"{args[0]}.?{name.value}"
    if node.function == "@in":
        return f"({args[0]} in {args[1]})"
    if node.function.startswith("_"):
        return f"({args[0]} {node.function.strip('_')} {args[1]})"
    if node.function in ("!_", "-_"):
        return f"({node.function[0]}({args[0]}))"
    target = f"{written(node.target)}." if node.target is not None else ""
    return f"{target}{node.function}({', '.join(args)})"


def _grown(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    binary = st.sampled_from(["+", "-", "*", "/", "%", "==", "!=", "<", "<=", ">", ">=", "&&", "||", "in"])
    macros = st.sampled_from(["all", "exists", "exists_one", "map", "filter"])
    two = st.sampled_from(["all", "exists", "transformList", "transformMap"])
    methods = st.sampled_from(["size", "startsWith", "contains", "orValue", "f"])
    return st.one_of(
        st.builds("({} {} {})".format, inner, binary, inner),
        st.builds("({} ? {} : {})".format, inner, inner, inner),
        st.builds("(!{})".format, inner),
        st.builds("(-({}))".format, inner),
        st.builds("{}.{}".format, inner, NAMES),
        st.builds("{}.?{}".format, inner, NAMES),
        st.builds("has({}.{})".format, inner, NAMES),
        st.builds("{}[{}]".format, inner, inner),
        st.builds("{}[?{}]".format, inner, inner),
        st.builds("{}.{}({})".format, inner, methods, inner),
        st.builds("f({}, {})".format, inner, inner),
        st.builds("{}.{}({}, {})".format, inner, macros, NAMES, inner),
        st.builds("{}.{}(i, j, {})".format, inner, two, inner),
        st.builds("cel.bind({}, {}, {})".format, NAMES, inner, inner),
        st.builds("{}.optMap({}, {})".format, inner, NAMES, inner),
        st.lists(inner, max_size=3).map(lambda parts: f"[{', '.join(parts)}]"),
        st.lists(st.tuples(inner, inner), max_size=2).map(
            lambda parts: "{" + ", ".join(f"{key}: {value}" for key, value in parts) + "}"
        ),
    )


EXPRESSIONS = st.recursive(st.one_of(NAMES, LITERALS.map(_literal)).map("({})".format), _grown, max_leaves=12)


@given(EXPRESSIONS)
@settings(max_examples=150)
def test_a_tree_written_down_is_the_tree(source: str) -> None:
    """Writing and reading again changes nothing."""
    node = parser.parse(source)
    assert parser.parse(written(node)) == node


@given(EXPRESSIONS)
@settings(max_examples=250)
def test_any_expression_has_an_outcome(source: str) -> None:
    """An expression of the grammar is refused or evaluated, and raises nothing else."""
    environment = cel.Environment(dict.fromkeys(("a", "b", "self", "x1", "_y"), cel.types.DYN))
    try:
        program = cel.compile(source, environment)
    except cel.Refused:
        return
    document = {"a": [1, 2, {"b": "x"}], "b": {"a": 1, "x1": None}, "self": "text", "x1": 3, "_y": 1.5}
    outcome = program.evaluate(document)
    assert outcome.cost >= 0
    assert program.estimated_cost() >= 0


@given(st.text(max_size=40))
def test_any_text_is_refused_or_parsed(source: str) -> None:
    """Whatever it is."""
    with contextlib.suppress(Refused):
        parser.parse(source)
