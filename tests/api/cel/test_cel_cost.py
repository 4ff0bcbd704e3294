"""What evaluations cost, what they may cost at worst, and that no expression outlasts its limit."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ondol.api import cel
from ondol.api.cel import ranges
from ondol.api.cel.ranges import Range
from ondol.api.cel.types import SIZE_MAX

OBJECT: dict[str, Any] = {
    "type": "object",
    "properties": {
        "n": {"type": "integer"},
        "s": {"type": "string", "maxLength": 10},
        "t": {"type": "string"},
        "e": {"type": "string", "enum": ["one", "three"]},
        "list": {"type": "array", "maxItems": 10, "items": {"type": "integer"}},
        "names": {"type": "array", "maxItems": 5, "items": {"type": "string", "maxLength": 4}},
        "open": {"type": "array", "items": {"type": "integer"}},
        "map": {
            "type": "object",
            "maxProperties": 3,
            "additionalProperties": {"type": "string", "maxLength": 2},
        },
        "at": {"type": "string", "format": "date-time"},
    },
}
DOCUMENT: dict[str, Any] = {
    "n": 3,
    "s": "abcdefghij",
    "t": "x" * 100,
    "list": [1, 2, 3],
    "names": ["a", "b"],
    "map": {"a": "1", "b": "2"},
}

SPENT = [
    ("true", 0),
    ("self.n == 3", 3),
    ("self.n > 1 && self.n < 5", 6),
    ("self.n < 1 && self.n < 5", 3),
    ("has(self.n)", 1),
    ("self.n in [1, 2, 3]", 2),
    ("self.s == 'abcdefghij'", 3),
    ("self.t == self.t", 14),
    ("self.t.contains('xx')", 12),
    ("self.t.startsWith('xx')", 12),
    ("self.t.matches('x+')", 13),
    ("self.t + self.t != ''", 24),
    ("size(self.t) == 100", 4),
    ("3 in self.list", 5),
    ("self.list[0] == 1", 4),
    ("self.list.all(x, x > 0)", 18),
    ("self.list.exists(x, x > 1)", 18),
    ("self.list.exists_one(x, x == 1)", 12),
    ("self.list.map(x, x * 2).size() == 3", 47),
    ("self.list.filter(x, x > 1).size() == 2", 37),
    ("self.list.all(i, x, x > i)", 21),
    ("self.map.all(k, self.map[k] != '')", 15),
    ("self.list.sum() == 6", 6),
    ("self.names.join('-') == 'a-b'", 4),
    ("self.n > 1 ? self.n == 3 : self.n == 4", 6),
    ("duration('1h') > duration('1m')", 1),
    ("{'a': self.n}.a == 3", 35),
    ("[self.n, 1] == [3, 1]", 13),
    ("quantity('1Gi').isGreaterThan(quantity('1Mi'))", 3),
    ("sets.contains(self.list, [1, 2])", 9),
]

ESTIMATED = [
    ("true", 0),
    ("self.n == 3", 2),
    ("self.n > 1 && self.n < 5", 6),
    ("has(self.n)", 1),
    ("self.s == 'x'", 3),
    ("self.s == self.s", 8),
    ("self.t == self.t", 314577),
    ("self.e == 'one'", 3),
    ("self.s.matches('x+')", 7),
    ("self.s.contains('ab')", 6),
    ("self.s + self.s == self.s", 18),
    ("self.list.all(x, x > 0)", 53),
    ("self.names.all(x, x == 'a')", 28),
    ("self.names.exists(x, self.names.exists(y, x == y))", 238),
    ("self.open.all(x, x > 0)", 7864318),
    ("self.map.all(k, self.map[k] == 'x')", 27),
    ("self.list.map(x, x + 1).size() > 2", 155),
    ("self.list.filter(x, x > 1).size() > 2", 165),
    ("self.names.join().size() > 0", 12),
    ("self.list.sum() > 1", 13),
    ("self.list.sort() == self.list", 216),
    ("self.s.split('').size() > 1", 12),
    ("self.s.replace('a', 'bb').matches('^x*$')", 19),
    ("cel.bind(x, self.s, x == x)", 18),
    ("self.at > timestamp('2020-01-01T00:00:00Z')", 4),
    ("self.?s.orValue('') == 'x'", 4),
]


def program(source: str, schema: dict[str, Any] = OBJECT) -> cel.Program:
    described = cel.of_schema(schema)
    assert described is not None
    return cel.compile(source, cel.rule(described))


@pytest.mark.parametrize(("source", "cost"), SPENT)
def test_what_an_evaluation_costs(source: str, cost: int) -> None:
    """As Kubernetes counts it."""
    outcome = program(source).evaluate({"self": DOCUMENT})
    assert (outcome.value, outcome.error, outcome.cost) == (source != "self.n < 1 && self.n < 5", None, cost)


@pytest.mark.parametrize(("source", "cost"), ESTIMATED)
def test_what_a_rule_may_cost_at_worst(source: str, cost: int) -> None:
    """By the sizes the schema allows, as Kubernetes estimates it."""
    assert program(source).estimated_cost() == cost


@pytest.mark.parametrize(
    "source",
    [
        "self.list.all(a, self.list.all(b, self.list.all(c, true)))",
        "lists.range(900000).map(x, x).size() > 0",
        "lists.range(1000000000).size() > 0",
        "self.list.map(x, self.list.map(y, self.list.map(z, x))).size() > 0",
        "self.list.exists(x, self.list.exists(y, self.list.exists(z, false)))",
        "self.list.transformMap(i, x, self.list.transformMap(j, y, self.list)).size() > 0",
        "self.list.distinct().size() > 0",
        "self.list.sort().size() > 0",
        "sets.contains(self.list, self.list)",
        "self.t.matches('(a?){1000}(a?){1000}b')",
        "self.t.find('(a?){500}(a?){500}b') == 'x'",
        "self.t.replace('', self.t) == 'x'",
        "cel.bind(a, self.list + self.list, " * 40 + "a + a" + ")" * 40 + " == []",
        "".join(f"cel.bind(x{i + 1}, x{i} + x{i}, " for i in range(60)).replace("x0", "self.list")
        + "x60.size() > 0"
        + ")" * 60,
        "".join(f"cel.bind(x{i + 1}, x{i} + x{i}, " for i in range(60)).replace("x0", "self.t")
        + "x60 == 'x'"
        + ")" * 60,
        "true || " + "self.list.all(a, self.list.all(b, self.list.all(c, true)))",
    ],
)
def test_bombs_are_stopped(source: str) -> None:
    """Whatever grows ends at the limit, and soon; errors of the limit are caught by no `||`."""
    bomb = {"list": list(range(2000)), "t": "a" * 20_000}
    outcome = program(source).evaluate({"self": bomb})
    if source.startswith("true ||"):
        assert outcome.value is True
        return
    assert outcome.value in (None, False)
    if isinstance(outcome.error, cel.CostExceeded):
        assert str(outcome.error) == "operation cancelled: actual cost limit exceeded"


def test_the_limit_holds_for_every_evaluation() -> None:
    """One that may cost less is stopped earlier; the cost is told with the error."""
    rule = program("self.list.all(x, x > 0) || true")
    assert rule.evaluate({"self": DOCUMENT}).error is None
    stopped = rule.evaluate({"self": DOCUMENT}, limit=10)
    assert isinstance(stopped.error, cel.CostExceeded)
    assert 10 < stopped.cost < 30


def test_evaluations_know_nothing_of_each_other() -> None:
    """A program keeps no state: neither values nor costs."""
    rule = program("self.list.map(x, x + self.n).size() > 1")
    first = rule.evaluate({"self": DOCUMENT})
    assert rule.evaluate({"self": {"list": []}}).value is False
    assert rule.evaluate({"self": DOCUMENT}) == first


SIZES = st.one_of(st.integers(0, 100), st.sampled_from([SIZE_MAX, SIZE_MAX - 1, 2**40]))
RANGES = st.tuples(SIZES, SIZES).map(lambda pair: Range(min(pair), max(pair)))


@given(RANGES, RANGES, st.sampled_from([0.1, 0.25, 1.0, 2.0]))
def test_ranges_stay_ranges(one: Range, other: Range, factor: float) -> None:
    """Sums, products and unions have an order and 64 bits; nothing overflows."""
    for result in (one.plus(other), one.times(other), one.union(other), one.scaled(factor)):
        assert 0 <= result.least <= result.most <= SIZE_MAX
    assert ranges.UNKNOWN.plus(one).most == SIZE_MAX
