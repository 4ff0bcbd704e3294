"""What apply and strategic merge need to know of a type, and the two sources it comes from.

`TypeSchema` is the port that `patch.typed` walks by; `Shape` satisfies it and
`strategic.PatchSchema` at once. `of_builtin` derives the shape of a built-in kind from the table of
facts, `of_custom` that of a custom kind from its `openAPIV3Schema`. Shapes may be cyclic (a schema
holds schemas), are built once, and are read-only afterwards.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, Protocol

from ondol.api import facts
from ondol.api.patch import strategic

Form = Literal["leaf", "map", "list", "any"]

_META: Final = facts.META + "ObjectMeta"
_ROOT_LEAVES: Final = ("apiVersion", "kind")


class TypeSchema(Protocol):
    """The structure of one value.

    `form` is `leaf` (owned whole), `map` (fields by name), `list`, or `any` (as the value itself
    looks: maps by field, lists whole). An `atomic` map or list is owned whole. A list that is not
    atomic is a set of scalars when it has no `keys`. `key_defaults` stand in for absent keys.
    """

    @property
    def form(self) -> Form: ...

    @property
    def atomic(self) -> bool: ...

    @property
    def fields(self) -> Mapping[str, TypeSchema]: ...

    @property
    def element(self) -> TypeSchema | None: ...

    @property
    def keys(self) -> tuple[str, ...]: ...

    @property
    def key_defaults(self) -> Mapping[str, Any]: ...


@dataclass(slots=True, eq=False)
class Shape:
    """A `TypeSchema` and `PatchSchema` as a value."""

    form: Form = "leaf"
    atomic: bool = False
    fields: dict[str, Shape] = field(default_factory=dict)
    element: Shape | None = None
    keys: tuple[str, ...] = ()
    key_defaults: dict[str, Any] = field(default_factory=dict)
    patches: dict[str, strategic.PatchField] = field(default_factory=dict)

    def patch_field(self, name: str) -> strategic.PatchField | None:
        declared = self.patches.get(name)
        if declared is None and self.element is not None and self.form == "map":
            return strategic.PatchField(child=self.element)
        return declared


LEAF: Final = Shape()
ANY: Final = Shape("any")
ANY.element = ANY


def struct(fields: Mapping[str, Shape]) -> Shape:
    """A granular map with declared fields."""
    return Shape("map", fields=dict(fields))


def map_of(element: Shape = LEAF, *, atomic: bool = False) -> Shape:
    """A free map."""
    return Shape("map", atomic=atomic, element=element)


def atomic_list(element: Shape = LEAF) -> Shape:
    return Shape("list", atomic=True, element=element)


def set_of(element: Shape = LEAF) -> Shape:
    return Shape("list", element=element)


def keyed_list(element: Shape, *keys: str, **defaults: Any) -> Shape:
    return Shape("list", element=element, keys=keys, key_defaults=defaults)


def of_builtin(type_name: str) -> Shape:
    """The shape of a type in the table of facts, such as `io.k8s.api.core.v1.Pod`."""
    return _named(type_name)


_BUILT: Final[dict[str, Shape]] = {}


def _named(name: str) -> Shape:
    built = _BUILT.get(name)
    if built is not None:
        return built
    described = facts.type_named(name)
    shape = _BUILT[name] = Shape("map", atomic=described.map_type == "atomic")
    for field_name, described_field in described.fields.items():
        child = _of_field(described_field)
        shape.fields[field_name] = child
        shape.patches[field_name] = _patch_of(described_field, child)
    return shape


def _patch_of(described: facts.Field, child: Shape) -> strategic.PatchField:
    strategies = described.patch_strategy.split(",")
    strategy = next((s for s in ("merge", "replace") if s in strategies), "")
    inner = child.element if child.form == "list" else child
    return strategic.PatchField(strategy, described.patch_merge_key, inner)


def _of_field(described: facts.Field) -> Shape:
    return _of_word(described.type, described)


def _of_word(word: str, described: facts.Field | None) -> Shape:
    """The shape of a type word; the field's marks say how its outermost list or map merges."""
    if word.startswith("[]"):
        return _list(_of_word(word[2:], None), described)
    if word.startswith("{}"):
        atomic = described is not None and described.map_type == "atomic"
        return map_of(_of_word(word[2:], None), atomic=atomic)
    if word in facts.SCALARS:
        return _SCALARS.get(word, LEAF)
    named = _named(word)
    if described is not None and described.map_type == "atomic" and not named.atomic:
        return Shape("map", atomic=True, fields=named.fields, patches=named.patches)
    return named


_SCALARS: Final = {"raw": ANY, "json": ANY, "schema-or-bool": ANY, "schema-or-array": ANY}


def _list(element: Shape, described: facts.Field | None) -> Shape:
    kind = described.list_type if described is not None else ""
    if kind == "set":
        return set_of(element)
    if described is not None and kind == "map":
        return keyed_list(element, *described.list_keys, **_key_defaults(described))
    return atomic_list(element)


def _key_defaults(described: facts.Field) -> dict[str, Any]:
    """Defaults of the keys, so that a port without `protocol` and one with `TCP` are one element."""
    item = facts.type_named(facts.split(described.type)[1])
    key_fields = {key: item.fields[key] for key in described.list_keys}
    return {key: fact.default for key, fact in key_fields.items() if fact.default is not None}


@functools.cache
def object_meta() -> Shape:
    """The shape every kind's `metadata` has."""
    return _named(_META)


def of_custom(schema: Mapping[str, Any] | None) -> Shape:
    """The shape of a custom kind from its `openAPIV3Schema`; none at all is a free-form object."""
    shape = _of_schema(schema or {"type": "object", "x-kubernetes-preserve-unknown-fields": True})
    return _as_object(shape)


def _as_object(shape: Shape) -> Shape:
    root = Shape("map", fields=dict(shape.fields), element=shape.element)
    root.fields.update(dict.fromkeys(_ROOT_LEAVES, LEAF), metadata=object_meta())
    return root


def _of_schema(schema: Mapping[str, Any]) -> Shape:
    if schema.get("x-kubernetes-int-or-string"):
        return LEAF
    match schema.get("type"):
        case "object":
            return _of_object(schema)
        case "array":
            return _of_array(schema)
        case None | "":
            return ANY
        case _:
            return LEAF


def _of_object(schema: Mapping[str, Any]) -> Shape:
    atomic = schema.get("x-kubernetes-map-type") == "atomic"
    fields = {name: _of_schema(child) for name, child in (schema.get("properties") or {}).items()}
    additional = schema.get("additionalProperties")
    element: Shape | None = None
    if isinstance(additional, Mapping):
        element = _of_schema(additional)
    elif additional is True or schema.get("x-kubernetes-preserve-unknown-fields"):
        element = ANY
    shape = Shape("map", atomic=atomic, fields=fields, element=element)
    return _as_object(shape) if schema.get("x-kubernetes-embedded-resource") else shape


def _of_array(schema: Mapping[str, Any]) -> Shape:
    items = schema.get("items") or {}
    element = _of_schema(items)
    match schema.get("x-kubernetes-list-type"):
        case "set":
            return set_of(element)
        case "map":
            keys = tuple(schema.get("x-kubernetes-list-map-keys") or ())
            properties = items.get("properties") or {}
            defaults = {k: properties[k]["default"] for k in keys if "default" in properties.get(k, {})}
            return keyed_list(element, *keys, **defaults)
        case _:
            return atomic_list(element)
