"""What is an expression of CESQL and what is not, in which order it is read, and what bounds it has."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ondol.eventing import cesql
from ondol.eventing.cesql import parser, syntax
from ondol.eventing.cesql.syntax import (
    Arithmetic,
    Attribute,
    Call,
    Comparison,
    Exists,
    In,
    Like,
    Literal,
    Logic,
    Negative,
    Node,
    Not,
)

EVENT = {"specversion": "1.0", "id": "i", "source": "/s", "type": "t"}

NO_EXPRESSIONS = [
    ("", "unexpected end", 0),
    ("   ", "unexpected end", 3),
    ("ABC(", "unexpected end", 4),
    ("type =", "unexpected end", 6),
    ("type = 'a", "string without its closing '", 7),
    ('type = "a', 'string without its closing "', 7),
    ("type == 'a'", "unexpected '='", 6),
    ("type ! 'a'", "unexpected character '!'", 5),
    ("type = 'a' 'b'", "unexpected 'b'", 11),
    ("type NOT = 'a'", "LIKE or IN must follow NOT here", 9),
    ("x LIKE 123", "LIKE takes a pattern in quotes", 7),
    ("x LIKE y", "LIKE takes a pattern in quotes", 7),
    ("x IN ()", "unexpected ')'", 6),
    ("x IN 'a'", "'(' is missing", 5),
    ("x IN ('a'", "')' is missing", 9),
    ("(x", "')' is missing", 2),
    ("x)", "unexpected ')'", 1),
    ("EXISTS 'x'", "EXISTS takes the name of an attribute", 7),
    ("EXISTS", "EXISTS takes the name of an attribute", 6),
    ("my_ext = 1", "function my_ext needs its arguments in brackets", 7),
    ("a1_b = 1", "is the name of neither an attribute nor a function", 0),
    ("2147483648", "integer is not between", 0),
    ("-2147483649", "integer is not between", 0),
    ("9" * 5000, "integer is not between", 0),
    ("- 2147483648", "integer is not between", 2),
    ("+x", "digits must follow the sign", 1),
    ("AND", "unexpected 'AND'", 0),
    ("a AND", "unexpected end", 5),
    ("NOT", "unexpected end", 3),
    ("type.x = 1", "unexpected character '.'", 4),
    ("소스 = 1", "unexpected character '소'", 0),
]


@pytest.mark.parametrize(("text", "message", "position"), NO_EXPRESSIONS)
def test_a_text_that_is_no_expression(text: str, message: str, position: int) -> None:
    """It is refused with the reason and the place."""
    with pytest.raises(cesql.ParseError, match="at character") as raised:
        cesql.parse(text)
    assert message in str(raised.value)
    assert raised.value.position == position


READINGS = [
    ("1 + 2 * 3", "1 + (2 * 3)"),
    ("1 - 2 - 3", "(1 - 2) - 3"),
    ("8 / 4 / 2", "(8 / 4) / 2"),
    ("1 + 2 = 3", "(1 + 2) = 3"),
    ("a = b AND c = d", "(a = b) AND (c = d)"),
    ("TRUE OR TRUE AND FALSE", "TRUE OR (TRUE AND FALSE)"),
    ("FALSE AND FALSE OR TRUE", "FALSE AND (FALSE OR TRUE)"),
    ("TRUE XOR TRUE XOR TRUE AND FALSE", "TRUE XOR (TRUE XOR (TRUE AND FALSE))"),
    ("NOT a = b", "(NOT a) = b"),
    ("NOT EXISTS a", "NOT (EXISTS a)"),
    ("NOT 'true' LIKE 'f%'", "(NOT 'true') LIKE 'f%'"),
    ("a LIKE 'x' = TRUE", "(a LIKE 'x') = TRUE"),
    ("1 + 2 IN (2)", "1 + (2 IN (2))"),
    ("- 2 * 3", "(- 2) * 3"),
    ("4-1", "4 - 1"),
    ("a <> b", "a != b"),
    ("int(a) < Length(b)", "INT(a) < LENGTH(b)"),
    ("TYPE = id", "type = id"),
]


@pytest.mark.parametrize(("text", "reading"), READINGS)
def test_the_order_in_which_operators_are_read(text: str, reading: str) -> None:
    """Operators bind as the reference grammar has it: AND, OR and XOR alike, and from the right."""
    attributes = EVENT | {"a": "true", "b": "true", "c": "1", "d": "1"}
    assert cesql.parse(text).evaluate(attributes) == cesql.parse(reading).evaluate(attributes)
    if not any(word in text for word in ("AND", "OR")):  # a chain and one in brackets are two trees
        assert cesql.parse(text).tree == cesql.parse(reading).tree


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("2147483647 + 1", "math"),
        ("-2147483648 - 1", "math"),
        ("65536 * 65536", "math"),
        ("-(-2147483648)", "math"),
        ("-2147483648 / -1", "math"),
        ("'2147483648' + 0", "cast"),
        ("'\uff11' + 0", "cast"),
        ("1 IN ('x', '1')", "cast"),
        ("NOSUCH(1)", "missingFunction"),
        ("LENGTH('a', 'b')", "missingFunction"),
        ("LENGTH(missing)", "missingAttribute"),
        ("SUBSTRING('abc', 1, -1)", "functionEvaluation"),
    ],
)
def test_an_error_comes_with_the_zero_value(text: str, kind: str) -> None:
    """Whatever goes wrong, there is a value of the operator's type, and what went wrong."""
    outcome = cesql.parse(text).evaluate(EVENT)
    assert outcome.value in {0, ""}
    assert [error.kind.value for error in outcome.errors] == [kind]


def test_a_value_in_spite_of_an_error_is_the_function_s_own() -> None:
    """What LEFT answers for a negative length is not what a function around it answers."""
    assert cesql.parse("LEFT('abc', -1)").evaluate(EVENT).value == "abc"
    assert cesql.parse("LOWER(LEFT('abc', -1))").evaluate(EVENT).value == ""


def test_a_filter_holds_only_if_it_is_true() -> None:
    """A text, a number and an error are no yes."""
    assert cesql.parse("type = 't'").holds(EVENT)
    assert not cesql.parse("1").holds(EVENT)
    assert not cesql.parse("'true'").holds(EVENT)
    assert not cesql.parse("missing = 1 OR TRUE").holds(EVENT)


@pytest.mark.parametrize(
    "text",
    [
        "(" * 5000 + "1" + ")" * 5000,
        "NOT " * 5000 + "TRUE",
        "-" * 5000 + "x",
        "1" + "+1" * 5000,
        "(" * 90 + "1" + ("+1" * 90 + ")") * 90,
        "x" + " LIKE 'a'" * 5000,
        "LOWER(" * 3000 + "x" + ")" * 3000,
        "1 IN (" * 3000 + "1" + ")" * 3000,
    ],
    ids=["brackets", "not", "minus", "sum", "sums in brackets", "like", "calls", "sets"],
)
def test_a_deep_expression_is_refused(text: str) -> None:
    """No expression can exhaust the stack, neither when it is read nor later."""
    with pytest.raises(cesql.ParseError, match="nested deeper"):
        cesql.parse(text)


def test_a_long_expression_is_refused() -> None:
    """An expression has a greatest length."""
    with pytest.raises(cesql.ParseError, match="longer than 65536 characters"):
        cesql.parse("x" * (parser.LENGTH_MAX + 1))


def test_many_alternatives_are_no_deep_expression() -> None:
    """A thousand types joined by OR are read and evaluated."""
    text = " OR ".join(f"type = 't{number}'" for number in range(1000))
    assert cesql.parse(text).holds(EVENT | {"type": "t999"})
    assert not cesql.parse(text).holds(EVENT | {"type": "other"})


def test_a_short_expression_cannot_be_made_to_take_all_memory() -> None:
    """Strings that are joined again and again end at a bound; nothing passes then."""
    text = "x"
    for _ in range(5):
        text = f"CONCAT({', '.join([text] * 5)})"
    joined = cesql.parse(f"{text} != ''")
    assert joined.holds(EVENT | {"x": "a"})
    assert not joined.holds(EVENT | {"x": "a" * 1000})


def test_a_pattern_cannot_be_made_to_take_long() -> None:
    """Many wildcards over a long text are matched without going back and forth."""
    pattern = "%a" * 200 + "%b"
    assert not cesql.parse(f"x LIKE '{pattern}'").holds(EVENT | {"x": "a" * 20_000})
    assert cesql.parse(f"x LIKE '{pattern}'").holds(EVENT | {"x": "a" * 20_000 + "b"})


@pytest.mark.parametrize(
    ("text", "pattern", "matches"),
    [
        ("aa", "a%a", True),
        ("a", "a%a", False),
        ("ab", "a%%b", True),
        ("", "%", True),
        ("", "", True),
        ("x", "", False),
        ("a\nb", "a_b", True),
        ("a\nb", "a%", True),
        ("a.c", "a.c", True),
        ("abc", "a.c", False),
        ("소스", "__", True),
        ("a\\b", "a\\b", True),
        ("xxab", "%ab", True),
        ("abab", "ab%ab", True),
        ("aba", "ab%ba", False),
    ],
)
def test_patterns(text: str, pattern: str, matches: bool) -> None:
    """A pattern is for the whole text, and a piece of it never counts twice."""
    assert cesql.parse(f"x LIKE '{pattern}'").holds(EVENT | {"x": text}) is matches


NAMES = st.from_regex(r"[a-z][a-z0-9]{0,5}", fullmatch=True).filter(
    lambda name: name.upper() not in {"AND", "OR", "XOR", "NOT", "LIKE", "EXISTS", "IN", "TRUE", "FALSE"}
)
TEXTS = st.lists(
    st.one_of(st.text(st.characters(exclude_characters="\\"), max_size=5), st.just("\\\\"), st.just("\\%"))
).map("".join)
LITERALS = st.one_of(st.booleans(), st.integers(-(2**31), 2**31 - 1), TEXTS).map(Literal)
LEAVES: st.SearchStrategy[Node] = st.one_of(LITERALS, NAMES.map(Attribute), NAMES.map(Exists))


def _chain(operands: list[Node], words: list[str]) -> Node:
    operators = (words * len(operands))[: len(operands) - 1]
    return Logic(tuple(operators), tuple(operands))


def _grown(nodes: st.SearchStrategy[Node]) -> st.SearchStrategy[Node]:
    some = st.lists(nodes, min_size=1, max_size=3)
    words = st.lists(st.sampled_from(["AND", "OR", "XOR"]), min_size=1, max_size=3)
    return st.one_of(
        nodes.map(Not),
        nodes.map(Negative),
        st.builds(Comparison, st.sampled_from(["=", "!=", "<", "<=", ">", ">="]), nodes, nodes),
        st.builds(Arithmetic, st.sampled_from(list("+-*/%")), nodes, nodes),
        st.builds(_chain, st.lists(nodes, min_size=2, max_size=4), words),
        st.builds(Like, nodes, TEXTS, st.booleans()),
        st.builds(In, nodes, some.map(tuple), st.booleans()),
        st.builds(Call, st.sampled_from(["LENGTH", "CONCAT_WS", "NOSUCH"]), some.map(tuple)),
    )


TREES = st.recursive(LEAVES, _grown, max_leaves=20)


@given(TREES)
def test_an_expression_that_is_written_down_is_read_as_the_same(tree: Node) -> None:
    """parse(spelled(tree)) is the tree."""
    assert cesql.parse(syntax.spelled(tree)).tree == tree


@given(TREES)
def test_every_expression_has_a_value(tree: Node) -> None:
    """Evaluation is total: it always answers a value of the language, within its bounds."""
    outcome = cesql.parse(syntax.spelled(tree)).evaluate(EVENT | {"a": "x", "b": "7", "c": "true"})
    assert isinstance(outcome.value, str) or -(2**31) <= outcome.value < 2**31


@given(st.text(max_size=40))
def test_any_text_is_read_or_refused(text: str) -> None:
    """Reading ends in an expression or in `ParseError`, nothing else."""
    with contextlib.suppress(cesql.ParseError):
        cesql.parse(text).evaluate(EVENT)


def test_thousands_of_zeros_before_a_number_are_no_fault() -> None:
    """In an expression and in what a sender says: neither may end the delivery of others' events."""
    zeros = "0" * 5000
    assert cesql.parse(f"{zeros}7 = 7").holds({})
    assert cesql.parse("INT(a) = -7").holds({"a": f"-{zeros}7"})
