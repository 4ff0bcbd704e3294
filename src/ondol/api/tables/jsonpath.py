r"""The part of JSONPath that printer columns use: fields, indices, slices, wildcards and filters.

`.spec.replicas`, `.metadata.annotations.a\.b/c`, `['a.b']`, `[0]`, `[-1]`, `[0:2]`, `[*]`, `..name`,
`[?(@.type=="Ready")].status`. Missing fields select nothing. `parse` once, `find` for each object.

A path is a list of steps, and each step turns one value into any number of values:

>>> pod = {"status": {"conditions": [{"type": "Ready", "status": "True"}, {"type": "Initialized"}]}}
>>> parse(".status.conditions[*].type").find(pod)
['Ready', 'Initialized']
>>> parse('{.status.conditions[?(@.type=="Ready")].status}').find(pod)
['True']
>>> parse(".status.phase").find(pod)
[]
>>> parse("..type").find(pod)  # the steps "every value inside" and "its field `type`"
['Ready', 'Initialized']

Paths are users' own: no text matches an expression here in two ways, and a path selects a bounded number of
values, since every `..` multiplies them.
"""

from __future__ import annotations

import itertools
import operator
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final, TypeAlias

import msgspec

Step: TypeAlias = Callable[[Any], Iterable[Any]]

_NAME: Final = re.compile(r"\.?(?P<name>(?:[^.\[\\]|\\.)+)")
_QUOTED: Final = re.compile(r"\[\s*(?P<quote>['\"])(?P<name>(?:\\.|(?!(?P=quote))[^\\])*)(?P=quote)\s*\]")
_INDEX: Final = re.compile(r"\[\s*(?P<index>-?\d+)\s*\]")
_SLICE: Final = re.compile(r"\[\s*(?P<first>-?\d*)\s*:\s*(?P<last>-?\d*)\s*(?::\s*(?P<step>\d+)\s*)?\]")
_WILD: Final = re.compile(r"\[\s*\*\s*\]|\.\*")
_FILTER: Final = re.compile(
    r"\[\?\(\s*@(?P<path>(?:\.|\[)[^=!<>)]*)(?:(?P<operator>==|!=|<=|>=|<|>)(?P<value>.+?))?\)\s*\]"
)
_VALUES_MAX: Final = 10_000
_COMPARISONS: Final[dict[str, Callable[[Any, Any], bool]]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


class Path:
    """A parsed path."""

    def __init__(self, steps: Iterable[Step]) -> None:
        self._steps = tuple(steps)

    def find(self, document: Any) -> list[Any]:
        """Every value the path selects, in document order; the first ten thousand at each step."""
        values: list[Any] = [document]
        for step in self._steps:
            values = list(itertools.islice((value for item in values for value in step(item)), _VALUES_MAX))
        return values


def parse(text: str) -> Path:
    """The path a text spells, with or without `$` and braces; `ValueError` if it cannot be read."""
    stripped = text.strip()
    if stripped.startswith("{") and stripped.endswith("}"):
        stripped = stripped[1:-1].strip()
    return Path(_steps(stripped.removeprefix("$"), text))


def _steps(rest: str, whole: str) -> Iterator[Step]:
    position = 0
    while position < len(rest):
        if rest.startswith("..", position):
            yield _descendants
            position += 2 if rest.startswith("[", position + 2) else 1
            continue
        step, position = _step(rest, position, whole)
        yield step


def _step(rest: str, position: int, whole: str) -> tuple[Step, int]:
    if match := _WILD.match(rest, position):
        return _children, match.end()
    if match := _QUOTED.match(rest, position):
        return _field(re.sub(r"\\(.)", r"\1", match["name"])), match.end()
    if match := _INDEX.match(rest, position):
        return _at(int(match["index"])), match.end()
    if match := _SLICE.match(rest, position):
        return _between(match), match.end()
    if match := _FILTER.match(rest, position):
        return _filter(match), match.end()
    if (match := _NAME.match(rest, position)) and rest[position] != "[":
        return _field(re.sub(r"\\(.)", r"\1", match["name"])), match.end()
    raise ValueError(f"unrecognized column definition {whole!r}")


def _field(name: str) -> Step:
    def select(item: Any) -> Iterable[Any]:
        return (item[name],) if isinstance(item, dict) and name in item else ()

    return select


def _at(index: int) -> Step:
    def select(item: Any) -> Iterable[Any]:
        inside = isinstance(item, list) and -len(item) <= index < len(item)
        return (item[index],) if inside else ()

    return select


def _between(match: re.Match[str]) -> Step:
    bounds = slice(*(int(part) if part else None for part in (match["first"], match["last"], match["step"])))

    def select(item: Any) -> Iterable[Any]:
        return item[bounds] if isinstance(item, list) else ()

    return select


def _children(item: Any) -> Iterable[Any]:
    if isinstance(item, dict):
        return item.values()
    return item if isinstance(item, list) else ()


def _descendants(item: Any) -> Iterator[Any]:
    yield item
    for child in _children(item):
        yield from _descendants(child)


def _filter(match: re.Match[str]) -> Step:
    path = Path(_steps(match["path"].rstrip(), match[0]))
    compare = _COMPARISONS.get(match["operator"] or "")
    operand = _literal(match["value"].strip(), match[0]) if compare is not None else None

    def holds(item: Any) -> bool:
        values = path.find(item)
        if compare is None:
            return bool(values)
        return any(_comparable(value, operand) and compare(value, operand) for value in values)

    def select(item: Any) -> Iterable[Any]:
        return [child for child in _children(item) if holds(child)]

    return select


def _comparable(left: Any, right: Any) -> bool:
    if isinstance(left, bool) or isinstance(right, bool):
        return isinstance(left, bool) and isinstance(right, bool)
    numbers = isinstance(left, int | float) and isinstance(right, int | float)
    return numbers or (isinstance(left, str) and isinstance(right, str))


def _literal(text: str, whole: str) -> Any:
    if len(text) > 1 and text[0] == text[-1] == "'":
        return text[1:-1]
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError:
        raise ValueError(f"unrecognized filter value in {whole!r}") from None
