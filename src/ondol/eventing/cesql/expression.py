"""An expression that was read, ready to be evaluated any number of times."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ondol.eventing.cesql import compiling, functions, parser, syntax
from ondol.eventing.cesql.compiling import Attributes, Evaluator
from ondol.eventing.cesql.errors import EvaluationError, Fault
from ondol.eventing.cesql.syntax import Call, Node, Value
from ondol.eventing.cesql.values import Type


@dataclass(frozen=True, slots=True)
class Outcome:
    """A value, which there always is, and what went wrong."""

    value: Value
    errors: tuple[EvaluationError, ...] = ()


@dataclass(frozen=True, slots=True)
class Expression:
    """`text` is as it was written."""

    text: str
    tree: Node
    _evaluate: Evaluator
    _type: Type
    _is_call: bool

    def evaluate(self, attributes: Attributes) -> Outcome:
        """Its value for an event with these attributes."""
        try:
            return Outcome(self._evaluate(attributes))
        except Fault as fault:
            return Outcome(self._value(fault), (fault.error,))

    def holds(self, attributes: Attributes) -> bool:
        """Whether an event passes it as a filter: only if it is true, and without an error."""
        try:
            return self._evaluate(attributes) is True
        except Fault:
            return False

    def missing_functions(self) -> list[str]:
        """Calls that no function answers, as `NAME of n arguments`."""
        return [
            f"{call.name} of {len(call.arguments)} arguments"
            for call in _calls(self.tree)
            if functions.resolve(call.name, len(call.arguments)) is None
        ]

    def _value(self, fault: Fault) -> Value:
        """What the outermost operator answers: only a function may have a value in spite of an error."""
        if self._is_call and fault.value is not None:
            return fault.value
        return self._type()


def parse(text: str) -> Expression:
    """Read an expression; `ParseError` if it is none."""
    tree = parser.parse(text)
    return Expression(
        text, tree, compiling.compiled(tree), compiling.type_named(tree), isinstance(tree, Call)
    )


def _calls(tree: Node) -> Iterator[Call]:
    pending: list[object] = [tree]
    while pending:
        node = pending.pop()
        if isinstance(node, Call):
            yield node
        if isinstance(node, tuple):
            pending += reversed(node)
        elif isinstance(node, syntax.Literal | syntax.Attribute | syntax.Exists | str | bool):
            continue
        else:
            names: tuple[str, ...] = type(node).__slots__  # type: ignore[attr-defined]  # a node's
            pending += [getattr(node, name) for name in names]
