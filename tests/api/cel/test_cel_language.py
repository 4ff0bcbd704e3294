"""The language itself: what expressions without any library are worth."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ondol.api import cel
from ondol.api.cel import operators
from ondol.api.cel import types as t
from ondol.api.cel.environment import Environment
from ondol.api.cel.errors import EvaluationError
from ondol.api.cel.values import Uint

MAX, MIN = 2**63 - 1, -(2**63)

TRUE = [
    # numbers
    "1 + 2 * 3 == 7",
    "(1 + 2) * 3 == 9",
    "7 / 2 == 3 && -7 / 2 == -3 && 7 / -2 == -3",
    "7 % 3 == 1 && -7 % 3 == -1 && 7 % -3 == 1",
    "0x1F == 31 && 0xffu == 255u && 1e3 == 1000.0 && .5 == 0.5",
    "-9223372036854775808 < 0",
    "--1 == 1 && !!true && -(-1) == 1",
    "1.0 / 0.0 > 1e308 && -1.0 / 0.0 < -1e308",
    "3u + 4u == 7u && 7u - 4u == 3u && 2u * 3u == 6u && 7u / 2u == 3u && 7u % 2u == 1u",
    # numbers of different types are compared by what they are worth, if their types are open
    "dyn(1) == 1.0 && dyn(1u) == 1 && dyn(2) != 2.5",
    "1 < 1.5 && 2u > 1.5 && 1 <= 1u && -1 < 0u",
    "dyn(true) != 1 && dyn('1') != 1 && dyn(null) != 0",
    # strings and bytes
    "'a' + 'b' == 'ab' && b'a' + b'b' == b'ab'",
    "'a' < 'b' && 'a' < 'aa' && b'a' < b'b' && false < true",
    r"'\x41\u00e9\U0001F600\101' == 'Aé😀A' && r'\n' == '\\n'",
    "'''a\nb''' == 'a\\nb' && \"it's\" == 'it\\'s'",
    r"b'\xff\101' == b'\377A' && b'é' == b'\xc3\xa9'",
    "size('é😀') == 2 && size(b'é') == 2 && 'abc'.size() == 3",
    "'hello'.startsWith('he') && 'hello'.endsWith('lo') && 'hello'.contains('ell')",
    "'abc123'.matches('[a-z]+[0-9]+') && matches('x', '^x$') && !'x'.matches('^y')",
    # logic: one side that decides makes up for an error of the other
    "true || 1 / 0 > 0",
    "1 / 0 > 0 || true",
    "!(false && 1 / 0 > 0)",
    "!(1 / 0 > 0 && false)",
    "true ? true : 1 / 0 > 0",
    "false ? 1 / 0 > 0 : true",
    "(true ? 'a' : 'b') == 'a'",
    # lists and maps
    "[1, 2] + [3] == [1, 2, 3] && [1, 2][1] == 2 && size([1, 2]) == 2",
    "2 in [1, 2] && !(3 in [1, 2]) && 'a' in {'a': 1} && !('b' in {'a': 1})",
    "{'a': 1, 'b': 2} == {'b': 2, 'a': 1} && {'a': 1}.a == 1 && {'a': 1}['a'] == 1",
    "{1: 'a', 2: 'b'}[2] == 'b' && {true: 1, false: 0}[true] == 1 && {1u: 'x'}[1u] == 'x'",
    "size({true: 'a', false: 'b'}) == 2 && [true, false].all(k, k in {true: 1, false: 0})",
    "has({'a': 1}.a) && !has({'a': 1}.b)",
    "[[1, 2], [3]] == [[1, 2], [3]] && [[1]] != [[2]]",
    "[] == [] && {} == {} && [null] == [null]",
    # macros
    "[1, 2, 3].all(x, x > 0) && ![1, -2].all(x, x > 0) && [].all(x, x)",
    "[1, 2].exists(x, x == 2) && ![].exists(x, x)",
    "[0, 1].exists(x, 1 / x == 1)",
    "![0, 1].all(x, 1 / x == 5)",
    "[1, 2, 2].exists_one(x, x == 1) && ![1, 2, 2].existsOne(x, x == 2)",
    "[1, 2, 3].map(x, x * 2) == [2, 4, 6] && [1, 2, 3].map(x, x > 1, x * 2) == [4, 6]",
    "[1, 2, 3].filter(x, x % 2 == 1) == [1, 3]",
    "{'a': 1, 'b': 2}.all(k, k < 'c') && {'a': 1}.map(k, k) == ['a']",
    "[1, 2].map(x, [3, 4].map(y, x * y)) == [[3, 4], [6, 8]]",
    "[1].all(x, [2].all(x, x == 2) && x == 1)",
    "[5, 6].all(i, v, v == i + 5) && {'a': 1}.exists(k, v, k == 'a' && v == 1)",
    "[5, 6].transformList(i, v, i * v) == [0, 6] && [5, 6].transformList(i, v, i > 0, v) == [6]",
    "{'a': 1, 'b': 2}.transformMap(k, v, v * 2) == {'a': 2, 'b': 4}",
    "{'a': 1, 'b': 2}.transformMap(k, v, v > 1, k + 'x') == {'b': 'bx'}",
    "{'a': 1}.transformMapEntry(k, v, {v: k}) == {1: 'a'}",
    "cel.bind(x, 2, x * x) == 4 && cel.bind(x, 1, cel.bind(x, x + 1, x)) == 2",
    # types
    "type(1) == int && type(1u) == uint && type(1.0) == double && type('') == string && type(b'') == bytes",
    (
        "type([]) == list && type({}) == map && type(null) == null_type && type(int) == type"
        " && type(true) == bool"
    ),
    "type(duration('1s')) == google.protobuf.Duration && type(timestamp(0)) == google.protobuf.Timestamp",
    # conversions
    "int('-7') == -7 && int(3.9) == 3 && int(-3.9) == -3 && int(5u) == 5 && int(timestamp(9)) == 9",
    "uint('7') == 7u && uint(7) == 7u && uint(7.9) == 7u && double('1.5') == 1.5 && double(2) == 2.0",
    "string(1) == '1' && string(1u) == '1' && string(true) == 'true' && string(b'a') == 'a'",
    "string(1.0) == '1' && string(1.5) == '1.5' && string(1e6) == '1e+06' && string(-0.0001) == '-0.0001'",
    "string(duration('90m')) == '5400s' && string(duration('-1.5s')) == '-1.5s'",
    "string(timestamp('2020-01-02T03:04:05.060+01:00')) == '2020-01-02T03:04:05.06+01:00'",
    "bytes('é') == b'é' && bool('true') && !bool('F')",
    # time
    "duration('1h') + duration('30m') == duration('90m') && duration('1h') > duration('59m')",
    "timestamp('2020-01-01T00:00:00Z') + duration('24h') == timestamp('2020-01-02T00:00:00Z')",
    "timestamp('2020-01-02T00:00:00Z') - timestamp('2020-01-01T00:00:00Z') == duration('24h')",
    "timestamp('2020-01-01T00:00:00+01:00') == timestamp('2019-12-31T23:00:00Z')",
    "timestamp('2020-02-29T13:14:15.016Z').getDate() == 29",
    "timestamp('2020-02-29T13:14:15.016Z').getMonth() == 1",
    "timestamp('2020-02-29T13:14:15.016Z').getDayOfYear() == 59",
    "timestamp('2020-02-29T13:14:15.016Z').getDayOfWeek() == 6",
    "timestamp('2020-02-29T13:14:15.016Z').getMilliseconds() == 16",
    "timestamp('2020-02-29T23:30:00Z').getHours('+01:00') == 0",
    "timestamp('2020-07-01T12:00:00Z').getHours('Europe/Berlin') == 14",
    "duration('-90m').getHours() == -1 && duration('90m').getMinutes() == 90",
    # optional values
    "{'a': 1}.?a.orValue(0) == 1 && {'a': 1}.?b.orValue(0) == 0 && !{'a': 1}.?b.hasValue()",
    "{'a': {'b': 1}}.?a.?b.value() == 1 && !{'a': {}}.?a.?b.?c.hasValue()",
    "[1, 2][?1].value() == 2 && ![1][?5].hasValue() && {'a': 1}[?'a'].value() == 1",
    "optional.of(1).or(optional.of(2)).value() == 1 && optional.none().or(optional.of(2)).value() == 2",
    "optional.ofNonZeroValue('').hasValue() == false && optional.ofNonZeroValue('x').value() == 'x'",
    "optional.of(2).optMap(x, x * 2).value() == 4 && !optional.none().optMap(x, x).hasValue()",
    "optional.of(2).optFlatMap(x, optional.of(x + 1)).value() == 3",
    "[?optional.of(1), ?optional.none()] == [1] && {?'a': optional.none(), ?'b': optional.of(2)} == {'b': 2}",
    "[1, 2].first().value() == 1 && [1, 2].last().value() == 2 && ![].first().hasValue()",
    "[optional.of(1), optional.none()].unwrapOpt() == [1]",
    # spelling
    "true // a comment\n && true",
    "{'a b': 1}.`a b` == 1 && [1, 2,] == [1, 2] && {'a': 1,} == {'a': 1}",
    "{'if': 1}.if == 1",
]

ERRORS = [
    (f"{MAX} + 1", "integer overflow"),
    (f"{MIN} - 1", "integer overflow"),
    (f"{MAX} * 2", "integer overflow"),
    (f"-({MIN})", "integer overflow"),
    (f"{MIN} / -1", "integer overflow"),
    (f"{MIN} % -1", "integer overflow"),
    ("0u - 1u", "unsigned integer overflow"),
    ("18446744073709551615u + 1u", "unsigned integer overflow"),
    ("int(1e19)", "integer overflow"),
    ("uint(-1)", "unsigned integer overflow"),
    ("1 / 0", "division by zero"),
    ("1u / 0u", "division by zero"),
    ("1 % 0", "modulus by zero"),
    ("[1][1]", "index out of bounds: 1"),
    ("[1][-1]", "index out of bounds: -1"),
    ("{'a': 1}['b']", "no such key: b"),
    ("{'a': 1}.b", "no such key: b"),
    ("dyn('a') + 1", "no such overload"),
    ("dyn(1).size()", "no such overload"),
    ("dyn(1) < 'a'", "no such overload"),
    ("dyn(1) && true", "no such overload"),
    ("dyn('a') ? 1 : 2", "no such overload"),
    ("dyn(1).all(x, x)", "no such overload"),
    ("!dyn('a')", "no such overload"),
    ("dyn('a').b", "no such overload"),
    ("int('x')", 'strconv.ParseInt: parsing "x": invalid syntax'),
    ("string(b'\\xff')", "invalid UTF-8 in bytes, cannot convert to string"),
    ("optional.none().value()", "optional.none() dereference"),
    ("timestamp('9999-12-31T23:59:59Z') + duration('1s')", "timestamp overflow"),
    ("duration('9223372036s') + duration('9223372036s')", "duration overflow"),
    ("timestamp(0).getHours('Nowhere/Else')", "unknown time zone Nowhere/Else"),
    ("'a'.matches(dyn('('))", "error parsing regexp: missing closing ): `(`"),
    ("double('NaN') < 1.0", "NaN values cannot be ordered"),
    ("[1, 2].exists_one(x, 1 / (x - 1) > 0)", "division by zero"),
    ("[0].all(x, 1 / x > 0)", "division by zero"),
    ("{1: 2}.transformMapEntry(k, v, {'a': 1}).b", "no such key: b"),
    ("{'a': 1, 'b': 1}.transformMapEntry(k, v, {v: k})", "insert failed: key 1 already exists"),
    ("{dyn(1.5): 1}", "unsupported key type: double"),
]


@pytest.mark.parametrize("source", TRUE)
def test_what_is_true(evaluate: Any, source: str) -> None:
    """Each of these holds in CEL."""
    outcome = evaluate(source)
    assert (outcome.value, outcome.error) == (True, None)


@pytest.mark.parametrize(("source", "message"), ERRORS)
def test_what_has_no_value(evaluate: Any, source: str, message: str) -> None:
    """An error has the words of cel-go, and is an outcome, never an exception."""
    outcome = evaluate(source)
    assert outcome.value is None
    assert str(outcome.error) == message


def test_variables_are_plain_documents(evaluate: Any) -> None:
    """JSON is used as it is, whatever is in it."""
    document = {"a": [1, {"b": None}], "c": 1.5, "d": True, "e": "x"}
    assert evaluate("v.a[1].b == null && v.c > 1 && v.d && v.e == 'x'", {"v": document}).value is True
    assert document == {"a": [1, {"b": None}], "c": 1.5, "d": True, "e": "x"}


INTS = st.one_of(
    st.integers(MIN, MAX), st.integers(-10, 10), st.sampled_from([MIN, MIN + 1, MAX, MAX - 1, 0, -1])
)


def _exact(operator: str, one: int, other: int) -> int | None:
    """Python's answer, rounded towards zero; None where it is out of bounds or there is none."""
    if operator in "/%" and other == 0:
        return None
    quotient = abs(one) // abs(other or 1) * (1 if (one < 0) == (other < 0) else -1)
    exact = {"+": one + other, "-": one - other, "*": one * other, "/": quotient}
    answer = exact.get(operator, one - other * quotient)
    overflows = operator == "%" and (one, other) == (MIN, -1)
    return answer if MIN <= answer <= MAX and not overflows else None


@given(INTS, INTS, st.sampled_from("+-*/%"))
def test_arithmetic_is_exact_or_an_error(one: int, other: int, operator: str) -> None:
    """Integers are Python's within 64 bits; what does not fit is an error, whether types are known or not."""
    environment = Environment({"a": t.INT})
    typed = cel.compile(f"a {operator} ({other})", environment).evaluate({"a": one})
    general = {
        "+": operators.add,
        "-": operators.subtract,
        "*": operators.multiply,
        "/": operators.divide,
        "%": operators.modulo,
    }[operator]
    expected = _exact(operator, one, other)
    assert typed.value == expected
    if expected is None:
        assert typed.error is not None
        with pytest.raises(EvaluationError):
            general(one, other)
    else:
        assert general(one, other) == expected


NUMBERS = st.one_of(INTS, st.floats(allow_nan=False), st.integers(0, 2**64 - 1).map(Uint))


@given(NUMBERS, NUMBERS)
def test_numbers_of_all_types_have_one_order(one: Any, other: Any) -> None:
    """Exactly one of less, equal and greater holds of two numbers."""
    less, more = operators.less(one, other), operators.greater(one, other)
    equal = operators.less_or_equal(one, other) and operators.greater_or_equal(one, other)
    assert [less, equal, more].count(True) == 1
    assert operators.less(other, one) is more


def test_nan_is_unequal_to_itself(evaluate: Any) -> None:
    """As in IEEE 754."""
    assert evaluate("x == x", {"x": math.nan}).value is False
    assert evaluate("double('NaN') != double('NaN')").value is True
