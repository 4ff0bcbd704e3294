"""OpenAPI schemas of built-in and custom types, in the dialect of v3 documents or of v2.

The two differ in how a property refers to a type, in where types live, and in what v2 cannot say
(`oneOf`, `anyOf`, `nullable`, ...). The table holds facts only; descriptions are in a table of their own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from ondol.api import facts
from ondol.api.kinds import Kind
from ondol.api.openapi import descriptions

_EXTENSIONS: Final = facts.JSON_SCHEMA_PROPS.rpartition(".")[0] + "."
_STRING: Final = {"type": "string"}
OBJECT_META: Final = facts.META + "ObjectMeta"
LIST_META: Final = facts.META + "ListMeta"
PATCH: Final = facts.META + "Patch"

_PLAIN: Final[dict[str, dict[str, Any]]] = {
    "string": _STRING,
    "bytes": {"type": "string", "format": "byte"},
    "int32": {"type": "integer", "format": "int32"},
    "int64": {"type": "integer", "format": "int64"},
    "double": {"type": "number", "format": "double"},
    "bool": {"type": "boolean"},
}
_NAMED: Final = {
    "time": facts.META + "Time",
    "micro-time": facts.META + "MicroTime",
    "duration": facts.META + "Duration",
    "fields": facts.META + "FieldsV1",
    "quantity": "io.k8s.apimachinery.pkg.api.resource.Quantity",
    "int-or-string": "io.k8s.apimachinery.pkg.util.intstr.IntOrString",
    "raw": "io.k8s.apimachinery.pkg.runtime.RawExtension",
    "json": _EXTENSIONS + "JSON",
    "schema-or-array": _EXTENSIONS + "JSONSchemaPropsOrArray",
    "schema-or-bool": _EXTENSIONS + "JSONSchemaPropsOrBool",
    "schema-or-strings": _EXTENSIONS + "JSONSchemaPropsOrStringArray",
}
_SPECIAL: Final[dict[str, dict[str, Any]]] = {
    _NAMED["time"]: {"type": "string", "format": "date-time"},
    _NAMED["micro-time"]: {"type": "string", "format": "date-time"},
    _NAMED["duration"]: {"type": "string"},
    _NAMED["fields"]: {"type": "object"},
    _NAMED["quantity"]: {"oneOf": [{"type": "string"}, {"type": "number"}]},
    _NAMED["int-or-string"]: {"format": "int-or-string", "oneOf": [{"type": "integer"}, {"type": "string"}]},
    _NAMED["raw"]: {"type": "object"},
    _NAMED["json"]: {},
    _NAMED["schema-or-array"]: {},
    _NAMED["schema-or-bool"]: {},
    _NAMED["schema-or-strings"]: {},
    PATCH: {"type": "object"},
}
_SPECIAL_V2: Final = {
    **_SPECIAL,
    _NAMED["quantity"]: {"type": "string"},
    _NAMED["int-or-string"]: {"type": "string", "format": "int-or-string"},
}
_NOT_IN_V2: Final = ("oneOf", "anyOf", "allOf", "not", "nullable")


@dataclass(frozen=True, slots=True)
class Dialect:
    """Which version of OpenAPI a schema is written in."""

    root: str
    wraps_refs: bool
    special: Mapping[str, Mapping[str, Any]]

    def ref(self, name: str) -> dict[str, Any]:
        return {"$ref": self.root + name}

    def property_ref(self, name: str) -> dict[str, Any]:
        """A reference that may have other keywords beside it."""
        return {"allOf": [self.ref(name)]} if self.wraps_refs else self.ref(name)


V3: Final = Dialect("#/components/schemas/", wraps_refs=True, special=_SPECIAL)
V2: Final = Dialect("#/definitions/", wraps_refs=False, special=_SPECIAL_V2)


def collect(
    dialect: Dialect, names: Iterable[str], group_versions: Iterable[tuple[str, str]]
) -> dict[str, Any]:
    """The schemas of the named built-in types and of all they refer to, by name."""
    roots = [name for name in names if name not in dialect.special]
    schemas: dict[str, Any] = {PATCH: dict(dialect.special[PATCH])}
    every = [*group_versions]
    for name, described in facts.reachable(*roots).items():
        schemas[name] = _type(dialect, name, described)
        for field in described.fields.values():
            special = _NAMED.get(facts.split(field.type)[1])
            if special is not None:
                schemas[special] = dict(dialect.special[special])
        shared = name.rpartition(".")[2]
        if name in (facts.META + "DeleteOptions", facts.META + "WatchEvent"):
            schemas[name][GVK] = [gvk_of(group, version, shared) for group, version in every]
    return dict(sorted(schemas.items()))


GVK: Final = "x-kubernetes-group-version-kind"


def gvk_of(group: str, version: str, kind: str) -> dict[str, str]:
    return {"group": group, "version": version, "kind": kind}


def _type(dialect: Dialect, type_name: str, described: facts.Type) -> dict[str, Any]:
    schema: dict[str, Any] = {**_described(descriptions.of_type(type_name)), "type": "object"}
    if described.fields:
        schema["properties"] = {
            name: {**_described(descriptions.of_field(type_name, name)), **_field(dialect, field)}
            for name, field in described.fields.items()
        }
    required = [name for name, field in described.fields.items() if field.required]
    if required:
        schema["required"] = required
    if described.map_type:
        schema["x-kubernetes-map-type"] = described.map_type
    if described.gvk is not None:
        schema[GVK] = [gvk_of(*described.gvk)]
    return schema


def _described(text: str) -> dict[str, Any]:
    return {"description": text} if text else {}


def _field(dialect: Dialect, field: facts.Field) -> dict[str, Any]:
    schema = _word(dialect, field.type)
    if field.default is not None:
        schema["default"] = field.default
    elif dialect.wraps_refs and "allOf" in schema and not field.pointer:
        schema["default"] = {}
    target = schema["items"] if schema.get("type") == "array" else schema
    if field.enum:
        target["enum"] = list(field.enum)
    extensions = {
        "list-type": field.list_type,
        "list-map-keys": list(field.list_keys),
        "map-type": field.map_type,
        "patch-merge-key": field.patch_merge_key,
        "patch-strategy": field.patch_strategy,
    }
    return {**schema, **{f"x-kubernetes-{key}": value for key, value in extensions.items() if value}}


def _word(dialect: Dialect, word: str) -> dict[str, Any]:
    if word.startswith("[]"):
        return {"type": "array", "items": _word(dialect, word[2:])}
    if word.startswith("{}"):
        return {"type": "object", "additionalProperties": _word(dialect, word[2:])}
    plain = _PLAIN.get(word)
    return dict(plain) if plain is not None else dialect.property_ref(_NAMED.get(word, word))


def name_of(kind: Kind) -> str:
    """The name of a kind's schema: the table's, or one made of the custom group turned around."""
    return kind.type or ".".join([*reversed(kind.group.split(".")), kind.version, kind.kind])


def list_name_of(kind: Kind) -> str:
    return facts.list_type(kind.type) if kind.type else name_of(kind).removesuffix(kind.kind) + kind.list_kind


def custom(dialect: Dialect, kind: Kind, schema: Mapping[str, Any] | None) -> dict[str, Any]:
    """The schemas of a custom kind and of its list."""
    listed = {
        **_described(f"{kind.list_kind} is a list of {kind.kind}."),
        "type": "object",
        "required": ["items"],
        "properties": {
            **_ROOT,
            "items": {
                **_described(f"The {kind.plural} of the list."),
                "type": "array",
                "items": dialect.ref(name_of(kind)),
            },
            "metadata": {**_described(descriptions.LIST_METADATA), **dialect.property_ref(LIST_META)},
        },
        GVK: [gvk_of(kind.group, kind.version, kind.list_kind)],
    }
    body = _body(dialect, schema)
    body[GVK] = [gvk_of(kind.group, kind.version, kind.kind)]
    return {name_of(kind): body, list_name_of(kind): listed}


_ROOT: Final = {
    "apiVersion": {**_described(descriptions.API_VERSION), **_STRING},
    "kind": {**_described(descriptions.KIND), **_STRING},
}


def _body(dialect: Dialect, schema: Mapping[str, Any] | None) -> dict[str, Any]:
    """A custom kind's own schema, with what every object has.

    Readers of v2 refuse fields beside the listed ones, whatever else a schema says: one that is open at
    its root lists none there.
    """
    schema = schema or {"x-kubernetes-preserve-unknown-fields": True}
    if dialect is V2 and schema.get("x-kubernetes-preserve-unknown-fields"):
        return {"type": "object"}
    body = _translated(dialect, schema)
    metadata = {**_described(descriptions.METADATA), **dialect.property_ref(OBJECT_META)}
    properties = {**(body.get("properties") or {}), **_ROOT, "metadata": metadata}
    return {**body, "type": "object", "properties": properties}


def _translated(dialect: Dialect, schema: Mapping[str, Any]) -> dict[str, Any]:
    """A CRD's schema as published; v2 leaves out what it has no words for."""
    if dialect is V3:
        return dict(schema)
    out = {key: value for key, value in schema.items() if key not in _NOT_IN_V2}
    if schema.get("nullable") or (schema.get("x-kubernetes-preserve-unknown-fields") and "type" in out):
        out.pop("type", None)  # v2 has no way to write "or null" or "and anything else"
        out.pop("properties", None)
        out.pop("items", None)
    if isinstance(out.get("properties"), Mapping):
        out["properties"] = {name: _translated(dialect, prop) for name, prop in out["properties"].items()}
    for key in ("items", "additionalProperties"):
        if isinstance(out.get(key), Mapping):
            out[key] = _translated(dialect, out[key])
    return out
