"""What can go wrong with an expression: it is refused when it is compiled, or it fails when it is evaluated.

::

    CelError
    ├── Refused            the expression cannot be compiled; `issues` say where and why
    ├── Uninstantiable     likewise, for a pattern of `find` that is none
    ├── EvaluationError    this input has no result: no such key, overflow, an index out of range
    │   └── NoSuchOverload   an operator or function met values it has no meaning for
    └── CostExceeded       the evaluation was stopped; nothing in the expression can catch it

Messages are those of cel-go, which users look up.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from ondol.base.errors import OndolError

_ISSUES_MAX: Final = 100
_WIDE_DOT: Final = "\uff0e"
_WIDE_ARROW: Final = "\uff3e"
"""Below characters that are wide themselves."""


class CelError(OndolError):
    """Root of the errors of expressions."""


class EvaluationError(CelError):
    """The expression has no value for this input."""


class NoSuchOverload(EvaluationError):
    """An operator or function was applied to values of types it is not declared for."""

    def __init__(self, detail: str = "no such overload") -> None:
        super().__init__(detail)


class CostExceeded(CelError):
    """The expression did more than it may."""

    def __init__(self) -> None:
        super().__init__("operation cancelled: actual cost limit exceeded")


@dataclass(frozen=True, slots=True)
class Issue:
    """One reason to refuse an expression; `offset` counts characters of the source from 0."""

    offset: int
    message: str


class Refused(CelError):
    """An expression that cannot be compiled; its text shows each issue below the line it is in."""

    def __init__(self, source: str, issues: Sequence[Issue]) -> None:
        self.issues = tuple(sorted(issues, key=lambda issue: issue.offset))
        lines = [_shown(source, issue) for issue in self.issues[:_ISSUES_MAX]]
        if len(self.issues) > _ISSUES_MAX:
            lines.append(f"{len(self.issues) - _ISSUES_MAX} more errors were truncated")
        super().__init__("\n".join(lines))


class Uninstantiable(CelError):
    """An expression that is right by its types, and of which no program can be made."""


def _shown(source: str, issue: Issue) -> str:
    """An issue with its place, and an arrow under the character it is about."""
    offset = min(issue.offset, len(source))
    line_number = source.count("\n", 0, offset) + 1
    start = source.rfind("\n", 0, offset) + 1
    end = source.find("\n", start)
    line = source[start : end if end >= 0 else len(source)].replace("\t", " ")
    column = offset - start
    dots = "".join("." if character.isascii() else _WIDE_DOT for character in line[:column])
    arrow = "^" if line[column : column + 1].isascii() else _WIDE_ARROW
    return f"ERROR: <input>:{line_number}:{column + 1}: {issue.message}\n | {line}\n | {dots}{arrow}"
