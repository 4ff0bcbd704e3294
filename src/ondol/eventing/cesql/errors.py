"""The errors of CESQL. Only the parser raises; an evaluation answers its error beside the value."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from ondol.base.errors import OndolError


class ErrorKind(enum.Enum):
    """The kinds that the specification tells apart."""

    PARSE = "parse"
    MATH = "math"
    CAST = "cast"
    MISSING_ATTRIBUTE = "missingAttribute"
    MISSING_FUNCTION = "missingFunction"
    FUNCTION_EVALUATION = "functionEvaluation"
    GENERIC = "generic"


class ParseError(OndolError):
    """The text is no expression; `position` is the character, counted from 0, where that shows."""

    def __init__(self, message: str, position: int) -> None:
        super().__init__(f"{message} at character {position + 1}")
        self.position = position


@dataclass(frozen=True, slots=True)
class EvaluationError:
    """What went wrong in an evaluation."""

    kind: ErrorKind
    message: str


class Fault(OndolError):
    """Ends an evaluation; `value` is what the operator that failed answers nevertheless, if it says so."""

    def __init__(self, kind: ErrorKind, message: str, value: int | str | bool | None = None) -> None:
        super().__init__(message)
        self.error = EvaluationError(kind, message)
        self.value = value
