"""`Expression`: one expression of a policy, and the types its value may have; `Budget`: what it may spend.

Follows Kubernetes' `plugin/cel/{compile,condition,composition}.go`.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from ondol.api.cel import times, values
from ondol.api.cel import types as t
from ondol.api.cel.environment import CALL_LIMIT, MATCH_BUDGET, OBJECT_BUDGET, Environment
from ondol.api.cel.errors import CelError, CostExceeded, EvaluationError, Refused
from ondol.api.cel.program import Program, compile  # noqa: A004 - the word of the language
from ondol.api.cel.types import Type

BOOL: Final = (t.BOOL,)
STRING: Final = (t.STRING,)
STRING_OR_NULL: Final = (t.STRING, t.NULL)
OBJECT: Final = (t.object_named("Object"),)
JSON_PATCH: Final = (t.list_of(t.object_named("JSONPatch")),)
_OUT_OF_BUDGET: Final = (
    "validation failed due to running out of cost budget, no further validation rules will be run"
)
_COMPOSED: Final = ("bool", "bytes", "double", "duration", "int", "null", "string", "timestamp", "uint")


class Failed(CelError):
    """An expression has no value for this write; the message names the expression."""


class OutOfBudget(Failed):
    """The budget is spent, and nothing more is evaluated."""

    def __init__(self) -> None:
        super().__init__(_OUT_OF_BUDGET)


class Budget:
    """What the expressions evaluated together may still cost."""

    __slots__ = ("left",)

    def __init__(self, left: int = OBJECT_BUDGET) -> None:
        self.left = left

    def spend(self, cost: int) -> None:
        """`OutOfBudget` if that is more than is left."""
        self.left -= cost
        if self.left < 0:
            raise OutOfBudget


class Expression:
    """An expression; `problem` says why it cannot be compiled, in Kubernetes' words, or nothing.

    `results` are the types it may have; any if there are none.
    """

    __slots__ = ("problem", "program", "source")

    def __init__(self, source: str, environment: Environment, results: tuple[Type, ...] = ()) -> None:
        self.source = source
        self.program: Program | None = None
        self.problem = ""
        try:
            program = compile(source, environment)
        except Refused as refused:
            self.problem = f"compilation failed: {refused}"
            return
        except CelError as error:
            self.problem = f"program instantiation failed: {error}"
            return
        if results and program.result not in results:
            self.problem = _mismatch(results, program.result)
            return
        self.program = program

    def evaluate(self, activation: Mapping[str, Any], budget: Budget) -> Any:
        """The value; `Failed` if there is none."""
        if self.program is None:
            raise Failed(f"compilation error: {self.problem}")
        outcome = self.program.evaluate(activation, min(CALL_LIMIT, budget.left))
        budget.spend(outcome.cost)
        if outcome.error is not None:
            raise Failed(f"expression '{self.source}' resulted in error: {outcome.error}")
        return outcome.value


def all_hold(conditions: Iterable[Expression], activation: Mapping[str, Any]) -> bool:
    """Whether all match conditions hold; `Failed` if that cannot be known.

    One that is false settles it, whatever went wrong with the others.
    """
    failures: list[str] = []
    budget = Budget(MATCH_BUDGET)
    for condition in conditions:
        try:
            if condition.evaluate(activation, budget) is False:
                return False
        except OutOfBudget:
            raise
        except Failed as failure:
            failures.append(str(failure))
    if failures:
        raise Failed(failures[0] if len(failures) == 1 else f"[{', '.join(failures)}]")
    return True


def _mismatch(results: tuple[Type, ...], actual: Type) -> str:
    shown = [_named(each) for each in results]
    expected = shown[0] if len(shown) == 1 else f"one of [{' '.join(shown)}]"
    return f"must evaluate to {expected} but got {_named(actual)}"


def _named(type_: Type) -> str:
    return "null_type" if type_ == t.NULL else str(type_)


def composed(type_: Type | None) -> Type:
    """The type of a variable where it is used: objects and what may be absent are of any type there."""
    if type_ is None:
        return t.DYN
    if type_.kind == "list":
        return t.list_of(composed(type_.params[0]))
    if type_.kind == "map":
        return t.map_of(composed(type_.params[0]), composed(type_.params[1]))
    return type_ if type_.kind in _COMPOSED else t.DYN


class Variables(Mapping[str, Any]):
    """The values of a policy's variables; each is evaluated when it is first used, and once."""

    def __init__(
        self, expressions: Mapping[str, Expression], activation: Mapping[str, Any], budget: Budget
    ) -> None:
        self._expressions = expressions
        self._activation = activation
        self._budget = budget
        self._values: dict[str, Any] = {}
        self._failures: dict[str, str] = {}

    def __getitem__(self, name: str) -> Any:
        if name in self._values:
            return self._values[name]
        if name not in self._failures:
            self._evaluate(name, self._expressions[name])
        if name in self._failures:
            raise EvaluationError(f'composited variable "{name}" fails to {self._failures[name]}')
        return self._values[name]

    def _evaluate(self, name: str, expression: Expression) -> None:
        if expression.program is None:
            self._failures[name] = f"compile: {expression.problem}"
            return
        outcome = expression.program.evaluate(self._activation, min(CALL_LIMIT, self._budget.left))
        self._budget.left -= outcome.cost
        if self._budget.left < 0:
            raise CostExceeded
        if outcome.error is not None:
            self._failures[name] = f"evaluate: {outcome.error}"
        else:
            self._values[name] = outcome.value

    def __iter__(self) -> Iterator[str]:
        return iter(self._expressions)

    def __len__(self) -> int:
        return len(self._expressions)


def to_json(value: Any) -> Any:
    """A value as JSON; `Failed` for what JSON has no form for."""
    if value is None or type(value) in (bool, int, float, str):
        return value
    if isinstance(value, Mapping):
        return {str(key): to_json(each) for key, each in value.items()}
    if type(value) is list:
        return [to_json(each) for each in value]
    if type(value) is values.Uint:
        return int(value)
    if type(value) is bytes:
        return base64.b64encode(value).decode()
    if type(value) is values.Duration:
        return times.spelled_duration(value)
    if type(value) is values.Timestamp:
        return times.spelled_timestamp(value)
    raise Failed(f"a value of type {values.type_of(value).name} has no form in JSON")
