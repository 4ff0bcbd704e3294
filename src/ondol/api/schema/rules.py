"""What a CRD's schema must be for Kubernetes to accept it: structural, complete and consistent.

`check` returns the causes for `spec.versions[*].schema.openAPIV3Schema`; the rules are those of
apiextensions (structural schemas, list types, defaults, rules in CEL), restated.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from typing import Any, Final

from ondol.api.schema import causes, model, structural, validation
from ondol.base import regexp
from ondol.base.errors import Cause

_PATTERNS_SIZE_MAX: Final = 1_000_000
"""Instructions of all patterns of a schema; a third of a microsecond each."""
_REFUSED_SIZE: Final = 30_000
_TYPES: Final = ("array", "boolean", "integer", "number", "object", "string")
_FORBIDDEN: Final = (
    "$ref",
    "definitions",
    "dependencies",
    "patternProperties",
    "additionalItems",
    "id",
    "$schema",
)
_INSIDE_JUNCTORS: Final = (
    "type",
    "additionalProperties",
    "default",
    "title",
    "description",
    "nullable",
    "x-kubernetes-preserve-unknown-fields",
    "x-kubernetes-embedded-resource",
    "x-kubernetes-int-or-string",
    "x-kubernetes-list-map-keys",
    "x-kubernetes-list-type",
    "x-kubernetes-map-type",
    "x-kubernetes-validations",
)
_INT_OR_STRING: Final = [{"type": "integer"}, {"type": "string"}]
_SINGLE: Final = {
    "root": "at the root",
    "items": "for specified array items",
    "field": "for specified object fields",
}


def check(schema: Mapping[str, Any], path: str) -> list[Cause]:
    """Every reason the schema cannot be served, in order of path."""
    if _has_too_many_patterns(schema):
        return [causes.forbidden(path, "the regular expressions are too many or too large together")]
    problems = [*_structure(schema, "root", path), *_completeness(schema, path)]
    if not problems:
        problems = list(_defaults(schema, path))
    if not problems and structural.has_rules(schema):
        from ondol.api.cel.crd import definitions  # noqa: PLC0415 - only who has rules pays for CEL

        problems = definitions.check(schema, path)
    return sorted(problems, key=lambda cause: (cause.field, cause.message))


def _has_too_many_patterns(schema: Mapping[str, Any]) -> bool:
    """Whether compiling all of them would block the server for too long."""
    size = 0
    for expression in set(_expressions(schema)):
        try:
            size += regexp.compiled(expression).size
        except ValueError:
            size += _REFUSED_SIZE  # as much as may have been compiled of it
        if size > _PATTERNS_SIZE_MAX:
            return True
    return False


def _expressions(value: Any) -> Iterator[str]:
    """Every `pattern` anywhere in a schema."""
    inner = value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ()
    if isinstance(value, Mapping) and isinstance(value.get("pattern"), str):
        yield value["pattern"]
    for item in inner:
        yield from _expressions(item)


def _structure(schema: Mapping[str, Any], level: str, path: str) -> Iterator[Cause]:
    yield from _shape(schema, level, path)
    yield from _lists(schema, path)
    yield from _patterns(schema, path)
    yield from _junctors(schema, path)
    yield from _metadata(schema, level, path)
    for name, prop in (schema.get("properties") or {}).items():
        yield from _structure(prop, "field", f"{path}.properties[{name}]")
    if isinstance(schema.get("items"), Mapping):
        yield from _structure(schema["items"], "items", f"{path}.items")
    if isinstance(schema.get("additionalProperties"), Mapping):
        yield from _structure(schema["additionalProperties"], "field", f"{path}.additionalProperties")


def _shape(schema: Mapping[str, Any], level: str, path: str) -> Iterator[Cause]:
    declared = schema.get("type") or ""
    preserving = schema.get("x-kubernetes-preserve-unknown-fields")
    either, embedded = schema.get("x-kubernetes-int-or-string"), schema.get("x-kubernetes-embedded-resource")
    yield from (causes.forbidden(f"{path}.{key}", "is not supported") for key in _FORBIDDEN if key in schema)
    if declared and declared not in _TYPES:
        yield causes.not_supported(f"{path}.type", declared, _TYPES)
    if embedded and declared != "object":
        yield causes.invalid(
            f"{path}.type", declared, "must be object if x-kubernetes-embedded-resource is true"
        )
    elif not declared and not either and (not preserving or level == "root"):
        yield causes.required(f"{path}.type", f"must not be empty {_SINGLE[level]}")
    if level == "root" and declared not in ("", "object"):
        yield causes.invalid(f"{path}.type", declared, "must be object at the root")
    if level == "root" and schema.get("nullable"):
        yield causes.forbidden(f"{path}.nullable", "nullable cannot be true at the root")
    if either and preserving:
        detail = "must be false if x-kubernetes-int-or-string is true"
        yield causes.invalid(f"{path}.x-kubernetes-preserve-unknown-fields", preserving, detail)
    yield from _values(schema, level, path)


def _values(schema: Mapping[str, Any], level: str, path: str) -> Iterator[Cause]:
    values, embedded = schema.get("additionalProperties"), schema.get("x-kubernetes-embedded-resource")
    if values is not None and values is not True and schema.get("properties"):
        detail = "additionalProperties and properties are mutual exclusive"
        yield causes.forbidden(f"{path}.additionalProperties", detail)
    if values is False:
        yield causes.forbidden(f"{path}.additionalProperties", "additionalProperties cannot be set to false")
    if values is not None and level == "root":
        yield causes.forbidden(f"{path}.additionalProperties", "must not be used at the root")
    if values is not None and embedded:
        detail = "must not be used if x-kubernetes-embedded-resource is set"
        yield causes.forbidden(f"{path}.additionalProperties", detail)
    open_ended = schema.get("x-kubernetes-preserve-unknown-fields")
    if embedded and not open_ended and not schema.get("properties"):
        detail = (
            "must not be empty if x-kubernetes-embedded-resource is true"
            " without x-kubernetes-preserve-unknown-fields"
        )
        yield causes.required(f"{path}.properties", detail)


def _lists(schema: Mapping[str, Any], path: str) -> Iterator[Cause]:
    items, list_type = schema.get("items"), schema.get("x-kubernetes-list-type")
    keys = schema.get("x-kubernetes-list-map-keys") or ()
    if schema.get("type") == "array" and items is None:
        yield causes.required(f"{path}.items", "must be specified")
    if isinstance(items, list):
        yield causes.forbidden(f"{path}.items", "items must be a schema object and not an array")
    if schema.get("uniqueItems"):
        detail = "uniqueItems cannot be set to true since the runtime complexity becomes quadratic"
        yield causes.forbidden(f"{path}.uniqueItems", detail)
    if list_type not in (None, "atomic", "set", "map"):
        yield causes.not_supported(f"{path}.x-kubernetes-list-type", list_type, ("atomic", "map", "set"))
    if list_type is not None and schema.get("type") != "array":
        detail = "must be array if x-kubernetes-list-type is specified"
        yield causes.invalid(f"{path}.type", schema.get("type") or "", detail)
    if keys and list_type != "map":
        detail = "must be map if x-kubernetes-list-map-keys is non-empty"
        yield causes.invalid(f"{path}.x-kubernetes-list-type", list_type or "", detail)
    if list_type == "map":
        yield from _map_keys(items if isinstance(items, Mapping) else {}, keys, path)
    if schema.get("x-kubernetes-map-type") not in (None, "atomic", "granular"):
        map_type = schema["x-kubernetes-map-type"]
        yield causes.not_supported(f"{path}.x-kubernetes-map-type", map_type, ("atomic", "granular"))


def _map_keys(items: Mapping[str, Any], keys: Any, path: str) -> Iterator[Cause]:
    if not keys:
        yield causes.required(
            f"{path}.x-kubernetes-list-map-keys", "must not be empty if x-kubernetes-list-type is map"
        )
    properties = items.get("properties") or {}
    for index, key in enumerate(keys):
        if key not in properties:
            detail = "entries must all be names of item properties"
            yield causes.invalid(f"{path}.x-kubernetes-list-map-keys[{index}]", key, detail)
        elif properties[key].get("type") in ("array", "object"):
            detail = "must be a scalar type if parent array's x-kubernetes-list-type is map"
            yield causes.invalid(f"{path}.items.properties[{key}].type", properties[key]["type"], detail)
        elif key not in (items.get("required") or ()) and properties[key].get("default") is None:
            detail = (
                "this property is in x-kubernetes-list-map-keys,"
                " so it must have a default or be a required property"
            )
            yield causes.required(f"{path}.items.properties[{key}].default", detail)


def _patterns(schema: Mapping[str, Any], path: str) -> Iterator[Cause]:
    if schema.get("pattern"):
        try:
            regexp.compiled(schema["pattern"])
        except ValueError as wrong:
            detail = f"must be a valid regular expression, but isn't: {wrong}"
            yield causes.invalid(f"{path}.pattern", schema["pattern"], detail)


def _metadata(schema: Mapping[str, Any], level: str, path: str) -> Iterator[Cause]:
    if level != "root" and not schema.get("x-kubernetes-embedded-resource"):
        return
    properties = schema.get("properties") or {}
    for name in ("kind", "apiVersion"):
        if name in properties and properties[name].get("type") != "string":
            yield causes.invalid(
                f"{path}.properties[{name}].type", properties[name].get("type") or "", "must be string"
            )
    metadata = properties.get("metadata")
    if metadata is None:
        return
    if metadata.get("type") != "object":
        yield causes.invalid(
            f"{path}.properties[metadata].type", metadata.get("type") or "", "must be object"
        )
    extra = set(metadata.get("properties") or ()) - {"name", "generateName"}
    if level == "root" and (extra or set(metadata) - {"type", "properties", "description"}):
        detail = (
            "must not specify anything other than name and generateName, but metadata is implicitly specified"
        )
        yield causes.forbidden(f"{path}.properties[metadata]", detail)


def _parts(schema: Mapping[str, Any], path: str) -> Iterator[tuple[Mapping[str, Any], str]]:
    """The value validations under the junctors of one schema."""
    for key in ("allOf", "anyOf", "oneOf"):
        for index, part in enumerate(schema.get(key) or ()):
            yield part, f"{path}.{key}[{index}]"
    if isinstance(schema.get("not"), Mapping):
        yield schema["not"], f"{path}.not"


def _junctors(schema: Mapping[str, Any], path: str) -> Iterator[Cause]:
    either = schema.get("x-kubernetes-int-or-string")
    for part, part_path in _parts(schema, path):
        spelled = schema.get("anyOf") == _INT_OR_STRING and ".anyOf[" in part_path[len(path) :]
        if not (either and (spelled or part.get("anyOf") == _INT_OR_STRING)):
            yield from _value_validation(part, part_path)


def _value_validation(part: Mapping[str, Any], path: str) -> Iterator[Cause]:
    for key in _INSIDE_JUNCTORS:
        if part.get(key):
            detail = (
                "must be empty to be structural" if key == "type" else "must be undefined to be structural"
            )
            yield causes.forbidden(f"{path}.{key}", detail)
    yield from _patterns(part, path)
    for name, prop in (part.get("properties") or {}).items():
        if name == "metadata":
            yield causes.forbidden(
                f"{path}.properties[metadata]", "must not be specified in a nested context"
            )
        yield from _value_validation(prop, f"{path}.properties[{name}]")
    if isinstance(part.get("items"), Mapping):
        yield from _value_validation(part["items"], f"{path}.items")
    for inner, part_path in _parts(part, path):
        yield from _value_validation(inner, part_path)


def _completeness(schema: Mapping[str, Any], path: str) -> Iterator[Cause]:
    """Every field a junctor speaks of must be specified outside of it."""
    for part, part_path in _parts(schema, path):
        yield from _specified(schema, part, path, part_path)
    for name, prop in (schema.get("properties") or {}).items():
        yield from _completeness(prop, f"{path}.properties[{name}]")
    for key in ("items", "additionalProperties"):
        if isinstance(schema.get(key), Mapping):
            yield from _completeness(schema[key], f"{path}.{key}")


def _specified(
    schema: Mapping[str, Any], part: Mapping[str, Any], path: str, part_path: str
) -> Iterator[Cause]:
    properties = schema.get("properties") or {}
    for name, prop in (part.get("properties") or {}).items():
        if name in properties:
            yield from _specified(
                properties[name], prop, f"{path}.properties[{name}]", f"{part_path}.properties[{name}]"
            )
        else:
            detail = f"because it is defined in {part_path}.properties[{name}]"
            yield causes.required(f"{path}.properties[{name}]", detail)
    if isinstance(part.get("items"), Mapping):
        if isinstance(schema.get("items"), Mapping):
            yield from _specified(schema["items"], part["items"], f"{path}.items", f"{part_path}.items")
        else:
            yield causes.required(f"{path}.items", f"because it is defined in {part_path}.items")
    for inner, deeper in _parts(part, part_path):
        yield from _specified(schema, inner, path, deeper)


def _defaults(schema: Mapping[str, Any], path: str) -> Iterator[Cause]:
    """Each default must be valid by the schema, and have no field that pruning would drop."""
    default = schema.get("default")
    if default is not None:
        if structural.unknown(model.of_schema(schema), default):
            yield causes.invalid(f"{path}.default", default, "must not have unknown fields")
        problems = validation.Causes()
        validation.compiled(schema)(copy.deepcopy(default), f"{path}.default", problems)
        yield from problems
    for name, prop in (schema.get("properties") or {}).items():
        yield from _defaults(prop, f"{path}.properties[{name}]")
    for key in ("items", "additionalProperties"):
        if isinstance(schema.get(key), Mapping):
            yield from _defaults(schema[key], f"{path}.{key}")
