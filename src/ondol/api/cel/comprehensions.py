"""The macros that go over lists and maps, each as a loop.

What a round costs is what cel-go counts for the fold the macro stands for. `all` and `exists` take in errors
of single elements if another one decides: `[0, 1].exists(x, 1 / x == 1)` is true.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Protocol

from ondol.api.cel import values
from ondol.api.cel.errors import CostExceeded, EvaluationError, NoSuchOverload
from ondol.api.cel.frames import COST, LIMIT, Frame, Run
from ondol.api.cel.nodes import Call, Comprehension, Node

_CREATE_LIST = 10


class Compiler(Protocol):
    """What a macro needs of the compiler of the whole."""

    def compile(self, node: Node) -> Run: ...

    def push(self, *variables: str) -> list[int]: ...

    def pop(self) -> None: ...


Rounds = Callable[[Frame], Iterable[Any]]
"""Goes over the range; before each round the variables are in their slots."""


def compiled(compiler: Compiler, node: Comprehension) -> Run:
    if node.is_bind:
        return _bind(compiler, node)
    macro = node.macro
    assert macro is not None  # noqa: S101 - folds come from macros alone
    over = compiler.compile(node.range)
    variables = (node.var, node.var2) if node.var2 else (node.var,)
    places = compiler.push(*variables)
    count = len(variables)
    run = _LOOPS[macro.function](compiler, macro, _rounds(over, places), count)
    compiler.pop()
    return run


def _bind(compiler: Compiler, node: Comprehension) -> Run:
    init = compiler.compile(node.init)
    (place,) = compiler.push(node.accu)
    result = compiler.compile(node.result)
    compiler.pop()

    def run(frame: Frame) -> Any:
        frame[place] = init(frame)
        return result(frame)

    return run


def _rounds(over: Run, places: list[int]) -> Rounds:
    if len(places) == 1:
        (place,) = places

        def one(frame: Frame) -> Iterable[Any]:
            for element in values.elements(over(frame)):
                if frame[COST] > frame[LIMIT]:
                    raise CostExceeded
                frame[place] = element
                yield element

        return one
    first, second = places

    def two(frame: Frame) -> Iterable[Any]:
        for key, value in values.pairs(over(frame)):
            if frame[COST] > frame[LIMIT]:
                raise CostExceeded
            frame[first], frame[second] = key, value
            yield key

    return two


def _all(compiler: Compiler, macro: Call, rounds: Rounds, count: int) -> Run:
    return _quantifier(compiler.compile(macro.args[count]), rounds, deciding=False, cost=3)


def _exists(compiler: Compiler, macro: Call, rounds: Rounds, count: int) -> Run:
    return _quantifier(compiler.compile(macro.args[count]), rounds, deciding=True, cost=4)


def _quantifier(test: Run, rounds: Rounds, *, deciding: bool, cost: int) -> Run:
    """Ends with the first element that decides; an error counts if none does."""

    def run(frame: Frame) -> Any:
        error: EvaluationError | None = None
        decided = False
        frame[COST] += 1
        for _ in rounds(frame):
            if decided:
                frame[COST] += cost - 1  # the condition that ends the fold is looked at once more
                return deciding
            frame[COST] += cost
            try:
                outcome = test(frame)
            except EvaluationError as wrong:
                error = error or wrong
                continue
            if outcome is deciding:
                decided = True
            elif type(outcome) is not bool:
                error = error or NoSuchOverload()
        if decided:
            return deciding
        if error is not None:
            raise error
        return not deciding

    return run


def _truth(outcome: Any) -> bool:
    if type(outcome) is not bool:
        raise NoSuchOverload
    return outcome


def _exists_one(compiler: Compiler, macro: Call, rounds: Rounds, count: int) -> Run:
    test = compiler.compile(macro.args[count])

    def run(frame: Frame) -> Any:
        matches = 0
        for _ in rounds(frame):
            hit = _truth(test(frame))
            frame[COST] += 2 if hit else 0
            matches += hit
        frame[COST] += 2
        return matches == 1

    return run


def _kept(compiler: Compiler, macro: Call, count: int) -> Run | None:
    """The test of the elements to keep; None for a macro that keeps them all."""
    return compiler.compile(macro.args[count]) if len(macro.args) == count + 2 else None


def _map(compiler: Compiler, macro: Call, rounds: Rounds, count: int) -> Run:
    return _listing(_kept(compiler, macro, count), compiler.compile(macro.args[-1]), rounds)


def _filter(compiler: Compiler, macro: Call, rounds: Rounds, count: int) -> Run:
    del count
    element: Node = macro.args[0]
    return _listing(compiler.compile(macro.args[1]), compiler.compile(element), rounds)


def _listing(keep: Run | None, element: Run, rounds: Rounds) -> Run:
    def run(frame: Frame) -> Any:
        out: list[Any] = []
        frame[COST] += 1
        for _ in rounds(frame):
            if keep is not None and not _truth(keep(frame)):
                continue
            frame[COST] += _CREATE_LIST + 2
            out.append(element(frame))
        return out

    return run


def _transform_map(compiler: Compiler, macro: Call, rounds: Rounds, count: int) -> Run:
    keep = _kept(compiler, macro, count)
    value = compiler.compile(macro.args[-1])

    def run(frame: Frame) -> Any:
        out: dict[Any, Any] = {}
        frame[COST] += 1
        for key in rounds(frame):
            if keep is not None and not _truth(keep(frame)):
                continue
            frame[COST] += 3
            out[values.key(key)] = value(frame)
        return out

    return run


def _transform_map_entry(compiler: Compiler, macro: Call, rounds: Rounds, count: int) -> Run:
    keep = _kept(compiler, macro, count)
    entry = compiler.compile(macro.args[-1])

    def run(frame: Frame) -> Any:
        out: dict[Any, Any] = {}
        frame[COST] += 1
        for _ in rounds(frame):
            if keep is not None and not _truth(keep(frame)):
                continue
            frame[COST] += 2
            added = entry(frame)
            if type(added) is not dict:
                raise NoSuchOverload
            for key, value in added.items():
                if key in out:
                    raise EvaluationError(f"insert failed: key {key} already exists")
                out[key] = value
        return out

    return run


_LOOPS = {
    "all": _all,
    "exists": _exists,
    "exists_one": _exists_one,
    "existsOne": _exists_one,
    "map": _map,
    "filter": _filter,
    "transformList": _map,
    "transformMap": _transform_map,
    "transformMapEntry": _transform_map_entry,
}
