"""The tree of an expression, and how it is written down again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

Value: TypeAlias = bool | int | str


@dataclass(frozen=True, slots=True)
class Literal:
    value: Value


@dataclass(frozen=True, slots=True)
class Attribute:
    name: str


@dataclass(frozen=True, slots=True)
class Exists:
    name: str


@dataclass(frozen=True, slots=True)
class Not:
    operand: Node


@dataclass(frozen=True, slots=True)
class Negative:
    operand: Node


@dataclass(frozen=True, slots=True)
class Comparison:
    """`operator` is one of `= != < <= > >=`; `<>` is read as `!=`."""

    operator: str
    left: Node
    right: Node


@dataclass(frozen=True, slots=True)
class Arithmetic:
    """`operator` is one of `+ - * / %`."""

    operator: str
    left: Node
    right: Node


@dataclass(frozen=True, slots=True)
class Logic:
    """`a AND b OR c`, of one precedence and read from the right: `a AND (b OR c)`.

    A chain is one node, so that a long list of alternatives is no deep tree.
    """

    operators: tuple[str, ...]
    operands: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Like:
    operand: Node
    pattern: str
    negated: bool = False


@dataclass(frozen=True, slots=True)
class In:
    operand: Node
    elements: tuple[Node, ...]
    negated: bool = False


@dataclass(frozen=True, slots=True)
class Call:
    """`name` is in capitals."""

    name: str
    arguments: tuple[Node, ...]


Node: TypeAlias = (
    Literal | Attribute | Exists | Not | Negative | Comparison | Arithmetic | Logic | Like | In | Call
)


def spelled(node: Node) -> str:
    """The expression in full parentheses; `parse` makes the same tree of it."""
    match node:
        case Literal() | Attribute() | Exists():
            return _leaf(node)
        case Not(operand):
            return f"NOT {_operand(operand)}"
        case Negative(operand):
            return f"- {_operand(operand)}"
        case Comparison(operator, left, right) | Arithmetic(operator, left, right):
            return f"{_operand(left)} {operator} {_operand(right)}"
        case Logic(operators, operands):
            rest = zip(operators, operands[1:], strict=True)
            return _operand(operands[0]) + "".join(f" {word} {_operand(each)}" for word, each in rest)
        case Like(operand, pattern, negated):
            return f"{_operand(operand)} {'NOT ' if negated else ''}LIKE {_literal(pattern)}"
        case In(operand, elements, negated):
            return f"{_operand(operand)} {'NOT ' if negated else ''}IN ({_listed(elements)})"
        case Call(name, arguments):
            return f"{name}({_listed(arguments)})"


def _leaf(node: Literal | Attribute | Exists) -> str:
    match node:
        case Literal(value):
            return _literal(value)
        case Attribute(name):
            return name
        case Exists(name):
            return f"EXISTS {name}"


def _operand(node: Node) -> str:
    text = spelled(node)
    return text if isinstance(node, Literal | Attribute | Call) else f"({text})"


def _listed(nodes: tuple[Node, ...]) -> str:
    return ", ".join(spelled(node) for node in nodes)


def _literal(value: Value) -> str:
    if isinstance(value, bool):
        return "TRUE" if value else "FALSE"
    if isinstance(value, int):
        return str(value)
    return "'" + value.replace("'", "\\'") + "'"
