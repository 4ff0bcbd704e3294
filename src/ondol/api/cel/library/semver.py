"""Versions, as semver.org has them: `semver('1.2.3').isLessThan(semver('1.10.0'))`.

With `true` as a second argument `semver` takes `v1.2` and `01.2.3` as well.
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass
from typing import Final

from ondol.api.cel import types as t
from ondol.api.cel.errors import EvaluationError
from ondol.api.cel.functions import Function, function, method, overload
from ondol.api.cel.library.standard import traversal
from ondol.api.cel.values import Opaque, TypeValue

SEMVER: Final = t.object_named("kubernetes.Semver")
_TEXT_MAX: Final = 1000
_NUMBER: Final = r"(?:0|[1-9][0-9]*)"
_PART: Final = rf"(?:{_NUMBER}|[0-9]*[A-Za-z-][0-9A-Za-z-]*)"
_VERSION: Final = re.compile(
    rf"({_NUMBER})\.({_NUMBER})\.({_NUMBER})(?:-({_PART}(?:\.{_PART})*))?(?:\+([0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*))?"
)
_UINT64_MAX: Final = 2**64 - 1


@functools.total_ordering
@dataclass(frozen=True, slots=True, eq=False)
class Semver(Opaque):
    """Build metadata takes no part in comparing."""

    numbers: tuple[int, int, int]
    prerelease: tuple[tuple[int, int, str], ...]
    """Each part as what orders it: numbers first, then texts."""

    cel_type = TypeValue("kubernetes.Semver")

    @property
    def _order(self) -> tuple[tuple[int, int, int], bool, tuple[tuple[int, int, str], ...]]:
        return self.numbers, not self.prerelease, self.prerelease

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Semver) and self._order == other._order

    def __lt__(self, other: Semver) -> bool:
        return self._order < other._order

    def __hash__(self) -> int:
        return hash(self._order)


def _normalized(text: str) -> str:
    parts = text.removeprefix("v").split(".", 2)
    for place, part in enumerate(parts):
        if len(part) > 1:
            stripped = part.lstrip("0")
            parts[place] = stripped if stripped[:1].isdigit() else f"0{stripped}"
    if len(parts) < 3:
        if any(separator in parts[-1] for separator in "+-"):
            raise EvaluationError("short version cannot contain PreRelease/Build meta data")
        parts += ["0"] * (3 - len(parts))
    return ".".join(parts)


def _semver(text: str, normalize: bool = False) -> Semver:
    match = _VERSION.fullmatch(_normalized(text) if normalize else text) if len(text) <= _TEXT_MAX else None
    if match is None or any(int(number) > _UINT64_MAX for number in match.groups()[:3]):
        raise EvaluationError(f'Invalid version "{text[:_TEXT_MAX]}"')
    parts = match[4].split(".") if match[4] else ()
    prerelease = tuple((0, int(part), "") if part.isdigit() else (1, 0, part) for part in parts)
    return Semver((int(match[1]), int(match[2]), int(match[3])), prerelease)


def _is_semver(text: str, normalize: bool = False) -> bool:
    try:
        _semver(text, normalize)
    except EvaluationError:
        return False
    return True


def _compare(one: Semver, other: Semver) -> int:
    return (one > other) - (one < other)


_TWO: Final = (SEMVER, SEMVER)
FUNCTIONS: Final[list[Function]] = [
    function(
        "semver",
        overload("string_to_semver", (t.STRING,), SEMVER, _semver, traversal),
        overload("string_bool_to_semver", (t.STRING, t.BOOL), SEMVER, _semver, traversal),
    ),
    function(
        "isSemver",
        overload("is_semver_string", (t.STRING,), t.BOOL, _is_semver, traversal),
        overload("is_semver_string_bool", (t.STRING, t.BOOL), t.BOOL, _is_semver, traversal),
    ),
    function("isGreaterThan", method("semver_is_greater_than", _TWO, t.BOOL, lambda a, b: a > b)),
    function("isLessThan", method("semver_is_less_than", _TWO, t.BOOL, lambda a, b: a < b)),
    function("compareTo", method("semver_compare_to", _TWO, t.INT, _compare)),
    function("major", method("semver_major", (SEMVER,), t.INT, lambda value: value.numbers[0])),
    function("minor", method("semver_minor", (SEMVER,), t.INT, lambda value: value.numbers[1])),
    function("patch", method("semver_patch", (SEMVER,), t.INT, lambda value: value.numbers[2])),
]
TYPES: Final = {"kubernetes.Semver": SEMVER}
