"""JSONPath as printer columns write it."""

from __future__ import annotations

from typing import Any

import pytest

from ondol.api.tables import jsonpath

_DOCUMENT: dict[str, Any] = {
    "spec": {"a": 1, "list": [{"n": 1, "k": "x"}, {"n": 2, "k": "y"}, {"k": "z"}], "a.b": {"c": True}},
}


@pytest.mark.parametrize(
    ("path", "values"),
    [
        (".spec.a", [1]),
        ("{.spec.a}", [1]),
        ("$.spec.a", [1]),
        ("spec.a", [1]),
        (".spec['a.b'].c", [True]),
        (r".spec.a\.b.c", [True]),
        (".spec.list[0].n", [1]),
        (".spec.list[-1].k", ["z"]),
        (".spec.list[9].k", []),
        (".spec.list[*].n", [1, 2]),
        (".spec.list[0:2].k", ["x", "y"]),
        (".spec.list[1:].k", ["y", "z"]),
        ('.spec.list[?(@.k=="y")].n', [2]),
        (".spec.list[?(@.k=='y')].n", [2]),
        (".spec.list[?(@.n>1)].k", ["y"]),
        (".spec.list[?(@.n!=1)].k", ["y"]),
        (".spec.list[?(@.n)].k", ["x", "y"]),
        ("..k", ["x", "y", "z"]),
        (".spec.missing.deep", []),
        (".spec.a.deep", []),
    ],
)
def test_a_path_finds_what_it_names(path: str, values: list[Any]) -> None:
    """Missing fields find nothing, and nothing is an error at read time."""
    assert jsonpath.parse(path).find(_DOCUMENT) == values


@pytest.mark.parametrize("path", [".spec[", ".spec.list[?(@.k==oops)]", ".a[x]"])
def test_an_unreadable_path_is_refused_when_it_is_parsed(path: str) -> None:
    """A CRD author learns of it at once, not when a list comes out empty."""
    with pytest.raises(ValueError, match="unrecognized"):
        jsonpath.parse(path)


@pytest.mark.parametrize(
    "path", ["['" + "\\a" * 60, "[?(@." + " " * 30_000 + "x", "[?(@.a==" + ") " * 30_000]
)
def test_a_path_that_is_none_is_refused_at_once(path: str) -> None:
    """However often its pieces could be parted in two ways."""
    with pytest.raises(ValueError, match="unrecognized"):
        jsonpath.parse(path)


def test_a_path_selects_a_bounded_number_of_values() -> None:
    """Every step to all descendants multiplies what the one before it selected."""
    deep: Any = {}
    for _ in range(50):
        deep = {"a": deep, "b": 1}
    assert len(jsonpath.parse(".." * 40 + "b").find(deep)) <= 10_000
