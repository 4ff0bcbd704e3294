"""The type of what a structural schema describes, and how large such a value may be.

Sizes are those a request may bring: they bound the estimates of what a rule costs, and so decide which
definitions are accepted (apiserver `pkg/cel/common`, `SchemaDeclType`).
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from ondol.api.cel import names, times
from ondol.api.cel import types as t
from ondol.api.cel.errors import EvaluationError
from ondol.api.cel.types import FieldType, Read, Type

REQUEST_BYTES_MAX: Final = 3 * 1024 * 1024
Schema = Mapping[str, Any]

_STRING: Final[Schema] = {"type": "string"}
_METADATA: Final[Schema] = {"type": "object", "properties": {"name": _STRING, "generateName": _STRING}}


def of_root(schema: Schema) -> Type | None:
    """The type of a whole resource, of whose metadata rules see the name alone."""
    return _of(with_metadata(schema), "self")


def of_schema(schema: Schema, name: str = "self") -> Type | None:
    """The type of a value; None for what expressions cannot see, since no schema describes it."""
    if schema.get("x-kubernetes-embedded-resource"):
        schema = with_metadata(schema)
    return _of(schema, name)


def with_metadata(schema: Schema) -> Schema:
    """The schema of a resource with the fields every resource has."""
    properties = {**(schema.get("properties") or {}), "kind": _STRING, "apiVersion": _STRING}
    metadata = properties.get("metadata") or {}
    inner = metadata.get("properties") or {}
    if metadata.get("type") != "object" or not {"name", "generateName"} <= inner.keys():
        properties["metadata"] = _METADATA
    return {**schema, "properties": properties}


def _of(schema: Schema, name: str) -> Type | None:
    if schema.get("x-kubernetes-int-or-string"):
        limit = schema.get("maxLength")
        most = REQUEST_BYTES_MAX - 2 if limit is None else max(limit, 0) * 4
        return replace(t.DYN, size_max=most, size_min=1)
    kind = schema.get("type")
    if kind == "array":
        return _list(schema, name)
    if kind == "object":
        values = schema.get("additionalProperties")
        return _map(schema, values, name) if isinstance(values, Mapping) else _object(schema, name)
    if kind == "string":
        return _string(schema)
    return _SCALARS.get(str(kind))


def _list(schema: Schema, name: str) -> Type | None:
    items = schema.get("items")
    element = of_schema(items, f"{name}.@items") if isinstance(items, Mapping) else None
    if element is None:
        return None
    limit = schema.get("maxItems")
    most = (REQUEST_BYTES_MAX - 2) // (element.size_min + 1) if limit is None else max(limit, 0)
    read = _each(element.read)
    return replace(
        t.list_of(element),
        size_max=most,
        size_min=2,
        list_type=schema.get("x-kubernetes-list-type") or "",
        list_keys=tuple(schema.get("x-kubernetes-list-map-keys") or ()),
        read=read,
    )


def _map(schema: Schema, values: Schema, name: str) -> Type | None:
    value = of_schema(values, f"{name}.@values")
    if value is None:
        return None
    limit = schema.get("maxProperties")
    most = (REQUEST_BYTES_MAX - 2) // (value.size_min + 6) if limit is None else max(limit, 0)
    read = _each_value(value.read)
    return replace(t.map_of(_KEY, value), size_max=most, size_min=2, read=read)


def _object(schema: Schema, name: str) -> Type:
    fields: dict[str, FieldType] = {}
    needed = set(schema.get("required") or ())
    size_min = 2
    for key, prop in (schema.get("properties") or {}).items():
        type_ = of_schema(prop, f"{name}.{key}")
        if type_ is None:
            continue
        identifier = names.escaped(key)
        if identifier is not None:
            fields[identifier] = FieldType(key, type_)
        if key in needed and prop.get("default") is None:
            size_min += len(key) + type_.size_min + 4
    return replace(t.object_named(name, fields), size_max=0, size_min=size_min)


def _string(schema: Schema) -> Type:
    fixed = _FORMATS.get(schema.get("format") or "")
    limit = schema.get("maxLength")
    if schema.get("format") == "byte":
        most = REQUEST_BYTES_MAX - 2 if limit is None else max(limit, 0)
        return replace(t.BYTES, size_max=most, size_min=2, read=_bytes)
    if fixed is not None:
        return fixed
    if limit is not None:
        most = max(limit, 0) * 4
    elif schema.get("enum"):
        most = max((len(v.encode()) for v in schema["enum"] if isinstance(v, str)), default=0)
    else:
        most = REQUEST_BYTES_MAX - 2
    return replace(t.STRING, size_max=most, size_min=2)


def _each(read: Read | None) -> Read | None:
    return None if read is None else lambda value: [read(item) for item in value]


def _each_value(read: Read | None) -> Read | None:
    return None if read is None else lambda value: {key: read(item) for key, item in value.items()}


def _number(value: Any) -> Any:
    return float(value) if type(value) is int else value


def _parsed(parse: Read, what: str) -> Read:
    def read(value: Any) -> Any:
        if type(value) is not str:
            return value
        try:
            return parse(value)
        except (ValueError, binascii.Error) as wrong:
            raise EvaluationError(f"Invalid {what} {value}: {wrong}") from None

    return read


_bytes: Final = _parsed(lambda text: base64.b64decode(text, validate=True), "byte formatted string")
_duration: Final = _parsed(lambda text: times.read_duration(text, days=True), "duration")
_moment: Final = _parsed(times.read_timestamp, "date-time formatted string")
_date: Final = _parsed(times.read_date, "date formatted string")

_KEY: Final = replace(t.STRING, size_max=0)
_FORMATS: Final = {
    "duration": replace(t.DURATION, size_max=32, size_min=3, read=_duration),
    "date": replace(t.TIMESTAMP, size_max=12, size_min=12, read=_date),
    "date-time": replace(t.TIMESTAMP, size_max=32, size_min=21, read=_moment),
}
_SCALARS: Final = {
    "boolean": replace(t.BOOL, size_max=0, size_min=4),
    "number": replace(t.DOUBLE, size_max=0, size_min=1, read=_number),
    "integer": replace(t.INT, size_max=0, size_min=1),
}
