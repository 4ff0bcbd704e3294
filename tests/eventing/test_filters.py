"""Filters of Triggers: which events pass, which types alone can, and what is wrong with a filter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ondol.eventing import filters
from ondol.eventing.cloudevents.event import Event, new

Filters = Sequence[Mapping[str, Any]]
EVENT = new(
    id="1",
    source="https://example.com/orders",
    type="com.example.order.created",
    datacontenttype="application/JSON; charset=utf-8",
    dataschema="https://example.com/schema",
    myext="custom",
)
PASSES: list[tuple[Filters, bool]] = [
    ([{"exact": {"type": "com.example.order.created"}}], True),
    ([{"exact": {"type": "com.example.order"}}], False),
    ([{"exact": {"type": "com.example.order.created", "myext": "custom"}}], True),
    ([{"exact": {"type": "com.example.order.created", "myext": "other"}}], False),
    ([{"exact": {"missing": "x"}}], False),
    ([{"exact": {"subject": "x"}}], False),
    ([{"exact": {"missing": ""}}], False),
    ([{"exact": {"myext": ""}}], False),
    ([{"exact": {"specversion": "1.0"}}], True),
    ([{"exact": {"schemaurl": "https://example.com/schema"}}], True),
    ([{"exact": {"datamediatype": "application/json"}}], True),
    ([{"exact": {"datacontenttype": "application/json"}}], False),
    ([{"prefix": {"type": "com.example."}}], True),
    ([{"prefix": {"type": "com.other."}}], False),
    ([{"prefix": {"missing": "x"}}], False),
    ([{"suffix": {"type": ".created", "source": "orders"}}], True),
    ([{"suffix": {"type": ".created", "source": "x"}}], False),
    ([{"all": [{"prefix": {"type": "com"}}, {"suffix": {"type": "created"}}]}], True),
    ([{"all": [{"prefix": {"type": "com"}}, {"suffix": {"type": "x"}}]}], False),
    ([{"any": [{"prefix": {"type": "x"}}, {"suffix": {"type": "created"}}]}], True),
    ([{"any": [{"prefix": {"type": "x"}}, {"suffix": {"type": "x"}}]}], False),
    ([{"any": [{"prefix": {"type": "x"}}]}], False),
    ([{"not": {"prefix": {"type": "x"}}}], True),
    ([{"not": {"prefix": {"type": "com"}}}], False),
    ([{"not": {"not": {"prefix": {"type": "com"}}}}], True),
    ([{"not": {"exact": {"missing": "x"}}}], True),
    ([{"cesql": "myext = 'custom' AND NOT EXISTS missing"}], True),
    ([{"cesql": "missing = 'custom'"}], False),
    ([{"cesql": "myext"}], False),
    ([{"cesql": "1"}], False),
    ([{"cesql": "1 / 0 = 0 OR TRUE"}], False),
    ([{"not": {"cesql": "missing = 'x'"}}], True),
    ([{"prefix": {"type": "com"}}, {"suffix": {"type": "created"}}], True),
    ([{"prefix": {"type": "com"}}, {"suffix": {"type": "x"}}], False),
    ([], True),
    ([{}], True),
    ([{}, {"exact": {"type": "x"}}], False),
    ([{"exact": {}}], True),
    ([{"all": []}], True),
    ([{"any": [{}, {"exact": {"type": "x"}}]}], False),
    ([{"not": {}}], True),
    ([{"not": {"all": [{}]}}], True),
    ([{"cesql": "this is no expression"}], False),
    ([{"exact": {"type": "x"}, "cesql": "TRUE"}], False),
]


@pytest.mark.parametrize(("dialects", "passes"), PASSES)
def test_which_events_pass(dialects: Filters, passes: bool) -> None:
    """As in Knative; an expression that is none lets nothing pass."""
    assert filters.predicate(dialects)(EVENT) is passes


@pytest.mark.parametrize(
    ("attributes", "passes"),
    [
        ({}, True),
        (None, True),
        ({"type": "com.example.order.created"}, True),
        ({"type": "com.example"}, False),
        ({"type": "", "myext": "custom"}, True),
        ({"myext": ""}, True),
        ({"missing": ""}, False),
        ({"subject": ""}, False),
        ({"time": ""}, False),
        ({"missing": "x"}, False),
    ],
)
def test_the_older_form(attributes: Mapping[str, str] | None, passes: bool) -> None:
    """Each attribute is as it says; an empty value means any, but there must be one."""
    assert filters.predicate(None, attributes)(EVENT) is passes


def test_filters_hide_the_older_form() -> None:
    """It counts only where there are no filters."""
    older = {"type": "x"}
    assert filters.predicate([{"prefix": {"type": "com"}}], older)(EVENT)
    assert not filters.predicate([], older)(EVENT)


ANY = None
TYPES: list[tuple[Filters, set[str] | None]] = [
    ([], ANY),
    ([{"exact": {"type": "a"}}], {"a"}),
    ([{"exact": {"type": "a", "source": "s"}}, {"prefix": {"source": "s"}}], {"a"}),
    ([{"exact": {"source": "s"}}], ANY),
    ([{"exact": {"type": ""}}], ANY),
    ([{"prefix": {"type": "a"}}], ANY),
    ([{"any": [{"exact": {"type": "a"}}, {"exact": {"type": "b"}}]}], {"a", "b"}),
    ([{"any": [{"exact": {"type": "a"}}, {"prefix": {"source": "s"}}]}], ANY),
    ([{"any": [{"exact": {"type": "a"}}, {}]}], {"a"}),
    ([{"any": [{}]}], ANY),
    ([{"all": [{"exact": {"type": "a"}}, {"suffix": {"source": "s"}}]}], {"a"}),
    ([{"all": [{"exact": {"type": "a"}}, {"exact": {"type": "b"}}]}], set()),
    ([{"exact": {"type": "a"}}, {"any": [{"exact": {"type": "a"}}, {"exact": {"type": "b"}}]}], {"a"}),
    ([{"not": {"exact": {"type": "a"}}}], ANY),
    ([{"cesql": "type = 'a'"}], ANY),
]


@pytest.mark.parametrize(("dialects", "types"), TYPES)
def test_the_types_that_alone_can_pass(dialects: Filters, types: set[str] | None) -> None:
    """Read from exact filters, through all and any; None where any type may pass."""
    assert filters.exact_type(dialects) == (None if types is None else frozenset(types))


def test_the_type_of_the_older_form() -> None:
    """It is one, unless any will do."""
    assert filters.exact_type(None, {"type": "a"}) == frozenset({"a"})
    assert filters.exact_type(None, {"type": ""}) is None
    assert filters.exact_type([{"prefix": {"source": "s"}}], {"type": "a"}) is None


ATTRIBUTES = st.dictionaries(
    st.sampled_from(["type", "source", "ext"]), st.sampled_from(["a", "b"]), max_size=2
)
DIALECTS = st.recursive(
    st.one_of(
        st.just({}),
        st.builds(
            lambda name, pairs: {name: pairs}, st.sampled_from(["exact", "prefix", "suffix"]), ATTRIBUTES
        ),
        st.sampled_from(["type = 'a'", "ext = 'b'", "no expression"]).map(lambda text: {"cesql": text}),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(lambda parts: {"all": parts}),
        st.lists(inner, max_size=3).map(lambda parts: {"any": parts}),
        inner.map(lambda part: {"not": part}),
    ),
    max_leaves=6,
)
EVENTS = st.builds(
    lambda kind, extensions: Event({**new(id="1", source="a", type=kind).attributes, **extensions}),
    st.sampled_from(["a", "b", "c"]),
    st.dictionaries(st.just("ext"), st.sampled_from(["a", "b"])),
)


@given(st.lists(DIALECTS, max_size=3), EVENTS)
def test_no_event_passes_whose_type_cannot(dialects: Filters, event: Event) -> None:
    """What the journal is asked for is never too little."""
    types = filters.exact_type(dialects)
    if filters.predicate(dialects)(event):
        assert types is None or event.type in types


PROBLEMS: list[tuple[Filters, list[tuple[str, str]]]] = [
    ([{"exact": {"type": "a"}}, {"cesql": "type = 'a'"}, {}, {"not": {"any": [{"prefix": {"a": "b"}}]}}], []),
    (
        [{"exact": {"Type": "a", "my-ext": "b", "1x": "c"}}],
        [
            ("spec.filters[0].exact[1x]", 'invalid key name "1x": Attribute name must start with a letter'),
            (
                "spec.filters[0].exact[Type]",
                'invalid key name "Type": Attribute name must start with a letter',
            ),
            ("spec.filters[0].exact[my-ext]", 'invalid key name "my-ext": '),
        ],
    ),
    ([{"suffix": {"type": ""}}], [("spec.filters[0].suffix[type]", "attribute and value can't be empty")]),
    (
        [{}, {"exact": {"type": "a"}, "cesql": "TRUE"}],
        [("spec.filters[1]", "multiple dialects found, filters can have only one dialect set")],
    ),
    ([{"not": {}, "cesql": "TRUE"}], [("spec.filters[0]", "multiple dialects found")]),
    (
        [{"all": [{"any": [{"not": {"prefix": {"A": "x"}}}]}]}],
        [("spec.filters[0].all[0].any[0].not.prefix[A]", 'invalid key name "A"')],
    ),
    (
        [{"cesql": "type LIKE 5"}],
        [
            (
                "spec.filters[0].cesql",
                "invalid value: type LIKE 5: LIKE takes a pattern in quotes: unexpected '5'",
            )
        ],
    ),
    ([{"cesql": "type LIKE 5"}], [("spec.filters[0].cesql", "at character 11")]),
    (
        [{"cesql": "1 + LOWER(NOSUCH(type), 2) = 3 AND (TRUE OR EXISTS x)"}],
        [
            ("spec.filters[0].cesql", "there is no function LOWER of 2 arguments"),
            ("spec.filters[0].cesql", "there is no function NOSUCH of 1 arguments"),
        ],
    ),
]


@pytest.mark.parametrize(("dialects", "causes"), PROBLEMS)
def test_what_is_wrong_with_filters(dialects: Filters, causes: list[tuple[str, str]]) -> None:
    """Each mistake with its place and Knative's words."""
    actual = filters.problems(dialects, "spec.filters")
    assert [cause.field for cause in actual] == [field for field, _ in causes]
    for cause, (_, message) in zip(actual, causes, strict=True):
        assert message in cause.message


SHAPES: list[tuple[Any, str, str]] = [
    ({"exact": {"type": 5}}, "spec.filters[0].exact[type]", "Invalid value: 5: must be a string"),
    ({"exact": "type"}, "spec.filters[0].exact", 'Invalid value: "type": must be an object'),
    ({"not": [{"exact": {}}]}, "spec.filters[0].not", "must be an object"),
    ({"all": {"exact": {}}}, "spec.filters[0].all", "must be an array"),
    ({"any": ["x"]}, "spec.filters[0].any[0]", 'Invalid value: "x": must be an object'),
    ({"cesql": 5}, "spec.filters[0].cesql", "Invalid value: 5: must be a string"),
    ({"not": {"exactly": {"type": "a"}}}, "spec.filters[0].not.exactly", "no dialect of this name"),
]


@pytest.mark.parametrize(("dialect", "field", "message"), SHAPES)
def test_filters_of_a_wrong_shape(dialect: Any, field: str, message: str) -> None:
    """Schemas leave nested filters open: they are looked at here, and pass nothing if they are stored."""
    [cause] = filters.problems([dialect], "spec.filters")
    assert (cause.field, message in cause.message) == (field, True)
    assert isinstance(filters.predicate([dialect])(EVENT), bool)
    filters.exact_type([dialect])


def test_filters_have_a_greatest_depth() -> None:
    """They are refused before they could exhaust the stack."""
    dialect: dict[str, Any] = {"exact": {"type": "a"}}
    for _ in range(40):
        dialect = {"not": dialect}
    [cause] = filters.problems([dialect], "spec.filters")
    assert cause.message == "filters are nested deeper than 32"


def test_what_is_wrong_with_the_older_form() -> None:
    """Names only: an empty value means any."""
    [cause] = filters.attribute_problems({"Type": "x", "source": ""}, "spec.filter.attributes")
    assert (cause.field, cause.reason) == ("spec.filter.attributes[Type]", "FieldValueInvalid")
