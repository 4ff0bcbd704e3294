"""From protobuf messages to JSON documents, driven by the table alone."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from ondol.api import facts
from ondol.api.objects import Object
from ondol.api.protobuf import scalars
from ondol.base import protowire

Take: TypeAlias = Callable[[Object, Any], None]
"""Puts one wire value into the document it belongs to."""


@dataclass(frozen=True, slots=True)
class _Slot:
    """Where a value goes in the document, and whether zero is worth telling there."""

    name: str
    keeps_zero: bool


def message(type_name: str, data: bytes) -> Object:
    """The document of a message of a type of the table; `ValueError` if it is malformed."""
    out: Object = {}
    _into(_takers(type_name), data, out)
    return out


def _into(takers: dict[int, Take], data: bytes, out: Object) -> None:
    for number, value in protowire.fields(data):
        take = takers.get(number)
        if take is not None:
            take(out, value)


@functools.cache
def _takers(type_name: str) -> dict[int, Take]:
    fields = facts.type_named(type_name).fields
    return _by_number([(field.path, _taker(name, field)) for name, field in fields.items() if field.path])


def _by_number(takers: list[tuple[tuple[int, ...], Take]]) -> dict[int, Take]:
    """The takers of one message by number; those with a longer path stand in a message within it."""
    own = {path[0]: take for path, take in takers if len(path) == 1}
    nested: dict[int, list[tuple[tuple[int, ...], Take]]] = {}
    for path, take in takers:
        if len(path) > 1:
            nested.setdefault(path[0], []).append((path[1:], take))
    return own | {number: _unfolding(_by_number(inner)) for number, inner in nested.items()}


def _unfolding(inner: dict[int, Take]) -> Take:
    """What JSON inlines: the fields of the nested message go to the same document."""

    def take(out: Object, value: Any) -> None:
        _into(inner, _bytes(value), out)

    return take


def _bytes(value: Any) -> bytes:
    if not isinstance(value, bytes):
        raise ValueError("wrong wire type")  # noqa: TRY004  # malformed input, as every other here
    return value


def _taker(name: str, field: facts.Field) -> Take:
    marks, word = facts.split(field.type)
    read = _reader(word)
    if field.wrapped:
        read, marks = _wrapped(read), marks[:-2]
    if marks == "[]":
        return _appending(name, read, packed=word in scalars.NUMBERS)
    if marks == "{}":
        return _mapping(name, read)
    keeps_zero = field.pointer or (field.required and field.default is not None)
    return _setting(_Slot(name, keeps_zero or word not in _DROPPED), read)


_DROPPED: Final = ("string", "bytes", "int32", "int64", "bool", "double")
"""Words whose zero means absent, unless the field is a pointer or one that JSON always shows (`default`)."""


def _reader(word: str) -> scalars.Reader:
    scalar = scalars.READERS.get(word)
    if scalar is not None:
        return scalar
    special = {"raw": _raw, "schema-or-array": _array, "schema-or-bool": _bool, "schema-or-strings": _strings}
    return special.get(word) or (lambda value: message(word, _bytes(value)))


def _wrapped(read: scalars.Reader) -> scalars.Reader:
    """A list that protobuf holds in a message of its own."""

    def unwrapped(value: Any) -> list[Any]:
        return [read(item) for _, item in protowire.fields(_bytes(value))]

    return unwrapped


def _setting(slot: _Slot, read: scalars.Reader) -> Take:
    def take(out: Object, value: Any) -> None:
        decoded = read(value)
        if decoded is not None and (slot.keeps_zero or decoded):
            out[slot.name] = decoded

    return take


def _appending(name: str, read: scalars.Reader, *, packed: bool) -> Take:
    def take(out: Object, value: Any) -> None:
        items = out.setdefault(name, [])
        if packed and isinstance(value, bytes):
            at = 0
            while at < len(value):
                number, at = protowire.varint(value, at)
                items.append(read(number))
            return
        items.append(read(value))

    return take


def _mapping(name: str, read: scalars.Reader) -> Take:
    def take(out: Object, value: Any) -> None:
        parts = dict(protowire.fields(_bytes(value)))
        key = _bytes(parts.get(1, b"")).decode()
        out.setdefault(name, {})[key] = read(parts.get(2, b""))

    return take


def _raw(value: Any) -> Any:
    """An embedded object: JSON, or protobuf in its envelope."""
    from ondol.api import protobuf  # noqa: PLC0415  # an envelope may hold an envelope

    raw = _bytes(dict(protowire.fields(_bytes(value))).get(1, b""))
    return protobuf.decode(raw) if raw.startswith(protobuf.MAGIC) else scalars.READERS["json"](value)


def _schema(value: Any) -> Object:
    return message(facts.JSON_SCHEMA_PROPS, _bytes(value))


def _array(value: Any) -> Any:
    parts = list(protowire.fields(_bytes(value)))
    alone = [part for number, part in parts if number == 1]
    return _schema(alone[0]) if alone else [_schema(part) for number, part in parts if number == 2]


def _bool(value: Any) -> Any:
    parts = dict(protowire.fields(_bytes(value)))
    return _schema(parts[2]) if 2 in parts else bool(parts.get(1, 0))


def _strings(value: Any) -> Any:
    parts = list(protowire.fields(_bytes(value)))
    alone = [part for number, part in parts if number == 1]
    return _schema(alone[0]) if alone else [_bytes(part).decode() for number, part in parts if number == 2]
