"""From JSON documents to protobuf messages, driven by the table alone.

Fields are written in order of number and, as Kubernetes writes them, with their zero where a field is
not a pointer.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from ondol.api import facts
from ondol.api.protobuf import scalars
from ondol.base import protowire

Put: TypeAlias = Callable[[Mapping[str, Any]], bytes]
"""The bytes of one field, tags included, taken from the document it stands in."""


def message(type_name: str, document: Mapping[str, Any]) -> bytes:
    """The message of a document of a type of the table."""
    return b"".join(put(document) for put in _putters(type_name))


@functools.cache
def _putters(type_name: str) -> list[Put]:
    fields = facts.type_named(type_name).fields
    return _in_order(
        [(field.path, _putter(name, field, field.path[-1])) for name, field in fields.items() if field.path]
    )


def _in_order(putters: list[tuple[tuple[int, ...], Put]]) -> list[Put]:
    """The putters of one message by number; those with a longer path stand in a message within it."""
    own = {path[0]: put for path, put in putters if len(path) == 1}
    nested: dict[int, list[tuple[tuple[int, ...], Put]]] = {}
    for path, put in putters:
        if len(path) > 1:
            nested.setdefault(path[0], []).append((path[1:], put))
    own |= {number: _folding(number, _in_order(inner)) for number, inner in nested.items()}
    return [own[number] for number in sorted(own)]


def _folding(number: int, inner: list[Put]) -> Put:
    return lambda document: protowire.put_bytes(number, b"".join(put(document) for put in inner))


def _putter(name: str, field: facts.Field, number: int) -> Put:
    marks, word = facts.split(field.type)
    write = _writer(word)
    if field.wrapped:
        write, marks, word = _wrapped(write), marks[:-2], ""
    tagged = _tagged(number, word, write)
    if marks == "[]":
        return lambda document: b"".join(tagged(item) for item in document.get(name) or ())
    if marks == "{}":
        return _mapping(name, number, _tagged(2, word, write))
    absent = b"" if field.pointer or word in ("bytes", "raw", "json", "fields") else None

    def put(document: Mapping[str, Any]) -> bytes:
        value = document.get(name)
        return absent if value is None and absent is not None else tagged(value)

    if field.wrapped:
        return lambda document: tagged(document[name]) if document.get(name) is not None else b""
    return put


def _tagged(number: int, word: str, write: scalars.Writer) -> scalars.Writer:
    if word in scalars.NUMBERS:
        tag = protowire.put_varint(number << 3 | protowire.VARINT)
        return lambda value: tag + write(value)
    if word == "double":
        tag = protowire.put_varint(number << 3 | protowire.FIXED64)
        return lambda value: tag + write(value)
    return lambda value: protowire.put_bytes(number, write(value))


def _mapping(name: str, number: int, tagged: scalars.Writer) -> Put:
    def put(document: Mapping[str, Any]) -> bytes:
        entries = sorted((document.get(name) or {}).items())
        return b"".join(
            protowire.put_bytes(number, protowire.put_bytes(1, key.encode()) + tagged(value))
            for key, value in entries
        )

    return put


def _writer(word: str) -> scalars.Writer:
    scalar = scalars.WRITERS.get(word)
    if scalar is not None:
        return scalar
    special: dict[str, scalars.Writer] = {
        "raw": scalars.WRITERS["json"],
        "schema-or-array": _array,
        "schema-or-bool": _bool,
        "schema-or-strings": _strings,
    }
    return special.get(word) or (lambda value: message(word, value or {}))


def _wrapped(write: scalars.Writer) -> scalars.Writer:
    return lambda value: b"".join(protowire.put_bytes(1, write(item)) for item in value or ())


def _schema(number: int, value: Mapping[str, Any]) -> bytes:
    return protowire.put_bytes(number, message(facts.JSON_SCHEMA_PROPS, value))


def _array(value: Any) -> bytes:
    if isinstance(value, Mapping):
        return _schema(1, value)
    return b"".join(_schema(2, item) for item in value)


def _bool(value: Any) -> bytes:
    if isinstance(value, Mapping):
        return protowire.put_number(1, 1) + _schema(2, value)
    return protowire.put_number(1, int(value))


def _strings(value: Any) -> bytes:
    if isinstance(value, Mapping):
        return _schema(1, value)
    return b"".join(protowire.put_bytes(2, item.encode()) for item in value)
