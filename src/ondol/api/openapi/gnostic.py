"""The v2 document as the protobuf message that client-go asks for (`openapi.v2.Document`).

Go clients read `/openapi/v2` in this form only. The numbers below are the message's; words of a
schema that it has no field for travel as vendor extensions, in YAML (of which JSON is a part).
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from ondol.base import protowire

ACCEPTED: Final = (
    "application/com.github.proto-openapi.spec.v2@v1.0+protobuf",
    "application/com.github.proto-openapi.spec.v2.v1.0+protobuf",
)
"""What clients send in `Accept`; the older spelling is no valid media type, so answers use the other."""
MEDIA_TYPE: Final = ACCEPTED[1]

_METHODS: Final = {"get": 2, "put": 3, "post": 4, "delete": 5, "options": 6, "head": 7, "patch": 8}
_SCHEMA_TEXT: Final = {"$ref": 1, "format": 2, "title": 3, "description": 4, "pattern": 13}
_SCHEMA_DOUBLE: Final = {"multipleOf": 6, "maximum": 7, "minimum": 9}
_SCHEMA_BOOL: Final = {"exclusiveMaximum": 8, "exclusiveMinimum": 10, "uniqueItems": 16}
_SCHEMA_INT: Final = {
    "maxLength": 11,
    "minLength": 12,
    "maxItems": 14,
    "minItems": 15,
    "maxProperties": 17,
    "minProperties": 18,
}


def encode(document: Mapping[str, Any]) -> bytes:
    """The message of a v2 document, of this package or another server; `KeyError` and the like for garbage.

    Of the latter, parameters of headers and forms are told as those of a query.
    """
    info = document["info"]
    paths = b"".join(_named(2, name, _path_item(item)) for name, item in document["paths"].items())
    definitions = b"".join(_named(1, name, _schema(item)) for name, item in document["definitions"].items())
    return b"".join(
        (
            _text(1, document["swagger"]),
            protowire.put_bytes(2, _text(1, info["title"]) + _text(2, info["version"])),
            protowire.put_bytes(8, paths),
            protowire.put_bytes(9, definitions),
        )
    )


def _text(number: int, value: str) -> bytes:
    return protowire.put_bytes(number, value.encode())


def _texts(number: int, values: Iterable[str]) -> bytes:
    return b"".join(_text(number, value) for value in values)


def _named(number: int, name: str, value: bytes) -> bytes:
    """An entry of one of the format's maps: a name and a message."""
    return protowire.put_bytes(number, _text(1, name) + protowire.put_bytes(2, value))


def _any(value: Any) -> bytes:
    return _text(2, json.dumps(value, ensure_ascii=False))


def _extensions(number: int, document: Mapping[str, Any]) -> bytes:
    return b"".join(
        _named(number, key, _any(value)) for key, value in document.items() if key.startswith("x-")
    )


def _path_item(item: Mapping[str, Any]) -> bytes:
    parts = [
        protowire.put_bytes(number, _operation(item[name]))
        for name, number in _METHODS.items()
        if name in item
    ]
    parts += [protowire.put_bytes(9, _parameter(parameter)) for parameter in item.get("parameters") or ()]
    return b"".join(parts)


def _operation(operation: Mapping[str, Any]) -> bytes:
    responses = b"".join(
        _named(1, code, _response(answer)) for code, answer in operation["responses"].items()
    )
    return b"".join(
        (
            _texts(1, operation.get("tags") or ()),
            _text(5, operation["operationId"]) if "operationId" in operation else b"",
            _texts(6, operation.get("produces") or ()),
            _texts(7, operation.get("consumes") or ()),
            *(protowire.put_bytes(8, _parameter(each)) for each in operation.get("parameters") or ()),
            protowire.put_bytes(9, responses),
            _extensions(13, operation),
        )
    )


def _response(response: Mapping[str, Any]) -> bytes:
    """A ResponseValue holding a Response holding a SchemaItem holding a Schema, if the answer has any."""
    described = _text(1, response.get("description") or "")
    if "schema" in response:
        described += protowire.put_bytes(2, protowire.put_bytes(1, _schema(response["schema"])))
    return protowire.put_bytes(1, described)


def _parameter(parameter: Mapping[str, Any]) -> bytes:
    """A ParametersItem: of a body, of a path or of a query."""
    if parameter["in"] == "body":
        needed = protowire.put_number(4, 1) if parameter.get("required") else b""
        body = (
            _text(2, parameter["name"])
            + _text(3, "body")
            + needed
            + protowire.put_bytes(5, _schema(parameter["schema"]))
        )
        return protowire.put_bytes(1, protowire.put_bytes(1, body))
    path = parameter["in"] == "path"
    described = b"".join(
        (
            protowire.put_number(1, 1) if parameter.get("required") else b"",
            _text(2, parameter["in"]),
            _text(4, parameter["name"]),
            _text(5 if path else 6, parameter["type"]),
            protowire.put_number(19 if path else 20, 1) if parameter.get("uniqueItems") else b"",
        )
    )
    return protowire.put_bytes(1, protowire.put_bytes(2, protowire.put_bytes(4 if path else 3, described)))


def _schema(schema: Mapping[str, Any]) -> bytes:
    return b"".join(_word(key, value) for key, value in schema.items())


def _word(key: str, value: Any) -> bytes:
    if key in _SCHEMA_TEXT:
        return _text(_SCHEMA_TEXT[key], value)
    if key in _SCHEMA_BOOL:
        return protowire.put_number(_SCHEMA_BOOL[key], int(value))
    if key in _SCHEMA_INT:
        return protowire.put_number(_SCHEMA_INT[key], value)
    if key in _SCHEMA_DOUBLE:
        return protowire.put_varint(_SCHEMA_DOUBLE[key] << 3 | protowire.FIXED64) + struct.pack("<d", value)
    structured = _STRUCTURED.get(key)
    if structured is not None:
        return structured(value)
    return _named(31, key if key.startswith("x-") else f"x-{key}", _any(value))


def _additional(value: Any) -> bytes:
    if isinstance(value, Mapping):
        return protowire.put_bytes(21, protowire.put_bytes(1, _schema(value)))
    return protowire.put_bytes(21, protowire.put_number(2, int(value)))


def _properties(value: Mapping[str, Any]) -> bytes:
    return protowire.put_bytes(25, b"".join(_named(1, name, _schema(each)) for name, each in value.items()))


_STRUCTURED: Final[dict[str, Callable[[Any], bytes]]] = {
    "default": lambda value: protowire.put_bytes(5, _any(value)),
    "example": lambda value: protowire.put_bytes(30, _any(value)),
    "required": lambda value: _texts(19, value),
    "enum": lambda value: b"".join(protowire.put_bytes(20, _any(each)) for each in value),
    "additionalProperties": _additional,
    "type": lambda value: protowire.put_bytes(22, _text(1, value)),
    "items": lambda value: protowire.put_bytes(23, protowire.put_bytes(1, _schema(value))),
    "properties": _properties,
}
