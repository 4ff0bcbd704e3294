"""The types of CEL, and how two of them are made to agree.

A type that came from a schema also says what the schema says of the value: its fields, how large it may be,
how its JSON is read. None of that takes part in comparing types.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

SIZE_MAX: Final = 2**64 - 1
"""Stands for a size that nothing bounds."""

VARIABLES: Final = "kubernetes.variables"
"""The object of a policy's variables: unlike the fields of other objects, one of them may be null."""

Read = Callable[[Any], Any]


@dataclass(frozen=True, slots=True)
class Type:
    """`kind` is one of the words below; `name` that of an object, an opaque type or a type parameter."""

    kind: str
    name: str = ""
    params: tuple[Type, ...] = ()
    fields: Mapping[str, FieldType] | None = field(default=None, compare=False, repr=False)
    """The fields of an object."""
    size_max: int | None = field(default=None, compare=False, repr=False)
    """The most characters, bytes, elements or entries the schema allows; None where no schema speaks."""
    size_min: int = field(default=0, compare=False, repr=False)
    """The fewest bytes of JSON."""
    list_type: str = field(default="", compare=False, repr=False)
    list_keys: tuple[str, ...] = field(default=(), compare=False, repr=False)
    read: Read | None = field(default=None, compare=False, repr=False)
    """From JSON to the value; None where they are the same."""

    def __str__(self) -> str:
        return formatted(self)


@dataclass(frozen=True, slots=True)
class FieldType:
    """A field of an object: `key` is its name in JSON."""

    key: str
    type: Type


DYN: Final = Type("dyn")
ERROR: Final = Type("error")
NULL: Final = Type("null")
BOOL: Final = Type("bool")
INT: Final = Type("int")
UINT: Final = Type("uint")
DOUBLE: Final = Type("double")
STRING: Final = Type("string")
BYTES: Final = Type("bytes")
DURATION: Final = Type("duration", "google.protobuf.Duration")
TIMESTAMP: Final = Type("timestamp", "google.protobuf.Timestamp")
_NULLABLE: Final = ("opaque", "object", "duration", "timestamp")
_OPTIONAL: Final = "optional_type"


def list_of(element: Type) -> Type:
    return Type("list", "list", (element,))


def map_of(key: Type, value: Type) -> Type:
    return Type("map", "map", (key, value))


def optional_of(value: Type) -> Type:
    return Type("opaque", _OPTIONAL, (value,))


def type_of(value: Type) -> Type:
    return Type("type", "type", (value,))


def param(name: str) -> Type:
    return Type("param", name)


def object_named(name: str, fields: Mapping[str, FieldType] | None = None) -> Type:
    return Type("object", name, fields=fields)


def field_of(type_: Type, name: str) -> FieldType | None:
    """A field of an object; those whose names are reserved are found by both their spellings."""
    if type_.fields is None:
        return None
    return type_.fields.get(name) or type_.fields.get(f"__{name}__")


def is_optional(type_: Type) -> bool:
    return type_.kind == "opaque" and type_.name == _OPTIONAL


def unwrapped(type_: Type) -> Type:
    """What an optional holds; any other type itself."""
    return type_.params[0] if is_optional(type_) else type_


def formatted(type_: Type) -> str:
    """A type as messages name it."""
    if type_.kind in ("list", "map", "opaque", "type") and type_.params:
        return f"{type_.name}({', '.join(formatted(inner) for inner in type_.params)})"
    if type_.kind == "error":
        return "!error!"
    return type_.name or type_.kind


class Unifier:
    """The type parameters of one expression, and what they were found to stand for."""

    def __init__(self) -> None:
        self._bound: dict[str, Type] = {}
        self._journal: list[tuple[str, Type | None]] = []
        """What each binding replaced, to take it back."""
        self._fresh = 0

    def fresh(self) -> Type:
        """A type parameter nobody has used."""
        self._fresh += 1
        return Type("param", f"_var{self._fresh - 1}")

    def instance(self, types: tuple[Type, ...]) -> tuple[Type, ...]:
        """The types with their parameters replaced by fresh ones."""
        renamed: dict[str, Type] = {}
        return tuple(self._renamed(each, renamed) for each in types)

    def _renamed(self, type_: Type, renamed: dict[str, Type]) -> Type:
        if type_.kind == "param":
            if type_.name not in renamed:
                renamed[type_.name] = self.fresh()
            return renamed[type_.name]
        if not type_.params:
            return type_
        return Type(type_.kind, type_.name, tuple(self._renamed(p, renamed) for p in type_.params))

    def assignable(self, targets: tuple[Type, ...], values: tuple[Type, ...]) -> bool:
        """Whether all pairs can agree; if so, what that says of the parameters is remembered."""
        mark = len(self._journal)
        if len(targets) == len(values) and all(map(self._agree, targets, values)):
            return True
        while len(self._journal) > mark:
            name, before = self._journal.pop()
            if before is None:
                del self._bound[name]
            else:
                self._bound[name] = before
        return False

    def _note(self, name: str, type_: Type) -> None:
        self._journal.append((name, self._bound.get(name)))
        self._bound[name] = type_

    def resolved(self, type_: Type, *, final: bool = False) -> Type:
        """The type with all that is known of its parameters; `final` makes the unknown ones dyn."""
        if type_.kind == "param":
            bound = self._bound.get(type_.name)
            if bound is not None:
                return self.resolved(bound, final=final)
            return DYN if final else type_
        if not type_.params:
            return type_
        inner = tuple(self.resolved(p, final=final) for p in type_.params)
        if inner == type_.params:
            return type_
        return Type(type_.kind, type_.name, inner)

    def _agree(self, one: Type, other: Type) -> bool:
        if one is other:
            return True
        if other.kind == "param":
            agrees, bound = self._bind(one, other)
            if agrees or bound:
                return agrees
        if one.kind == "param":
            return self._bind(other, one)[0]
        if one.kind in ("dyn", "error") or other.kind in ("dyn", "error"):
            return True
        if one.kind == "null" or other.kind == "null":
            return one.kind == other.kind or (other if one.kind == "null" else one).kind in _NULLABLE
        if one.kind != other.kind:
            return False
        if one.kind == "type":
            return True
        if one.name != other.name or len(one.params) != len(other.params):
            return False
        return all(map(self._agree, one.params, other.params))

    def _bind(self, value: Type, parameter: Type) -> tuple[bool, bool]:
        """Whether the parameter may stand for the type, and whether it stood for one already."""
        if value == parameter:
            return True, True
        bound = self._bound.get(parameter.name)
        if bound is not None:
            if value == bound:
                return True, True
            if not self._agree(value, bound):
                return False, True
            general = value if _less_specific(value, bound) else bound
            if not self._occurs(parameter, general):
                self._note(parameter.name, general)
            return True, True
        if self._occurs(parameter, value):
            return False, False
        self._note(parameter.name, value)
        return True, False

    def _occurs(self, parameter: Type, type_: Type) -> bool:
        if type_ == parameter:
            return True
        if type_.kind == "param":
            bound = self._bound.get(type_.name)
            return bound is not None and self._occurs(parameter, bound)
        return any(self._occurs(parameter, inner) for inner in type_.params)


def most_general(one: Type, other: Type) -> Type:
    """The more general of two types that agree."""
    return one if _less_specific(one, other) else other


def _less_specific(one: Type, other: Type) -> bool:
    if one.kind in ("dyn", "param"):
        return True
    if other.kind in ("dyn", "param") or one.kind != other.kind:
        return False
    if one.kind == "type":
        return True
    if one.params or other.params:
        return one.name == other.name and all(map(_less_specific, one.params, other.params))
    return one == other
