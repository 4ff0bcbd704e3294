"""What the checker does not look at: constants that can be no argument of the function they are given to."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Final

from ondol.api.cel import times
from ondol.api.cel.errors import Issue
from ondol.api.cel.nodes import Call, Ident, Literal, Node
from ondol.base import regexp


def issues(nodes: Iterable[Node]) -> list[Issue]:
    """Durations, timestamps and patterns that are spelled out and wrong."""
    return [issue for node in nodes if isinstance(node, Call) for issue in _of_call(node)]


def _of_call(node: Call) -> Iterator[Issue]:
    check = _CHECKS.get(node.function)
    literal = node.args[-1] if node.args else None
    expected = 1 if node.target is not None or node.function != "matches" else 2
    if check is None or not isinstance(literal, Literal) or len(node.args) != expected:
        return
    if type(literal.value) is not str:
        return
    try:
        check(literal.value)
    except ValueError:
        yield Issue(literal.offset, f"invalid {node.function} argument")


_CHECKS: Final[dict[str, Callable[[str], object]]] = {
    "duration": times.read_duration,
    "timestamp": times.read_timestamp,
    "matches": regexp.compiled,
}


def names(nodes: Iterable[Node]) -> frozenset[str]:
    """The names an expression refers to, those of its macros' variables among them."""
    return frozenset(node.name.removeprefix(".") for node in nodes if isinstance(node, Ident))
