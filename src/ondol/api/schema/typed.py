"""Decoding of built-in kinds: what a document of a known type is, whatever JSON spelled it.

`Typed` takes the place of Go's typed structs: unknown fields and nulls go, empty optional values go,
quantities and times get their one spelling, and a value of the wrong JSON type is an error that names
its field. Each type is compiled once into closures; a document is walked once and copied on the way.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import copy
import functools
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final, TypeAlias

from ondol.api import facts
from ondol.api.objects import Object
from ondol.api.schema import model
from ondol.base import errors, quantity, timestamps

_STRUCT_ZEROS: Final = {"int-or-string": 0, "quantity": "0", "duration": "0s"}
"""Structs in Go, though scalars in JSON: an absent one is written as its zero value."""
_SHOWN_ZEROS: Final[Mapping[tuple[str, str], Any]] = {
    ("io.k8s.api.apps.v1.StatefulSetStatus", "availableReplicas"): 0,
    ("io.k8s.api.batch.v1.PodFailurePolicyOnPodConditionsPattern", "status"): "",
    ("io.k8s.api.policy.v1.PodDisruptionBudgetStatus", "currentHealthy"): 0,
    ("io.k8s.api.policy.v1.PodDisruptionBudgetStatus", "desiredHealthy"): 0,
    ("io.k8s.api.policy.v1.PodDisruptionBudgetStatus", "disruptionsAllowed"): 0,
    ("io.k8s.api.policy.v1.PodDisruptionBudgetStatus", "expectedPods"): 0,
    ("io.k8s.api.rbac.v1.RoleRef", "apiGroup"): "",
    ("io.k8s.api.scheduling.v1.PriorityClass", "value"): 0,
}
"""Fields that the schema calls optional and that Go writes always; with the value of an absent one."""

Decode: TypeAlias = Callable[[Any], Any]
Fill: TypeAlias = Callable[[Any], None]

_TIME: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")
_MICRO: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")
_RANGES: Final = {"int32": 1 << 31, "int64": 1 << 63}
_EMPTY_KINDS: Final = (
    model.OBJECT,
    model.ANY,
    "int-or-string",
    "quantity",
    "time",
    "micro-time",
    "schema-or-bool",
)


class Mismatch(Exception):
    """A value is not of its field's type; `path` grows as the walkers return."""

    def __init__(self, actual: str, expected: str) -> None:
        super().__init__(actual, expected)
        self.actual, self.expected = actual, expected
        self.path: list[str] = []

    @property
    def message(self) -> str:
        if not self.expected.startswith("!"):
            field = ".".join(self.path)
            return (
                f"json: cannot unmarshal {self.actual} into Go struct field {field} of type {self.expected}"
            )
        return f"{'.'.join(self.path)}: {self.expected[1:]}"


class Typed:
    """The compiled walkers of one type of the table."""

    def __init__(self, type_name: str) -> None:
        self.type_name = type_name
        self.node = model.of_type(type_name)
        self._decode = _object_decoder(type_name)
        self._fill = _object_filler(type_name)

    def decode(self, document: Any, *, kind: str = "", path: str = "") -> Object:
        """A fresh, canonical copy with only known fields; `BadRequest` on a wrong JSON type.

        `kind` and `path` name the document in the error when it is a part of a larger one.
        """
        try:
            decoded: Object = self._decode(document)
        except Mismatch as wrong:
            if path:
                wrong.path.insert(0, path)
            sentence = self._sentence(document, wrong, kind)
            raise errors.Undecodable(sentence, why=wrong.message) from None
        return decoded

    def _sentence(self, document: Any, wrong: Mismatch, kind: str) -> str:
        gvk = facts.type_named(self.type_name).gvk
        kind = kind or (gvk[2] if gvk else self.type_name.rpartition(".")[2])
        wrong.path.insert(0, kind)
        fields = document if isinstance(document, dict) else {}
        version = str(fields.get("apiVersion") or (gvk[1] if gvk else "")).rpartition("/")[2]
        versioned = f'{kind} in version "{version}"' if version else kind
        return f"{versioned} cannot be handled as a {kind}: {wrong.message}"

    def fill(self, document: Object) -> None:
        """Add, in place, the defaults and empty structs the table names."""
        self._fill(document)

    def unknown_fields(self, document: Any) -> list[str]:
        """The paths of fields that `decode` drops because no such field exists."""
        paths: list[str] = []
        _unknown(self.node, document, "", paths)
        return paths


@functools.cache
def of(type_name: str) -> Typed:
    """The walkers of a type, compiled at the first call."""
    return Typed(type_name)


def json_type(value: Any) -> str:
    """The JSON word for a value, as Go's decoder says it."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, str):
        return "string"
    if isinstance(value, int | float):
        return "number"
    return "array" if isinstance(value, list) else "object"


# --- scalars


def _string(value: Any) -> Any:
    if type(value) is str:
        return value
    raise Mismatch(json_type(value), "string")


def _bool(value: Any) -> Any:
    if type(value) is bool:
        return value
    raise Mismatch(json_type(value), "bool")


def _integer(word: str) -> Decode:
    bound = _RANGES[word]

    def decode(value: Any) -> Any:
        number = int(value) if type(value) is float and value.is_integer() else value
        if type(number) is not int:
            actual = f"number {value}" if isinstance(value, float) else json_type(value)
            raise Mismatch(actual, word)
        if not -bound <= number < bound:
            raise Mismatch(f"number {number}", word)
        return number

    return decode


def _double(value: Any) -> Any:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return value
    raise Mismatch(json_type(value), "float64")


def _bytes(value: Any) -> Any:
    if type(value) is not str:
        raise Mismatch(json_type(value), "[]uint8")
    try:
        base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError) as wrong:
        raise Mismatch("string", f"!illegal base64 data: {wrong}") from None
    return value


@functools.lru_cache(maxsize=4096)
def _canonical(value: str) -> str:
    return quantity.canonical(value)


def _quantity(value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise Mismatch(json_type(value), "resource.Quantity")
    try:
        return _canonical(str(value))
    except ValueError as wrong:
        raise Mismatch("string", f"!{wrong}") from None


def _int_or_string(value: Any) -> Any:
    if type(value) in (str, int):
        return value
    if isinstance(value, float) and value.is_integer():
        return int(value)
    raise Mismatch(json_type(value), "intstr.IntOrString")


def _moment(pattern: re.Pattern[str], spelled: Callable[[datetime], str]) -> Decode:
    def decode(value: Any) -> Any:
        if type(value) is not str:
            raise Mismatch(json_type(value), "v1.Time")
        quoted = ""
        with contextlib.suppress(ValueError, OverflowError):
            moment = datetime.fromisoformat(value)
            if pattern.fullmatch(value):
                return value
            quoted = spelled(moment.astimezone(UTC)) if moment.tzinfo is not None else ""
        if not quoted:
            raise Mismatch("string", f'!parsing time "{value}": want RFC 3339, as 2006-01-02T15:04:05Z')
        return quoted

    return decode


def _any(value: Any) -> Any:
    return copy.deepcopy(value)


def _schema_or(allowed: type, word: str) -> Decode:
    def decode(value: Any) -> Any:
        if isinstance(value, dict):
            return _object_decoder(facts.JSON_SCHEMA_PROPS)(value)
        if not isinstance(value, allowed):
            raise Mismatch(json_type(value), word)
        if not isinstance(value, list):
            return value
        inner = _string if word.endswith("Strings") else _object_decoder(facts.JSON_SCHEMA_PROPS)
        return [inner(item) for item in value]

    return decode


_SCALARS: Final[dict[str, Decode]] = {
    "string": _string,
    "bytes": _bytes,
    "int32": _integer("int32"),
    "int64": _integer("int64"),
    "double": _double,
    "bool": _bool,
    "time": _moment(_TIME, timestamps.spelled),
    "micro-time": _moment(_MICRO, timestamps.spelled_micro),
    "duration": _string,
    "quantity": _quantity,
    "int-or-string": _int_or_string,
    "schema-or-array": _schema_or(list, "JSONSchemaPropsOrArray"),
    "schema-or-bool": _schema_or(bool, "JSONSchemaPropsOrBool"),
    "schema-or-strings": _schema_or(list, "JSONSchemaPropsOrStrings"),
    model.ANY: _any,
}


# --- decoding


def _decoder(node: model.Node) -> Decode:
    if node.kind == model.OBJECT:
        return _object_decoder(node.type_name)
    if node.element is None:
        return _SCALARS[node.kind]
    inner, null = _decoder(node.element), _NULLS.get(node.element.kind, lambda: None)
    return _list_decoder(inner, null) if node.kind == model.LIST else _map_decoder(inner, null)


# What Go makes of a null among a list's items or a map's values: the zero value of their type.
_NULLS: Final[dict[str, Callable[[], Any]]] = {
    "string": str,
    "bytes": str,
    "int32": int,
    "int64": int,
    "double": int,
    "bool": bool,
    "quantity": lambda: "0",
    "int-or-string": int,
    model.OBJECT: dict,
    model.LIST: list,
    model.MAP: dict,
}


@functools.cache
def _object_decoder(type_name: str) -> Decode:
    table: dict[str, tuple[Decode, bool]] = {}

    def decode(value: Any) -> Any:
        if type(value) is not dict:
            raise Mismatch(json_type(value), type_name.rpartition(".")[2])
        if not table:
            table.update(_decoders(type_name))
        out: Object = {}
        key = ""
        try:
            for key, item in value.items():
                decoder = table.get(key)
                if decoder is None or item is None:
                    continue
                decoded = decoder[0](item)
                if decoded or decoder[1]:
                    out[key] = decoded
        except Mismatch as wrong:
            wrong.path.insert(0, key)
            raise
        return out

    return decode


def _decoders(type_name: str) -> dict[str, tuple[Decode, bool]]:
    return {
        name: (_decoder(node), _keeps_empty(node) or (type_name, name) in _SHOWN_ZEROS)
        for name, node in model.of_type(type_name).fields.items()
    }


def _keeps_empty(node: model.Node) -> bool:
    is_always_present = node.required and (node.default is not None or node.kind in (model.LIST, model.MAP))
    return is_always_present or node.pointer or node.kind in _EMPTY_KINDS


def _list_decoder(inner: Decode, null: Callable[[], Any]) -> Decode:
    def decode(value: Any) -> Any:
        if type(value) is not list:
            raise Mismatch(json_type(value), "[]")
        out: list[Any] = []
        try:
            for item in value:
                out.append(inner(item) if item is not None else null())  # noqa: PERF401  # the length tells where a mismatch is
        except Mismatch as wrong:
            wrong.path.insert(0, f"[{len(out)}]")
            raise
        return out

    return decode


def _map_decoder(inner: Decode, null: Callable[[], Any]) -> Decode:
    def decode(value: Any) -> Any:
        if type(value) is not dict:
            raise Mismatch(json_type(value), "map[string]")
        out: Object = {}
        key = ""
        try:
            for key, item in value.items():
                out[key] = inner(item) if item is not None else null()
        except Mismatch as wrong:
            wrong.path.insert(0, key)
            raise
        return out

    return decode


# --- filling


@functools.cache
def _object_filler(type_name: str) -> Fill:
    plan: list[tuple[str, Any, Fill | None]] = []
    ready = False

    def fill(value: Any) -> None:
        nonlocal ready
        if not ready:
            plan.extend(_plan(type_name))
            ready = True
        for name, absent, inner in plan:
            if name not in value:
                if absent is None:
                    continue
                value[name] = (
                    absent if type(absent) is not dict and type(absent) is not list else absent.copy()
                )
            if inner is not None:
                inner(value[name])

    return fill


def _plan(type_name: str) -> list[tuple[str, Any, Fill | None]]:
    steps = []
    for name, node in model.of_type(type_name).fields.items():
        absent, inner = _SHOWN_ZEROS.get((type_name, name), _absent(node)), _filler(node)
        if absent is not None or inner is not None:
            steps.append((name, absent, inner))
    return steps


def _absent(node: model.Node) -> Any:
    """The value that an absent field is filled with; None if it stays absent."""
    if node.kind == model.OBJECT:
        return None if node.pointer else {}
    if node.kind in _STRUCT_ZEROS and not node.pointer:
        return _STRUCT_ZEROS[node.kind]
    if node.required and not node.pointer:
        return node.default if node.default is not None else _zero(node)
    if node.default is not None and (node.default or node.pointer):
        return node.default
    return None


def _zero(node: model.Node) -> Any:
    return {model.LIST: [], model.MAP: {}}.get(node.kind)


def _filler(node: model.Node) -> Fill | None:
    if not _fills(node, frozenset()):
        return None
    if node.kind == model.OBJECT:
        return _object_filler(node.type_name)
    assert node.element is not None  # noqa: S101  # only lists and maps are left that hold something to fill
    inner = _filler(node.element)
    assert inner is not None  # noqa: S101  # `_fills` said so

    def fill(value: Any) -> None:
        for item in value if type(value) is list else value.values():
            inner(item)

    return fill


def _fills(node: model.Node, above: frozenset[str]) -> bool:
    """Whether anything inside a value of this node may need filling."""
    if node.element is not None:
        return _fills(node.element, above)
    if node.kind != model.OBJECT or node.type_name in above:
        return False
    return _type_fills(node, above)


def _type_fills(node: model.Node, above: frozenset[str]) -> bool:
    inside = above | {node.type_name}
    return any(_absent(child) is not None or _fills(child, inside) for child in node.fields.values())


# --- unknown fields


def _unknown(node: model.Node, value: Any, path: str, paths: list[str]) -> None:
    if node.kind == model.OBJECT and isinstance(value, dict):
        _unknown_in_object(node.fields, value, path, paths)
    elif node.kind.startswith("schema-or-") and isinstance(value, dict):
        _unknown(model.of_type(facts.JSON_SCHEMA_PROPS), value, path, paths)
    elif node.element is None or (node.element.element is None and node.element.kind != model.OBJECT):
        return
    elif isinstance(value, list):
        for index, item in enumerate(value):
            _unknown(node.element, item, f"{path}[{index}]", paths)
    elif isinstance(value, dict):
        for key, item in value.items():
            _unknown(node.element, item, f"{path}.{key}" if path else key, paths)


def _unknown_in_object(
    fields: Mapping[str, model.Node], value: Mapping[str, Any], path: str, paths: list[str]
) -> None:
    for key, item in value.items():
        child = fields.get(key)
        field_path = f"{path}.{key}" if path else key
        if child is None:
            paths.append(field_path)
        elif type(item) in (dict, list):
            _unknown(child, item, field_path, paths)
