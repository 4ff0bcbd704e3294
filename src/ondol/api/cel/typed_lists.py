"""Equality and concatenation where the schema gives lists a meaning: sets and maps have no order.

`==` of two sets or maps ignores the order of elements; `+` unites them, a later element of a map replacing
the one of the same keys. Values inside of objects are JSON yet, and are read before they are compared.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ondol.api.cel import operators, values
from ondol.api.cel.types import Type

Equal = Callable[[Any, Any], bool]


def equality(one: Type, other: Type) -> Equal | None:
    """How values of two types are compared; None where `values.equal` is right."""
    if one.kind == "list" and other.kind == "list":
        inner = equality(one.params[0], other.params[0])
        if one.list_type == "map" and one.list_keys:
            return _as_maps(one.list_keys, inner or values.equal)
        if one.list_type == "set":
            return _as_sets
        return _each(inner) if inner is not None else None
    if one.kind == "map" and other.kind == "map":
        inner = equality(one.params[1], other.params[1])
        return _each_value(inner) if inner is not None else None
    if one.kind == "object" and other.kind == "object":
        return _objects(one, other)
    return None


def _each(equal: Equal) -> Equal:
    return lambda one, other: len(one) == len(other) and all(map(equal, one, other))


def _each_value(equal: Equal) -> Equal:
    return lambda one, other: (
        len(one) == len(other)
        and all(key in other and equal(value, other[key]) for key, value in one.items())
    )


def _objects(one: Type, other: Type) -> Equal | None:
    """Objects whose fields are to be read, or hold lists without an order."""
    special: dict[str, Equal] = {}
    for name, field in (one.fields or {}).items():
        counterpart = (other.fields or {}).get(name)
        if counterpart is None:
            continue
        inner = _read(field.type, counterpart.type)
        if inner is not None:
            special[field.key] = inner
    if not special:
        return None

    def equal(left: Any, right: Any) -> bool:
        if type(left) is not dict or type(right) is not dict:
            return values.equal(left, right)
        if left.keys() != right.keys():
            return False
        return all(special.get(key, values.equal)(value, right[key]) for key, value in left.items())

    return equal


def _read(one: Type, other: Type) -> Equal | None:
    """As `equality`, of values that are JSON yet."""
    equal = equality(one, other)
    left, right = one.read, other.read
    if one.kind == "double" or left is None or right is None:
        return equal
    compare = equal or values.equal
    return lambda a, b: compare(left(a), right(b))


def _keys_of(item: Any, keys: tuple[str, ...]) -> Any:
    return repr([item.get(key) for key in keys]) if type(item) is dict else repr(item)


def _as_maps(keys: tuple[str, ...], equal: Equal) -> Equal:
    def compare(one: Any, other: Any) -> bool:
        if len(one) != len(other):
            return False
        by_keys = {_keys_of(item, keys): item for item in one}
        for item in other:
            key = _keys_of(item, keys)
            if key not in by_keys or not equal(by_keys[key], item):
                return False
        return True

    return compare


def _as_sets(one: Any, other: Any) -> bool:
    return len(one) == len(other) and {repr(item) for item in one} == {repr(item) for item in other}


def concatenation(one: Type) -> Callable[[Any, Any], Any] | None:
    """How a list of the type is added to; None where it is simply prolonged."""
    if one.kind != "list":
        return None
    if one.list_type == "map" and one.list_keys:
        keys = one.list_keys
        return lambda left, right: _united(left, right, lambda item: _keys_of(item, keys))
    if one.list_type == "set":
        return lambda left, right: _united(left, right, repr)
    return None


def _united(one: Any, other: Any, key: Callable[[Any], Any]) -> list[Any]:
    if type(one) is not list or type(other) is not list:
        united: list[Any] = operators.add(one, other)
        return united
    by_key = {key(item): item for item in one}
    by_key.update((key(item), item) for item in other)
    return list(by_key.values())
