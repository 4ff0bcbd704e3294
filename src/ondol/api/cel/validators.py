"""What the checker does not look at: constants that can be no argument of the function they are given to."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

from ondol.api.cel import times, values
from ondol.api.cel.errors import EvaluationError, Issue
from ondol.api.cel.nodes import Call, Ident, ListOf, Literal, MapOf, Node, below
from ondol.api.cel.types import unwrapped
from ondol.base import regexp


def issues(nodes: Iterable[Node]) -> list[Issue]:
    """Durations, timestamps and patterns that are spelled out and wrong; mixed lists and maps."""
    listed = list(nodes)
    formats = [node for node in listed if isinstance(node, Call) and node.function == "format"]
    exempt = {id(below) for node in formats for below in _all_below(node)}
    out = [issue for node in listed if isinstance(node, Call) for issue in _of_call(node)]
    for node in listed:
        if isinstance(node, ListOf | MapOf) and id(node) not in exempt:
            out += _mixed(node)
    return out


def _mixed(node: ListOf | MapOf) -> Iterator[Issue]:
    """Where the elements of a literal are not of one type."""
    if isinstance(node, ListOf):
        yield from _of_one_type([(each, place in node.optional) for place, each in enumerate(node.elements)])
        return
    yield from _of_one_type([(entry.key, False) for entry in node.entries])
    yield from _of_one_type([(entry.value, entry.optional) for entry in node.entries])


def _of_one_type(elements: list[tuple[Node, bool]]) -> Iterator[Issue]:
    types = [unwrapped(node.type) if optional else node.type for node, optional in elements]
    for (node, _), type_ in zip(elements, types, strict=True):
        if type_ != types[0]:
            yield Issue(node.offset, f"expected type '{types[0]}' but found '{type_}'")
            return


def _all_below(node: Node) -> Iterator[Node]:
    waiting = [node]
    while waiting:
        each = waiting.pop()
        yield each
        waiting += below(each)


def _of_call(node: Call) -> Iterator[Issue]:
    check = _CHECKS.get(node.function)
    literal = node.args[-1] if node.args else None
    expected = 1 if node.target is not None or node.function != "matches" else 2
    if check is None or not isinstance(literal, Literal) or len(node.args) != expected:
        return
    if type(literal.value) is int and node.function in _OF_INTEGERS:
        check = _OF_INTEGERS[node.function]
    elif type(literal.value) is not str:
        return
    try:
        check(literal.value)
    except (ValueError, EvaluationError):
        yield Issue(literal.offset, f"invalid {node.function} argument")


_OF_INTEGERS: Final[dict[str, Callable[[Any], object]]] = {
    "timestamp": lambda seconds: values.timestamp(seconds * values.NANOS)
}
_CHECKS: Final[dict[str, Callable[[Any], object]]] = {
    "duration": times.read_duration,
    "timestamp": times.read_timestamp,
    "matches": regexp.compiled,
}


def pattern_problem(nodes: Iterable[Node]) -> str:
    """What is wrong with the first pattern that is spelled out in a search; empty if nothing is."""
    for node in nodes:
        if isinstance(node, Call) and node.function in ("find", "findAll") and node.args:
            pattern = node.args[0]
            if isinstance(pattern, Literal) and type(pattern.value) is str:
                try:
                    regexp.compiled(pattern.value)
                except ValueError as wrong:
                    return str(wrong)
    return ""


def names(nodes: Iterable[Node]) -> frozenset[str]:
    """The names an expression refers to, those of its macros' variables among them."""
    return frozenset(node.name.removeprefix(".") for node in nodes if isinstance(node, Ident))
