"""From structs to CustomResourceDefinitions: structural schemas derived from type hints.

Pure. Constraints come from `msgspec.Meta`, descriptions from docstrings, defaults from the structs;
what a structural schema cannot say (recursion, unions of unlike types) is refused with its path.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from typing import Any, Final

import msgspec
import msgspec.inspect as types

from ondol.api.objects import Object
from ondol.sdk import model

_PRESERVE: Final = "x-kubernetes-preserve-unknown-fields"
_INT_OR_STRING: Final = "x-kubernetes-int-or-string"


class Unsupported(TypeError):
    """A type hint that no structural schema can express."""


def crd(cls: type[model.CustomResource]) -> Object:
    """The CustomResourceDefinition that serves this kind."""
    definition = cls.definition
    resource = definition.resource
    names: Object = {
        "plural": resource.plural,
        "singular": resource.kind.lower(),
        "kind": resource.kind,
        "listKind": f"{resource.kind}List",
    }
    if definition.short_names:
        names["shortNames"] = list(definition.short_names)
    if definition.categories:
        names["categories"] = list(definition.categories)
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{resource.plural}.{resource.group}"},
        "spec": {
            "group": resource.group,
            "names": names,
            "scope": "Namespaced" if resource.namespaced else "Cluster",
            "versions": [_version(cls, definition)],
        },
    }


def _version(cls: type[model.CustomResource], definition: model.Definition) -> Object:
    version: Object = {
        "name": definition.resource.version,
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": open_api(cls)},
        "subresources": {"status": {}},
    }
    if definition.scale is not None:
        version["subresources"]["scale"] = _scale(definition.scale)
    if definition.columns:
        version["additionalPrinterColumns"] = [_column(column) for column in definition.columns]
    if definition.selectable_fields:
        version["selectableFields"] = [{"jsonPath": path} for path in definition.selectable_fields]
    return version


def _scale(scale: model.Scale) -> Object:
    paths = {"specReplicasPath": scale.spec_path, "statusReplicasPath": scale.status_path}
    return {**paths, "labelSelectorPath": scale.selector_path} if scale.selector_path else paths


def _column(column: model.Column) -> Object:
    document: Object = {"name": column.name, "type": column.type, "jsonPath": column.json_path}
    optional = {"priority": column.priority, "description": column.description, "format": column.format}
    return {**document, **{name: value for name, value in optional.items() if value}}


def open_api(cls: type[model.CustomResource]) -> Object:
    """The structural schema of the whole object, status included."""
    root = types.type_info(cls)
    if not isinstance(root, types.StructType):
        raise Unsupported(f"{cls.__name__} is not a struct")
    properties: Object = {
        "apiVersion": {"type": "string"},
        "kind": {"type": "string"},
        "metadata": {"type": "object"},
    }
    required = []
    for field in root.fields:
        if field.name in ("metadata", "raw"):
            continue
        path = (cls.__name__, field.encode_name)
        properties[field.encode_name] = _property(field, path, defaults=field.name != "status")
        if field.required:
            required.append(field.encode_name)
    properties["status"] = _with_common_status(properties.get("status") or {"type": "object"})
    schema: Object = {"type": "object", "properties": properties}
    if required:
        schema["required"] = required
    return _described(schema, cls)


def _with_common_status(schema: Object) -> Object:
    common = _schema(types.type_info(model.Status), ("Status",), (), defaults=False)["properties"]
    common["conditions"] |= {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]}
    return {**schema, "properties": {**(schema.get("properties") or {}), **common}}


def _property(
    field: types.Field, path: tuple[str, ...], *, defaults: bool, seen: tuple[type, ...] = ()
) -> Object:
    schema = _schema(field.type, path, seen, defaults=defaults)
    default = _default(field)
    if defaults and default is not None:
        schema["default"] = default
    return schema


def _default(field: types.Field) -> Any:
    """The default as it stands in documents; None where there is none to write."""
    if field.default is not msgspec.NODEFAULT:
        return model.plain(field.default)
    if field.default_factory is not msgspec.NODEFAULT:
        return model.plain(field.default_factory())
    return None


def _schema(kind: types.Type, path: tuple[str, ...], seen: tuple[type, ...], *, defaults: bool) -> Object:
    if isinstance(kind, types.Metadata):
        schema = _schema(kind.type, path, seen, defaults=defaults)
        return {**schema, **(kind.extra_json_schema or {})}
    if isinstance(kind, types.UnionType):
        return _union(kind, path, seen, defaults=defaults)
    if isinstance(kind, types.StructType):
        return _struct(kind, path, seen, defaults=defaults)
    if isinstance(kind, _ARRAYS):
        return _array(kind, path, seen, defaults=defaults)
    if isinstance(kind, types.DictType):
        return _map(kind, path, seen, defaults=defaults)
    if isinstance(kind, types.LiteralType) and len({type(value) for value in kind.values}) > 1:
        raise Unsupported(f"{'.'.join(path)}: the values of a Literal are strings or integers, not both")
    for scalar, make in _SCALARS:
        if isinstance(kind, scalar):
            return make(kind)
    raise Unsupported(f"{'.'.join(path)}: {type(kind).__name__} has no structural schema")


def _struct(
    kind: types.StructType, path: tuple[str, ...], seen: tuple[type, ...], *, defaults: bool
) -> Object:
    if kind.cls in seen:
        raise Unsupported(f"{'.'.join(path)}: {kind.cls.__name__} contains itself; structural schemas end")
    if kind.array_like or kind.tag is not None:
        raise Unsupported(f"{'.'.join(path)}: tagged and array-like structs have no structural schema")
    inner = (*seen, kind.cls)
    schema: Object = {
        "type": "object",
        "properties": {
            field.encode_name: _property(field, (*path, field.encode_name), defaults=defaults, seen=inner)
            for field in kind.fields
        },
    }
    required = [field.encode_name for field in kind.fields if field.required]
    if required:
        schema["required"] = required
    return _described(schema, kind.cls)


_ARRAYS: Final = (types.ListType, types.VarTupleType, types.SetType, types.FrozenSetType)


def _array(kind: Any, path: tuple[str, ...], seen: tuple[type, ...], *, defaults: bool) -> Object:
    items = _schema(kind.item_type, (*path, "[]"), seen, defaults=defaults)
    schema: Object = {"type": "array", "items": items}
    if isinstance(kind, types.SetType | types.FrozenSetType):
        schema["x-kubernetes-list-type"] = "set"
    return schema | _bounds(kind, minItems="min_length", maxItems="max_length")


def _map(kind: types.DictType, path: tuple[str, ...], seen: tuple[type, ...], *, defaults: bool) -> Object:
    if not isinstance(kind.key_type, types.StrType):
        raise Unsupported(f"{'.'.join(path)}: the keys of a map are strings")
    bounds = _bounds(kind, minProperties="min_length", maxProperties="max_length")
    if isinstance(kind.value_type, types.AnyType):
        return {"type": "object", _PRESERVE: True, **bounds}
    values = _schema(kind.value_type, (*path, "{}"), seen, defaults=defaults)
    return {"type": "object", "additionalProperties": values, **bounds}


def _union(kind: types.UnionType, path: tuple[str, ...], seen: tuple[type, ...], *, defaults: bool) -> Object:
    members = [member for member in kind.types if not isinstance(member, types.NoneType)]
    nullable = {"nullable": True} if len(members) < len(kind.types) else {}
    if len(members) == 1:
        return {**_schema(members[0], path, seen, defaults=defaults), **nullable}
    if {type(member) for member in members} == {types.IntType, types.StrType}:
        return {_INT_OR_STRING: True, **nullable}
    raise Unsupported(f"{'.'.join(path)}: of unions only `T | None` and `int | str` have a structural schema")


def _string(kind: types.StrType) -> Object:
    return {"type": "string"} | _bounds(
        kind, minLength="min_length", maxLength="max_length", pattern="pattern"
    )


def _number(name: str) -> Callable[[Any], Object]:
    def make(kind: Any) -> Object:
        schema: Object = {"type": name} | _bounds(kind, minimum="ge", maximum="le", multipleOf="multiple_of")
        for bound, (attribute, exclusive) in _EXCLUSIVE.items():
            if getattr(kind, attribute) is not None:
                schema |= {bound: getattr(kind, attribute), exclusive: True}
        return schema

    return make


_EXCLUSIVE: Final = {"minimum": ("gt", "exclusiveMinimum"), "maximum": ("lt", "exclusiveMaximum")}


def _enum(values: Iterable[Any]) -> Object:
    listed = list(values)
    name = "integer" if all(isinstance(value, int) for value in listed) else "string"
    return {"type": name, "enum": listed}


_SCALARS: Final[tuple[tuple[type[types.Type], Callable[[Any], Object]], ...]] = (
    (types.BoolType, lambda _: {"type": "boolean"}),
    (types.IntType, _number("integer")),
    (types.FloatType, _number("number")),
    (types.StrType, _string),
    (types.BytesType, lambda _: {"type": "string", "format": "byte"}),
    (types.DateTimeType, lambda _: {"type": "string", "format": "date-time"}),
    (types.DateType, lambda _: {"type": "string", "format": "date"}),
    (types.EnumType, lambda kind: _enum(member.value for member in kind.cls)),
    (types.LiteralType, lambda kind: _enum(kind.values)),
    (types.AnyType, lambda _: {_PRESERVE: True}),
    (types.RawType, lambda _: {_PRESERVE: True}),
)


def _bounds(kind: Any, **names: str) -> Object:
    bounds = {name: getattr(kind, attribute) for name, attribute in names.items()}
    return {name: value for name, value in bounds.items() if value is not None}


def _described(schema: Object, cls: type) -> Object:
    text = cls.__dict__.get("__doc__")
    return {**schema, "description": inspect.cleandoc(text)} if text else schema
