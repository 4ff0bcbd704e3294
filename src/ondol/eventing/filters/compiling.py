"""A filter as a predicate over events, compiled once.

As Knative has it: a list means all of them; `filters` hides the older `filter.attributes`; a dialect that is
empty says nothing and is passed over, as if it were not written. What cannot be a filter (an expression
that does not parse, which validation refuses) lets no event pass, rather than every one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeAlias

from ondol.eventing import cesql
from ondol.eventing.cloudevents import attributes as rules
from ondol.eventing.cloudevents.event import Event

Predicate: TypeAlias = Callable[[Event], bool]
Filter: TypeAlias = Mapping[str, Any]
_Test: TypeAlias = Callable[[str, str], bool]

_ALIASES: Final = {"schemaurl": "dataschema"}
"""Names of older versions of CloudEvents, which Knative still looks up."""


def predicate(filters: Sequence[Filter] | None, attributes: Mapping[str, str] | None = None) -> Predicate:
    """Whether an event passes: `filters` if there are any, else the exact `attributes`. It never raises."""
    if filters:
        return _all(filters) or _everything
    if attributes:
        return _conjunction([_present_or_equal(name, value) for name, value in attributes.items()])
    return _everything


def _everything(_: Event) -> bool:
    return True


def _nothing(_: Event) -> bool:
    return False


def _compiled(filter: Filter) -> Predicate | None:
    """The filter; one of a wrong shape, which validation refuses, lets nothing pass."""
    try:
        return _first(filter)
    except (AttributeError, TypeError):
        return _nothing


def _first(filter: Filter) -> Predicate | None:
    """The first dialect that is set, in Knative's order; None if none is, which says nothing."""
    for dialect, test in _TESTS.items():
        if values := filter.get(dialect):
            return _conjunction([_tested(name, value, test) for name, value in values.items()])
    if alternatives := filter.get("all"):
        return _all(alternatives)
    if alternatives := filter.get("any"):
        return _any(alternatives)
    if (inner := filter.get("not")) is not None:
        return _not(inner)
    if expression := filter.get("cesql"):
        return _expression(expression)
    return None


def _all(filters: Sequence[Filter]) -> Predicate | None:
    tests = [test for test in map(_compiled, filters) if test is not None]
    return _conjunction(tests) if tests else None


def _any(filters: Sequence[Filter]) -> Predicate | None:
    tests = [test for test in map(_compiled, filters) if test is not None]
    if len(tests) <= 1:
        return tests[0] if tests else None
    return lambda event: any(test(event) for test in tests)


def _not(filter: Filter) -> Predicate | None:
    test = _compiled(filter)
    return None if test is None else lambda event: not test(event)


def _expression(text: str) -> Predicate:
    try:
        holds = cesql.parse(text).holds
    except cesql.ParseError:
        return _nothing
    return lambda event: holds(event.attributes)


def _conjunction(tests: Sequence[Predicate]) -> Predicate:
    if len(tests) == 1:
        return tests[0]
    return lambda event: all(test(event) for test in tests)


def _tested(name: str, value: str, test: _Test) -> Predicate:
    """An attribute that the event does not have passes no test; neither does a test for nothing."""
    if not (value and isinstance(value, str)):
        return _nothing
    look_up = _look_up(name)

    def holds(event: Event) -> bool:
        actual = look_up(event.attributes)
        return actual is not None and test(actual, value)

    return holds


def _present_or_equal(name: str, value: str) -> Predicate:
    """The older form, where no value means any."""
    look_up = _look_up(name)
    if not value:
        return lambda event: bool(look_up(event.attributes))
    return lambda event: look_up(event.attributes) == value


def _look_up(name: str) -> Callable[[Mapping[str, str]], str | None]:
    if name == "datamediatype":
        return _media_type
    key = _ALIASES.get(name, name)
    return lambda attributes: attributes.get(key)


def _media_type(attributes: Mapping[str, str]) -> str | None:
    content_type = attributes.get("datacontenttype")
    return None if content_type is None else rules.media_type(content_type)


def _equal(actual: str, value: str) -> bool:
    return actual == value


_TESTS: Final[Mapping[str, _Test]] = {"exact": _equal, "prefix": str.startswith, "suffix": str.endswith}
