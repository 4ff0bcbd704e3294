"""From a checked tree to closures: `run(frame)` is the value of a node.

A frame is a list: what was spent, what may be spent, values read from JSON so far, then the variables, those
of the activation first and those of macros behind. Each closure adds its cost as it goes, what cel-go counts:

    self.min <= self.max     1 for self and 1 for a selection, twice; 1 for the comparison

The limit is looked at where work is repeated or grows: in every round of a macro, and around calls.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from ondol.api.cel import calls, comprehensions, names, nodes, values
from ondol.api.cel.errors import EvaluationError, NoSuchOverload
from ondol.api.cel.frames import CACHE, COST, FIRST_SLOT, Frame, Run
from ondol.api.cel.nodes import Call, Comprehension, Ident, ListOf, Literal, MapOf, Node, Select, Struct
from ondol.api.cel.optionals import optional_field
from ondol.api.cel.types import VARIABLES, Read, Type, field_of
from ondol.api.cel.values import Optional, TypeValue

_CREATE_LIST: Final = 10
_CREATE_MAP: Final = 30
_CREATE_STRUCT: Final = 40


class Compiled:
    """The closure of an expression, and how its frames look."""

    def __init__(self, root: Node, variables: Mapping[str, Type]) -> None:
        compiler = Compiler(variables)
        self.run = compiler.compile(root)
        self.slots = {name: FIRST_SLOT + place for place, name in enumerate(variables)}
        self.size = compiler.size
        self.readers = {name: type_.read for name, type_ in variables.items() if type_.read is not None}


class Compiler:
    """Compiles the nodes of one expression; knows which slot each variable is in."""

    def __init__(self, variables: Mapping[str, Type]) -> None:
        self._scopes = [{name: FIRST_SLOT + place for place, name in enumerate(variables)}]
        self.size = FIRST_SLOT + len(variables)

    def compile(self, node: Node) -> Run:
        return self._KINDS[type(node)](self, node)

    def push(self, *variables: str) -> list[int]:
        """Slots of a macro's variables, which hide others of their names until `pop`."""
        places = list(range(self.size, self.size + len(variables)))
        self.size += len(variables)
        self._scopes.append(dict(zip(variables, places, strict=True)))
        return places

    def pop(self) -> None:
        self._scopes.pop()

    def _slot(self, name: str) -> int | None:
        scopes = self._scopes[:1] if name.startswith(".") else reversed(self._scopes)
        name = name.removeprefix(".")
        return next((scope[name] for scope in scopes if name in scope), None)

    def constant(self, node: Node) -> tuple[Any] | None:
        """The value of a node that is the same in every evaluation, which costs nothing then."""
        if isinstance(node, Literal):
            return (node.value,)
        if isinstance(node, ListOf) and not node.optional:
            parts = [self.constant(element) for element in node.elements]
            return None if any(p is None for p in parts) else ([p[0] for p in parts if p is not None],)
        if isinstance(node, MapOf) and not any(entry.optional for entry in node.entries):
            return self._constant_map(node)
        if isinstance(node, Call):
            return calls.folded(self, node)
        return None

    def _constant_map(self, node: MapOf) -> tuple[Any] | None:
        out: dict[Any, Any] = {}
        for entry in node.entries:
            key, value = self.constant(entry.key), self.constant(entry.value)
            if key is None or value is None or type(key[0]) is not str or key[0] in out:
                return None
            out[key[0]] = value[0]
        return (out,)

    def _literal(self, node: Literal) -> Run:
        value = node.value
        return lambda _: value

    def _ident(self, node: Ident) -> Run:
        if node.constant is not None:
            return _type_value(node.constant)
        slot = self._slot(node.name)
        assert slot is not None  # noqa: S101 - the checker knew the name

        def run(frame: Frame) -> Any:
            frame[COST] += 1
            return frame[slot]

        return run

    def _select(self, node: Select) -> Run:
        if node.dotted and isinstance(node.operand, Ident):
            return self._ident(node.operand)
        key, read = _key_and_read(node.operand.type, node)
        of_object = node.operand.type.kind == "object" and node.operand.type.name != VARIABLES
        if node.test_only:
            return _presence(self.compile(node.operand), key, _base_cost(node.operand), nulls=not of_object)
        if isinstance(node.operand, Ident) and of_object:
            slot = self._slot(node.operand.name)
            assert slot is not None  # noqa: S101 - likewise
            return _field_of_variable(slot, key, read)
        operand = self.compile(node.operand)
        return _field(operand, key, read, 1 + _base_cost(node.operand), nulls=not of_object)

    def _call(self, node: Call) -> Run:
        return calls.compiled(self, node)

    def _list(self, node: ListOf) -> Run:
        constant = self.constant(node)
        if constant is not None:
            value = constant[0]
            return lambda _: value
        runs = [self.compile(element) for element in node.elements]
        optional = node.optional

        def run(frame: Frame) -> Any:
            frame[COST] += _CREATE_LIST
            if not optional:
                return [element(frame) for element in runs]
            out = []
            for place, element in enumerate(runs):
                value = element(frame)
                if place not in optional:
                    out.append(value)
                elif _present(value):
                    out.append(value.value)
            return out

        return run

    def _map(self, node: MapOf) -> Run:
        constant = self._constant_map(node) if not any(e.optional for e in node.entries) else None
        if constant is not None:
            value = constant[0]
            return lambda _: value
        entries = [
            (self.compile(entry.key), self.compile(entry.value), entry.optional) for entry in node.entries
        ]

        def run(frame: Frame) -> Any:
            frame[COST] += _CREATE_MAP
            out: dict[Any, Any] = {}
            for key_of, value_of, optional in entries:
                key, value = values.key(key_of(frame)), value_of(frame)
                if optional:
                    if not _present(value):
                        continue
                    value = value.value
                if key in out:
                    raise EvaluationError(f"insert failed: key {key} already exists")
                out[key] = value
            return out

        return run

    def _struct(self, node: Struct) -> Run:
        fields = []
        for each in node.fields:
            declared = field_of(node.type, each.name)
            key = declared.key if declared is not None else each.name
            fields.append((key, self.compile(each.value), each.optional))

        def run(frame: Frame) -> Any:
            frame[COST] += _CREATE_STRUCT
            out: dict[str, Any] = {}
            for key, value_of, optional in fields:
                value = value_of(frame)
                if optional:
                    if not _present(value):
                        continue
                    value = value.value
                out[key] = value
            return out

        return run

    def _comprehension(self, node: Comprehension) -> Run:
        return comprehensions.compiled(self, node)

    _KINDS: Final[dict[type, Callable[[Any, Any], Run]]] = {
        Literal: _literal,
        Ident: _ident,
        Select: _select,
        Call: _call,
        ListOf: _list,
        MapOf: _map,
        Struct: _struct,
        Comprehension: _comprehension,
    }


def _type_value(type_: Type) -> Run:
    value = TypeValue({"null": "null_type"}.get(type_.kind, type_.name or type_.kind))

    return lambda _: value


def _base_cost(node: Node) -> int:
    """One for what begins a chain of selections without being a variable."""
    if isinstance(node, Ident | Select):
        return 0
    return 0 if isinstance(node, Call) and node.function == nodes.INDEX else 1


def _present(value: Any) -> bool:
    if type(value) is not Optional:
        raise NoSuchOverload
    return value.has_value


def _key_and_read(operand: Type, node: Select) -> tuple[str, Read | None]:
    """The key of JSON a selection takes, and how what is there is read."""
    field = field_of(operand, node.name) if operand.kind == "object" else None
    return (field.key, field.type.read) if field is not None else (node.name, None)


def read_once(frame: Frame, read: Read, value: Any) -> Any:
    """The value a JSON value stands for; lists and maps are read once in an evaluation."""
    if type(value) is not list and type(value) is not dict:
        return None if value is None else read(value)
    place = id(value)
    cache = frame[CACHE]
    if place not in cache:
        cache[place] = (read(value), value)  # kept alive, so that its place is no other's
    return cache[place][0]


def _missing(operand: Any, key: str) -> EvaluationError:
    if type(operand) is list or type(operand) not in (dict, type(None)):
        return NoSuchOverload()
    return EvaluationError(f"no such key: {key}")


def _field_of_variable(slot: int, key: str, read: Read | None) -> Run:
    """`name.key` of an object, the selection rules are full of; null is as good as absent."""
    if read is None:

        def run(frame: Frame) -> Any:
            frame[COST] += 2
            try:
                value = frame[slot][key]
            except (KeyError, TypeError):
                raise _missing(frame[slot], key) from None
            if value is None:
                raise EvaluationError(f"no such key: {key}")
            return value

        return run

    def run_reading(frame: Frame) -> Any:
        frame[COST] += 2
        try:
            value = frame[slot][key]
        except (KeyError, TypeError):
            raise _missing(frame[slot], key) from None
        if value is None:
            raise EvaluationError(f"no such key: {key}")
        return read_once(frame, read, value)

    return run_reading


def _field(operand: Run, key: str, read: Read | None, cost: int, *, nulls: bool) -> Run:
    """A selection; a field that is null is no field of an object, but an entry of a map (`nulls`)."""

    def run(frame: Frame) -> Any:
        value = operand(frame)
        frame[COST] += cost
        if type(value) is dict:
            if key in value:
                inner = value[key]
                if inner is None and not nulls:
                    raise EvaluationError(f"no such key: {key}")
                return inner if read is None else read_once(frame, read, inner)
            key_of_json = names.unescaped(key)
            if key_of_json in value:
                return value[key_of_json]
            raise EvaluationError(f"no such key: {key}")
        if type(value) is Optional:
            return optional_field(value, key)
        return _of_other(value, key)

    return run


def _of_other(value: Any, key: str) -> Any:
    """A field of what is no dict: an object that finds its fields when they are asked for."""
    if isinstance(value, Mapping):
        try:
            return value[key]
        except KeyError:
            raise EvaluationError(f"no such key: {key}") from None
    raise _missing(value, key)


def _presence(operand: Run, key: str, cost: int, *, nulls: bool) -> Run:
    def run(frame: Frame) -> Any:
        value = operand(frame)
        frame[COST] += cost
        if type(value) is Optional:
            return optional_field(value, key).has_value
        if not isinstance(value, Mapping):
            raise _missing(value, key)
        if key not in value and names.unescaped(key) not in value:
            return False
        return nulls or value.get(key) is not None

    return run
