"""The syntax tree of an expression, as the parser builds it and the checker annotates it.

Operators are calls of functions with CEL's own names (`_&&_`, `_[_]`, `_?_:_`); a macro is replaced by what
it stands for, and remembered in `macro`. Nodes are equal when they mean the same: places in the source and
what the checker wrote do not count.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

from ondol.api.cel.functions import Overload
from ondol.api.cel.types import DYN, Type

CONDITIONAL: Final = "_?_:_"
AND: Final = "_&&_"
OR: Final = "_||_"
NOT: Final = "!_"
NEGATE: Final = "-_"
INDEX: Final = "_[_]"
OPTIONAL_INDEX: Final = "_[?_]"
OPTIONAL_SELECT: Final = "_?._"
IN: Final = "@in"
NOT_STRICTLY_FALSE: Final = "@not_strictly_false"
MAP_INSERT: Final = "cel.@mapInsert"
ACCUMULATOR: Final = "@result"
UNUSED: Final = "#unused"


@dataclass(slots=True)
class Literal:
    """A constant: None, bool, int, Uint, float, str or bytes."""

    value: Any
    offset: int = field(default=0, compare=False)
    type: Type = field(default=DYN, compare=False)


@dataclass(slots=True)
class Ident:
    name: str
    offset: int = field(default=0, compare=False)
    type: Type = field(default=DYN, compare=False)
    constant: Any = field(default=None, compare=False)
    """The value of a name that is not a variable: a type."""


@dataclass(slots=True)
class Select:
    """`operand.name`; with `test_only` the macro `has(operand.name)`."""

    operand: Node
    name: str
    test_only: bool = False
    dotted: bool = field(default=False, compare=False)
    """Whether the chain is one name with dots; `operand` is that name then."""
    offset: int = field(default=0, compare=False)
    type: Type = field(default=DYN, compare=False)


@dataclass(slots=True)
class Call:
    """A function or operator; `target` is what a method is called on."""

    function: str
    target: Node | None
    args: list[Node]
    offset: int = field(default=0, compare=False)
    type: Type = field(default=DYN, compare=False)
    overloads: tuple[Overload, ...] = field(default=(), compare=False)
    macro: Call | None = field(default=None, compare=False)
    """The call of a macro that this one stands for."""


@dataclass(slots=True)
class ListOf:
    """`[a, ?b]`; `optional` are the indices of the elements that may be absent."""

    elements: list[Node]
    optional: frozenset[int] = frozenset()
    offset: int = field(default=0, compare=False)
    type: Type = field(default=DYN, compare=False)


@dataclass(slots=True)
class Entry:
    """`key: value` of a map; `?key: value` leaves out an absent optional value."""

    key: Node
    value: Node
    optional: bool = False


@dataclass(slots=True)
class MapOf:
    entries: list[Entry]
    offset: int = field(default=0, compare=False)
    type: Type = field(default=DYN, compare=False)


@dataclass(slots=True)
class Field:
    """`name: value` of a struct."""

    name: str
    value: Node
    optional: bool = False
    offset: int = field(default=0, compare=False)


@dataclass(slots=True)
class Struct:
    """`Name{field: value}`."""

    name: str
    fields: list[Field]
    offset: int = field(default=0, compare=False)
    type: Type = field(default=DYN, compare=False)


@dataclass(slots=True)
class Comprehension:
    """A fold over a list or a map, what the macros `all`, `exists`, `map` and their like stand for.

    `accu` starts as `init`; while `condition` holds, each element makes it `step`; `result` is the value.
    """

    range: Node
    var: str
    var2: str
    accu: str
    init: Node
    condition: Node
    step: Node
    result: Node
    offset: int = field(default=0, compare=False)
    type: Type = field(default=DYN, compare=False)
    macro: Call | None = field(default=None, compare=False)

    @property
    def is_bind(self) -> bool:
        """Whether it only gives a name to a value (`cel.bind`, `optMap`)."""
        return self.var == UNUSED


Node: TypeAlias = Literal | Ident | Select | Call | ListOf | MapOf | Struct | Comprehension


def below(node: Node) -> list[Node]:
    """The parts of a node."""
    if isinstance(node, Select):
        return [node.operand]
    if isinstance(node, Call):
        return [*node.args, *([node.target] if node.target is not None else [])]
    if isinstance(node, ListOf):
        return node.elements
    if isinstance(node, MapOf):
        return [part for entry in node.entries for part in (entry.key, entry.value)]
    if isinstance(node, Struct):
        return [each.value for each in node.fields]
    if isinstance(node, Comprehension):
        return [node.range, node.init, node.condition, node.step, node.result]
    return []
