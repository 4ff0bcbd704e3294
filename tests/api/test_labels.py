"""Label selectors: grammar, matching, messages, and the two spellings of one meaning."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ondol.api import labels
from ondol.base import errors

_KEYS = st.sampled_from(["a", "b", "app.kubernetes.io/name", "x-y"])
_VALUES = st.sampled_from(["", "1", "2", "blue", "v1.2"])
_LABELS = st.dictionaries(_KEYS, _VALUES, max_size=4)


@pytest.mark.parametrize(
    ("text", "carried", "matches"),
    [
        ("", {}, True),
        ("a=1", {"a": "1"}, True),
        ("a==1", {"a": "1", "b": "2"}, True),
        ("a=1", {"a": "2"}, False),
        ("a=1", {}, False),
        ("a=", {"a": ""}, True),
        ("a!=1", {}, True),
        ("a!=1", {"a": "1"}, False),
        ("a in (1,2)", {"a": "2"}, True),
        ("a in (1,2)", {}, False),
        ("a in (,2)", {"a": ""}, True),
        ("a in ()", {"a": ""}, True),
        ("a notin (1,2)", {"a": "3"}, True),
        ("a notin (1,2)", {}, True),
        ("a notin (1)", {"a": "1"}, False),
        ("a", {"a": ""}, True),
        ("a", {"b": ""}, False),
        ("!a", {"b": ""}, True),
        ("! a", {"a": ""}, False),
        ("a>5", {"a": "6"}, True),
        ("a>5", {"a": "5"}, False),
        ("a<5", {"a": "four"}, False),
        ("a < 5", {"a": "-4"}, True),
        ("a=1, b in (x, y) ,!c", {"a": "1", "b": "y"}, True),
        ("a=1,b=2", {"a": "1"}, False),
        ("in in (notin)", {"in": "notin"}, True),
    ],
)
def test_a_selector_matches_as_kubernetes_does(text: str, carried: dict[str, str], matches: bool) -> None:
    """Each operator decides on present, absent and empty values as apimachinery does."""
    assert labels.parse(text).matches(carried) is matches


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a=1,", "found '', expected: identifier after ','"),
        (",a", "found ',', expected: !, identifier, or 'end of string'"),
        ("a b", "unable to parse requirement: found 'b', expected: in, notin, =, ==, !=, gt, lt"),
        ("a in 1", "unable to parse requirement: found '1' expected: '('"),
        ("a in (1", "unable to parse requirement: found '', expected: ',' or ')'"),
        ("a in (1 2)", "unable to parse requirement: found '2', expected: ',' or ')'"),
        ("a=(", "unable to parse requirement: found '(', expected: identifier"),
        ("!", "unable to parse requirement: found '', expected: identifier"),
        ("!a=1", "found '=', expected: ',' or 'end of string'"),
        ("a>x", "unable to parse requirement: values[0]: Invalid value: \"x\": for 'Gt', 'Lt' operators"),
        ("a=b@c", 'unable to parse requirement: values[0][a]: Invalid value: "b@c": a valid label must be'),
        ("-a=1", 'unable to parse requirement: <nil>: Invalid value: "-a": name part must consist of'),
        ("a/b/c", 'unable to parse requirement: <nil>: Invalid value: "a/b/c": a qualified name must'),
        ("/b", 'unable to parse requirement: <nil>: Invalid value: "/b": prefix part must be non-empty'),
        ("A_/b", 'unable to parse requirement: <nil>: Invalid value: "A_/b": prefix part a lowercase RFC'),
        ("a" * 64, "name part must be no more than 63 bytes"),
        ("a=" + "b" * 64, "must be no more than 63 bytes"),
    ],
)
def test_an_unreadable_selector_is_a_bad_request(text: str, message: str) -> None:
    """The message says what was found and what was expected."""
    with pytest.raises(errors.BadRequest) as caught:
        labels.parse(text)
    assert message in caught.value.message


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("b=2,a=1", "a=1,b=2"),
        ("x in (z,y,z)", "x in (y,z)"),
        ("x notin ()", "x notin ()"),
        ("!x , y", "!x,y"),
        ("a > 1,b<2", "a>1,b<2"),
        ("a==1,c!=2", "a==1,c!=2"),
    ],
)
def test_text_of_a_selector_is_sorted_by_key(text: str, canonical: str) -> None:
    """A selector prints in the form a server stores, as in `status.selector` of a scale."""
    assert str(labels.parse(text)) == canonical


def test_a_document_selects_with_labels_and_expressions() -> None:
    """`matchLabels` and `matchExpressions` must all hold."""
    selector = labels.from_document(
        {
            "matchLabels": {"app": "web"},
            "matchExpressions": [
                {"key": "tier", "operator": "In", "values": ["front", "edge"]},
                {"key": "canary", "operator": "DoesNotExist"},
                {"key": "zone", "operator": "NotIn", "values": ["z1"]},
                {"key": "app", "operator": "Exists"},
            ],
        }
    )
    assert selector.matches({"app": "web", "tier": "edge"})
    assert not selector.matches({"app": "web", "tier": "edge", "canary": ""})
    assert not selector.matches({"app": "web", "tier": "edge", "zone": "z1"})
    assert str(selector) == "app=web,app,!canary,tier in (edge,front),zone notin (z1)"


def test_no_document_selects_nothing_and_an_empty_one_everything() -> None:
    """A missing selector must never select every pod of a namespace."""
    assert not labels.from_document(None).matches({"a": "1"})
    assert not labels.from_document(None).matches({})
    assert labels.from_document({}).is_everything
    assert labels.from_document({}).matches({})


@pytest.mark.parametrize(
    "expression",
    [
        {"key": "a", "operator": "Is"},
        {"key": "a", "operator": "In"},
        {"key": "a", "operator": "Exists", "values": ["1"]},
        {"key": "", "operator": "Exists"},
    ],
)
def test_a_document_with_a_wrong_expression_is_refused(expression: dict[str, object]) -> None:
    """Unknown operators, missing values and superfluous values are errors."""
    with pytest.raises(errors.BadRequest):
        labels.from_document({"matchExpressions": [expression]})


def test_a_pinned_value_is_known_without_matching() -> None:
    """An index can be asked for the one value a selector allows."""
    selector = labels.parse("a=1,b in (2),c in (3,4),d")
    assert [selector.required_value(key) for key in "abcd"] == ["1", "2", None, None]


@given(_LABELS, _LABELS)
def test_a_map_selects_exactly_its_supersets(selected: dict[str, str], carried: dict[str, str]) -> None:
    """`from_map` means: every wanted label is there with that value."""
    assert labels.from_map(selected).matches(carried) is (selected.items() <= carried.items())


@given(st.lists(st.tuples(_KEYS, st.sampled_from(["=", "!=", "in", "notin"]), _VALUES), max_size=4), _LABELS)
def test_printing_and_parsing_keep_the_meaning(
    terms: list[tuple[str, str, str]], carried: dict[str, str]
) -> None:
    """The text of a selector parses to an equal selector."""
    text = ",".join(f"{k} {o} ({v})" if o in ("in", "notin") else f"{k}{o}{v}" for k, o, v in terms)
    selector = labels.parse(text)
    assert labels.parse(str(selector)) == selector
    assert labels.parse(str(selector)).matches(carried) is selector.matches(carried)


@pytest.mark.parametrize(("operator", "inside"), [("in", True), ("notin", False)])
def test_one_of_many_values_is_looked_up(operator: str, inside: bool) -> None:
    """A term may name thousands of values, the first, the last and those between."""
    values = [f"v{number}" for number in range(3000)]
    selector = labels.parse(f"a {operator} ({','.join(values)})")
    assert all(selector.matches({"a": value}) is inside for value in ("v0", "v1500", "v999"))
    assert all(selector.matches({"a": value}) is not inside for value in ("", "v3000", "z"))


def test_the_terms_of_a_selector_are_bounded() -> None:
    """Each object is held against all of them, for everyone who waits meanwhile."""
    labels.parse(",".join(["!a"] * labels.TERMS_MAX))
    with pytest.raises(errors.BadRequest, match="at most"):
        labels.parse(",".join(["!a"] * (labels.TERMS_MAX + 1)))
