"""What an expression may cost at worst, by the sizes its schema allows.

Goes through the checked tree as cel-go's estimator does: the cost of a node is that of its parts and its own;
a macro costs its rounds times as much as the range may have elements.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from ondol.api.cel import estimates, nodes
from ondol.api.cel.estimates import Argument, Estimate
from ondol.api.cel.nodes import Call, Comprehension, Ident, ListOf, Literal, MapOf, Node, Select, Struct
from ondol.api.cel.ranges import NOTHING, ONE, UNKNOWN, Range, fixed
from ondol.api.cel.types import SIZE_MAX, Type, unwrapped

Path = tuple[str, ...]
"""Where in the variables a value is, from the variable on; empty for what is computed."""


@dataclass(frozen=True, slots=True)
class _Entries:
    """The sizes of keys and values of a list or map that is built in the expression."""

    kind: str
    key: Range
    value: Range

    def union(self, other: _Entries) -> _Entries:
        return _Entries(self.kind, self.key.union(other.key), self.value.union(other.value))


@dataclass(frozen=True, slots=True)
class _Local:
    path: Path
    size: Range | None
    entries: _Entries | None


def estimate(root: Node, variables: Mapping[str, Type]) -> Range:
    """The least and the most evaluating an expression may cost."""
    return _Coster(variables).cost(root)


class _Coster:
    def __init__(self, variables: Mapping[str, Type]) -> None:
        self._variables = variables
        self._locals: list[tuple[str, _Local]] = []
        self._paths: dict[int, Path] = {}
        self._sizes: dict[int, Range] = {}
        self._entries: dict[int, _Entries] = {}

    def cost(self, node: Node) -> Range:
        return self._KINDS[type(node)](self, node)

    def _literal(self, node: Literal) -> Range:
        del node
        return NOTHING

    def _local(self, name: str) -> _Local | None:
        return next((local for each, local in reversed(self._locals) if each == name), None)

    def _ident(self, node: Ident) -> Range:
        local = self._local(node.name)
        self._paths[id(node)] = local.path if local is not None else (node.name,)
        return ONE

    def _path(self, node: Node) -> Path:
        if isinstance(node, Ident):
            local = self._local(node.name)
            if local is not None:
                return local.path
        return self._paths.get(id(node), ())

    def _select(self, node: Select) -> Range:
        if node.dotted and isinstance(node.operand, Ident):
            self._paths[id(node)] = (node.operand.name,)
            return ONE
        cost = self.cost(node.operand)
        if node.test_only:
            return cost
        self._paths[id(node)] = (*self._path(node.operand), node.name)
        return cost.plus(ONE) if node.operand.type.kind in ("map", "object", "param") else cost

    def _call(self, node: Call) -> Range:
        if node.function == "dyn" and node.target is None:
            cost = self.cost(node.args[0])
            self._copy(node, node.args[0])
            return cost.plus(ONE)
        args = [(self.cost(arg), self._argument(arg)) for arg in node.args]
        costs = [cost for cost, _ in args]
        operands = [argument for _, argument in args]
        total = NOTHING
        if node.target is not None:
            total = self.cost(node.target)
            operands.insert(0, self._argument(node.target))
        of_all: Range | None = None
        size: Range | None = None
        for overload in node.overloads:
            estimated = self._overload(node, overload.id, operands, costs)
            of_all = estimated.cost if of_all is None else of_all.union(estimated.cost)
            if estimated.size is not None:
                size = estimated.size if size is None else size.union(estimated.size)
            size = self._indexed(node, overload.id, size)
        if size is not None:
            self._sizes[id(node)] = size
        return total.plus(of_all or NOTHING)

    def _indexed(self, node: Call, overload: str, size: Range | None) -> Range | None:
        """The size of what an index finds; elsewhere what is known of the node."""
        if overload in ("index_list", "index_map"):
            part = "@items" if overload == "index_list" else "@values"
            self._paths[id(node)] = (*self._path(node.args[0]), part)
            entries = self._entries_of(node.args[0])
            size = entries.value if entries is not None else None
        return size if size is not None else self._size(node)

    def _overload(self, node: Call, id: str, operands: list[Argument], costs: list[Range]) -> Estimate:
        """The cost of one overload with that of its arguments."""
        if node.function in (nodes.AND, nodes.OR):
            return Estimate(Range(costs[0].least, costs[0].plus(costs[1]).most))
        if node.function == nodes.CONDITIONAL:
            return self._conditional(node, operands, costs)
        if node.function == "_+_":
            self._joined(node)
        estimated = estimates.of_call(node.function, id, operands)
        total = estimated.cost
        for cost in costs:
            total = total.plus(cost)
        return Estimate(total, estimated.size)

    def _conditional(self, node: Call, operands: list[Argument], costs: list[Range]) -> Estimate:
        size = operands[1].size_range.union(operands[2].size_range)
        self._joined(node, 1)
        return Estimate(costs[0].plus(costs[1].union(costs[2])), size)

    def _joined(self, node: Call, first: int = 0) -> None:
        one, other = (self._entries_of(arg) for arg in node.args[first : first + 2])
        if one is not None and other is not None:
            self._entries[id(node)] = one.union(other)

    def _argument(self, node: Node) -> Argument:
        path = self._path(node)
        element = None
        if node.type.kind == "list" and path:
            element = self._declared_size((*path, "@items"))
        return Argument(node, node.type, self._size(node), element)

    def _list(self, node: ListOf) -> Range:
        total, item = NOTHING, Range(SIZE_MAX if node.elements else 0, 0)
        for element in node.elements:
            total = total.plus(self.cost(element))
            item = item.union(self._size_range(element))
        self._entries[id(node)] = _Entries("list", ONE, item)
        return total.plus(fixed(10))

    def _map(self, node: MapOf) -> Range:
        least = SIZE_MAX if node.entries else 0
        total, key, value = NOTHING, Range(least, 0), Range(least, 0)
        for entry in node.entries:
            total = total.plus(self.cost(entry.key)).plus(self.cost(entry.value))
            key = key.union(self._size_range(entry.key))
            value = value.union(self._size_range(entry.value))
        self._entries[id(node)] = _Entries("map", key, value)
        return total.plus(fixed(30))

    def _struct(self, node: Struct) -> Range:
        total = fixed(40)
        for field in node.fields:
            total = total.plus(self.cost(field.value))
        return total

    def _comprehension(self, node: Comprehension) -> Range:
        if node.is_bind:
            return self._bind(node)
        total = self.cost(node.range).plus(self.cost(node.init))
        self._push(node.accu, self._bound(node.init))
        for name, local in self._iterated(node):
            self._push(name, local)
        condition, step = self.cost(node.condition), self.cost(node.step)
        del self._locals[-2 if node.var2 else -1 :]
        total = total.plus(self.cost(node.result))
        self._locals.pop()
        rounds = self._size_range(node.range)
        self._result(node, rounds)
        return total.plus(rounds.times(step.plus(condition)))

    def _result(self, node: Comprehension, rounds: Range) -> None:
        """The size of what a macro makes: as many elements as there are rounds."""
        if isinstance(node.init, Literal):
            self._sizes[id(node)] = self._size_range(node.init)
            return
        self._sizes[id(node)] = rounds
        entries = self._entries_of(node.step)
        if entries is not None:
            self._entries[id(node)] = entries

    def _bind(self, node: Comprehension) -> Range:
        total = self.cost(node.range).plus(self.cost(node.init))
        self._push(node.accu, self._bound(node.init))
        total = total.plus(self.cost(node.result))
        self._copy(node, node.result)
        self._locals.pop()
        return total

    def _bound(self, node: Node) -> _Local:
        return _Local(self._path(node), self._size(node), self._entries_of(node))

    def _push(self, name: str, local: _Local) -> None:
        self._locals.append((name, local))

    def _iterated(self, node: Comprehension) -> list[tuple[str, _Local]]:
        """The variables of a round: where they are in the range, and how large."""
        entries, path = self._entries_of(node.range), self._path(node.range)
        kind = entries.kind if entries is not None else node.range.type.kind
        key, value = (entries.key, entries.value) if entries is not None else (None, None)
        of_key = _Local((*path, "@indices" if kind == "list" else "@keys"), key, None)
        of_value = _Local((*path, "@items" if kind == "list" else "@values"), value, None)
        if node.var2:
            return [(node.var, of_key), (node.var2, of_value)]
        return [(node.var, of_value if kind == "list" else of_key)]

    def _copy(self, node: Node, source: Node) -> None:
        size, entries = self._size(source), self._entries_of(source)
        if size is not None:
            self._sizes[id(node)] = size
        if entries is not None:
            self._entries[id(node)] = entries

    def _entries_of(self, node: Node) -> _Entries | None:
        entries = self._entries.get(id(node))
        if entries is None and isinstance(node, Ident):
            local = self._local(node.name)
            return local.entries if local is not None else None
        return entries

    def _size_range(self, node: Node) -> Range:
        size = self._size(node)
        return size if size is not None else UNKNOWN

    def _size(self, node: Node) -> Range | None:
        size = self._sizes.get(id(node)) or _built_size(node)
        if size is not None:
            return size
        declared = self._declared_size(self._path(node))
        if declared is not None:
            self._sizes[id(node)] = declared
            return declared
        if unwrapped(node.type).kind in _OF_ONE:
            return ONE
        local = self._local(node.name) if isinstance(node, Ident) else None
        return local.size if local is not None else None

    def _declared_size(self, path: Path) -> Range | None:
        """What the schema allows at a path."""
        if not path or path[0] == nodes.ACCUMULATOR:
            return None
        # What is no variable counts as the root, as in Kubernetes, whose estimates are kept.
        type_ = self._variables.get(path[0]) or self._variables.get("self")
        for part in path[1:]:
            type_ = _inner(type_, part) if type_ is not None else None
        if type_ is None or type_.size_max is None:
            return None
        return Range(0, type_.size_max)

    _KINDS: Final[dict[type, Callable[[Any, Any], Range]]] = {
        Literal: _literal,
        Ident: _ident,
        Select: _select,
        Call: _call,
        ListOf: _list,
        MapOf: _map,
        Struct: _struct,
        Comprehension: _comprehension,
    }


_OF_ONE: Final = ("bool", "int", "uint", "double", "duration", "timestamp")


def _inner(type_: Type, part: str) -> Type | None:
    type_ = unwrapped(type_)
    if part in ("@items", "@values"):
        return type_.params[-1] if type_.kind in ("list", "map") else None
    if part == "@keys":
        return type_.params[0] if type_.kind == "map" else None
    field = (type_.fields or {}).get(part)
    return field.type if field is not None else None


def _built_size(node: Node) -> Range | None:
    """The size of what is spelled out."""
    if isinstance(node, Literal):
        return fixed(len(node.value)) if type(node.value) in (str, bytes) else ONE
    if isinstance(node, ListOf):
        return fixed(len(node.elements))
    return fixed(len(node.entries)) if isinstance(node, MapOf) else None
