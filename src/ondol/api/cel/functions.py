"""How a function is declared: its overloads, what each costs, and the libraries they stand in.

A library is a list of functions. To add one, write a function from values to a value, and an `Overload` with
its types; the checker, the compiler and the estimates of costs need nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from ondol.api.cel.types import Type

Implementation = Callable[..., Any]
RunCost = Callable[[Sequence[Any]], int]
"""From the arguments, the target first, to what a call costs; it is charged before the call."""
ResultCost = Callable[[Any], int]
"""From the result to what making it cost."""


@dataclass(frozen=True, slots=True)
class Overload:
    """One signature of a function.

    `args` begin with the target of a method. `run` raises `EvaluationError` where it has no result.
    """

    id: str
    args: tuple[Type, ...]
    result: Type
    run: Implementation
    member: bool = False
    cost: RunCost | None = None
    """None for a call that costs one."""
    result_cost: ResultCost | None = None
    """For a call whose result says what it cost; in the place of `cost`."""
    generic: bool = field(default=False, compare=False)
    """Whether the signature has type parameters."""


@dataclass(frozen=True, slots=True)
class Function:
    name: str
    overloads: tuple[Overload, ...]


def function(name: str, *overloads: Overload) -> Function:
    return Function(name, overloads)


def overload(
    id: str,
    args: Sequence[Type],
    result: Type,
    run: Implementation,
    cost: RunCost | None = None,
    *,
    result_cost: ResultCost | None = None,
) -> Overload:
    """A function called by its name: `size(x)`."""
    return Overload(id, tuple(args), result, run, False, cost, result_cost, _has_params(args))


def method(
    id: str,
    args: Sequence[Type],
    result: Type,
    run: Implementation,
    cost: RunCost | None = None,
    *,
    result_cost: ResultCost | None = None,
) -> Overload:
    """A function called on its first argument: `x.size()`."""
    return Overload(id, tuple(args), result, run, True, cost, result_cost, _has_params(args))


def _has_params(types: Iterable[Type]) -> bool:
    return any(each.kind == "param" or _has_params(each.params) for each in types)


class Registry:
    """The functions of an environment by name; overloads of one name may come from several libraries."""

    def __init__(self, libraries: Iterable[Iterable[Function]]) -> None:
        self._functions: dict[str, Function] = {}
        for library in libraries:
            for each in library:
                before = self._functions.get(each.name)
                overloads = (before.overloads if before else ()) + each.overloads
                self._functions[each.name] = Function(each.name, overloads)

    def get(self, name: str) -> Function | None:
        return self._functions.get(name)

    def names(self) -> list[str]:
        return sorted(self._functions)
