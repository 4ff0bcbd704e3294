"""An expression that was compiled, and its evaluation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from ondol.api.cel import checker, cost, nodes, parser, validators
from ondol.api.cel.compile import Compiled, read_once
from ondol.api.cel.environment import CALL_LIMIT, Environment
from ondol.api.cel.errors import CostExceeded, EvaluationError, Issue, Refused, Uninstantiable
from ondol.api.cel.frames import CACHE, COST, LIMIT, Frame
from ondol.api.cel.types import Type


class Outcome(NamedTuple):
    """The value of an evaluation and what it cost; or its error, then `value` is None."""

    value: Any
    cost: int
    error: EvaluationError | CostExceeded | None = None


class Program:
    """Evaluates an expression again and again; holds nothing of an evaluation."""

    def __init__(
        self, source: str, root: nodes.Node, names: frozenset[str], environment: Environment
    ) -> None:
        self.source = source
        self.result: Type = root.type
        self.names = names
        """What the expression refers to."""
        self._root = root
        self._variables = environment.variables
        self._compiled = Compiled(root, environment.variables)

    def estimated_cost(self) -> int:
        """The most an evaluation may cost, by the sizes the variables' types allow."""
        return cost.estimate(self._root, self._variables).most

    def evaluate(self, activation: Mapping[str, Any], limit: int = CALL_LIMIT) -> Outcome:
        """The outcome for these variables, as JSON; one that is absent may not be needed."""
        compiled = self._compiled
        frame: Frame = [None] * compiled.size
        frame[COST], frame[LIMIT], frame[CACHE] = 0, limit, {}
        slots = compiled.slots
        for name, value in activation.items():
            place = slots.get(name)
            if place is not None:
                frame[place] = value
        try:
            for name, read in compiled.readers.items():
                frame[slots[name]] = read_once(frame, read, activation.get(name))
            value = compiled.run(frame)
        except (EvaluationError, CostExceeded) as error:
            return Outcome(None, frame[COST], error)
        except RecursionError:
            return Outcome(None, frame[COST], EvaluationError("the expression is nested too deeply"))
        if frame[COST] > limit:
            return Outcome(None, frame[COST], CostExceeded())
        return Outcome(value, frame[COST])


def compile(source: str, environment: Environment) -> Program:  # noqa: A001 - the word of the language
    """The program of an expression; `Refused` with every reason it is none, or `Uninstantiable`."""
    try:
        root = parser.parse(source)
        seen = checker.check(
            source,
            root,
            variables=environment.variables,
            named_type=environment.named_type,
            functions=environment.functions,
        )
        issues = validators.issues(seen)
        if issues:
            raise Refused(source, issues)
        problem = validators.pattern_problem(seen)
        if problem:
            raise Uninstantiable(problem)
        return Program(source, root, validators.names(seen), environment)
    except RecursionError:
        raise Refused(source, [Issue(0, "the expression is nested too deeply")]) from None
