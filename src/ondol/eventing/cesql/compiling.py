"""Makes a function of a tree: called with the attributes of an event, it answers a value or raises `Fault`.

The first error ends an evaluation. Each node knows the type it answers, and so its zero value.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import Final, TypeAlias

from ondol.eventing.cesql import functions, like
from ondol.eventing.cesql.errors import ErrorKind, Fault
from ondol.eventing.cesql.syntax import (
    Arithmetic,
    Attribute,
    Call,
    Comparison,
    Exists,
    In,
    Like,
    Literal,
    Logic,
    Negative,
    Node,
    Not,
    Value,
)
from ondol.eventing.cesql.values import Type, boolean, bounded, cast, integer, string, type_of

Attributes: TypeAlias = Mapping[str, Value]
Evaluator: TypeAlias = Callable[[Attributes], Value]

_ALWAYS: Final = frozenset({"specversion", "id", "source", "type"})
_ORDER: Final[Mapping[str, Callable[[int, int], bool]]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


def compiled(node: Node) -> Evaluator:
    """The function of a tree."""
    match node:
        case Literal() | Attribute() | Exists():
            return _leaf(node)
        case Comparison() | Arithmetic():
            return _binary(node)
        case Not(operand):
            negated = compiled(operand)
            return lambda attributes: not boolean(negated(attributes))
        case Negative(operand):
            negative = compiled(operand)
            return lambda attributes: bounded(-integer(negative(attributes)))
        case Logic(operators, operands):
            return _logic(operators, tuple(compiled(operand) for operand in operands))
        case Like(operand, pattern, negated):
            return _like(compiled(operand), like.matcher(pattern), negated)
        case In(operand, elements, negated):
            return _membership(compiled(operand), tuple(compiled(e) for e in elements), negated)
        case Call(name, arguments):
            return _call(name, tuple(compiled(argument) for argument in arguments))


def _leaf(node: Literal | Attribute | Exists) -> Evaluator:
    match node:
        case Literal(value):
            return lambda _: value
        case Attribute(name):
            return _attribute(name)
        case Exists(name):
            return lambda attributes: name in _ALWAYS or name in attributes


def _binary(node: Comparison | Arithmetic) -> Evaluator:
    left, right, sign = compiled(node.left), compiled(node.right), node.operator
    if isinstance(node, Arithmetic):
        return _arithmetic(left, right, _CALCULATIONS[sign])
    if sign in _ORDER:
        return _order(left, right, _ORDER[sign])
    return _equality(left, right, sign == "=")


def type_named(node: Node) -> Type:
    """The type that a node answers; Boolean where only the event can tell."""
    match node:
        case Literal(value):
            return type_of(value)
        case Negative() | Arithmetic():
            return int
        case Call(name, arguments):
            resolved = functions.resolve(name, len(arguments))
            return resolved[0].returns if resolved else bool
    return bool


def _attribute(name: str) -> Evaluator:
    def evaluate(attributes: Attributes) -> Value:
        try:
            return attributes[name]
        except KeyError:
            raise Fault(ErrorKind.MISSING_ATTRIBUTE, f"the event has no attribute {name}") from None

    return evaluate


def _equality(left: Evaluator, right: Evaluator, expected: bool) -> Evaluator:
    def evaluate(attributes: Attributes) -> Value:
        x, y = left(attributes), right(attributes)
        if type(x) is not type(y):
            x = cast(x, type_of(y))
        return (x == y) is expected

    return evaluate


def _order(left: Evaluator, right: Evaluator, holds: Callable[[int, int], bool]) -> Evaluator:
    def evaluate(attributes: Attributes) -> Value:
        x, y = left(attributes), right(attributes)
        return holds(integer(x), integer(y))

    return evaluate


def _arithmetic(left: Evaluator, right: Evaluator, calculate: Callable[[int, int], int]) -> Evaluator:
    def evaluate(attributes: Attributes) -> Value:
        x, y = left(attributes), right(attributes)
        return bounded(calculate(integer(x), integer(y)))

    return evaluate


def _quotient(x: int, y: int) -> int:
    """Rounded towards zero."""
    if y == 0:
        raise Fault(ErrorKind.MATH, "division by zero")
    return abs(x) // abs(y) * (1 if (x < 0) == (y < 0) else -1)


def _remainder(x: int, y: int) -> int:
    """With the sign of what is divided."""
    return x - _quotient(x, y) * y


_CALCULATIONS: Final[Mapping[str, Callable[[int, int], int]]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": _quotient,
    "%": _remainder,
}


def _logic(operators: tuple[str, ...], operands: tuple[Evaluator, ...]) -> Evaluator:
    """From the right: `a AND (b OR c)`. What need not be looked at is not; XOR turns what comes over."""
    steps = tuple(zip(operators, operands[:-1], strict=True))
    last = operands[-1]

    def evaluate(attributes: Attributes) -> Value:
        turned = False
        for word, operand in steps:
            value = boolean(operand(attributes))
            if word == "XOR":
                turned ^= value
            elif value is (word == "OR"):
                return value ^ turned
        return boolean(last(attributes)) ^ turned

    return evaluate


def _like(operand: Evaluator, matches: like.Matcher, negated: bool) -> Evaluator:
    return lambda attributes: matches(string(operand(attributes))) is not negated


def _membership(operand: Evaluator, elements: tuple[Evaluator, ...], negated: bool) -> Evaluator:
    def evaluate(attributes: Attributes) -> Value:
        value = operand(attributes)
        target = type_of(value)
        return any(cast(element(attributes), target) == value for element in elements) is not negated

    return evaluate


def _call(name: str, arguments: tuple[Evaluator, ...]) -> Evaluator:
    resolved = functions.resolve(name, len(arguments))
    if resolved is None:
        message = f"there is no function {name} of {len(arguments)} arguments"

        def missing(_: Attributes) -> Value:
            raise Fault(ErrorKind.MISSING_FUNCTION, message)

        return missing
    function, casts = resolved
    pairs = tuple(zip(casts, arguments, strict=True))
    body = function.body

    def evaluate(attributes: Attributes) -> Value:
        try:
            values = [convert(argument(attributes)) for convert, argument in pairs]
        except Fault as fault:
            fault.value = None  # it was what the argument answers, not this function
            raise
        value: Value = body(*values)
        return value

    return evaluate
