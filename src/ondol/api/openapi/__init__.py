"""OpenAPI documents of everything served: v3 per group and version, and v2 for all at once.

Derived from a registry of kinds; the schemas of custom kinds come from whoever holds the CRDs. What
is read by kubectl (explain, apply, validation) is here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeAlias

import msgspec

from ondol.api import facts
from ondol.api.kinds import Kind, Registry
from ondol.api.objects import Object
from ondol.api.openapi import paths, schemas

SchemaOf: TypeAlias = Callable[[Kind], Mapping[str, Any] | None]
"""The openAPIV3Schema of a custom kind; None if it has none."""

_JSON: Final = ("application/json", "application/yaml")
_STATUS: Final = facts.META + "Status"
_OPTIONS: Final = facts.META + "DeleteOptions"
_TITLE: Final = "Kubernetes"


def no_schema(_: Kind) -> None:
    """For registries without custom kinds."""


def group_path(group: str, version: str) -> str:
    """`api/v1`, `apis/apps/v1`: the key of a v3 document."""
    return f"apis/{group}/{version}" if group else f"api/{version}"


def index(hashes: Mapping[str, str]) -> Object:
    """The answer at `/openapi/v3`, from the hash of each document by its key."""
    return {
        "paths": {
            path: {"serverRelativeURL": f"/openapi/v3/{path}?hash={checksum}"}
            for path, checksum in hashes.items()
        }
    }


def digest(document: Object) -> str:
    """The hash that names one state of a document."""
    return hashlib.sha512(msgspec.json.encode(document, order="sorted")).hexdigest()[:64].upper()


def v3(
    registry: Registry, group: str, version: str, *, release: str, schema_of: SchemaOf = no_schema
) -> Object:
    """The v3 document of one group and version; empty of paths if nothing of it is served."""
    kinds = registry.in_version(group, version)
    return {
        "openapi": "3.0.0",
        "info": {"title": _TITLE, "version": release},
        "paths": _paths(kinds, schemas.V3),
        "components": {"schemas": _schemas(schemas.V3, kinds, registry, schema_of)},
    }


def v2(registry: Registry, *, release: str, schema_of: SchemaOf = no_schema) -> Object:
    """The one v2 (Swagger) document of everything served."""
    kinds = list(registry)
    return {
        "swagger": "2.0",
        "info": {"title": _TITLE, "version": release},
        "paths": _paths(kinds, schemas.V2),
        "definitions": _schemas(schemas.V2, kinds, registry, schema_of),
    }


def _schemas(dialect: schemas.Dialect, kinds: list[Kind], registry: Registry, schema_of: SchemaOf) -> Object:
    names = [_STATUS, _OPTIONS, facts.META + "WatchEvent", schemas.OBJECT_META, schemas.LIST_META]
    custom: Object = {}
    for kind in kinds:
        names += [
            sub.type or _scale(sub.kind) for sub in kind.subresources if sub.type or sub.kind == "Scale"
        ]
        if kind.custom:
            custom |= schemas.custom(dialect, kind, schema_of(kind))
        else:
            names += [kind.type, *([schemas.list_name_of(kind)] if kind.list_kind else [])]
    versions = [(group, version) for group in registry.groups() for version in registry.versions(group)]
    return {**schemas.collect(dialect, names, versions), **custom}


def _scale(kind: str) -> str:
    return f"io.k8s.api.autoscaling.v1.{kind}"


def _paths(kinds: list[Kind], dialect: schemas.Dialect) -> Object:
    items: Object = {}
    old = dialect is schemas.V2
    for kind in kinds:
        for operation in paths.operations(kind):
            item = items.setdefault(operation.path, _path_item(operation.path, v2=old))
            item[operation.method] = _v2(operation, kind) if old else _v3(operation, kind)
    return dict(sorted(items.items()))


def _path_item(path: str, *, v2: bool) -> Object:
    placeholders = [paths.parameter(name, "path", "string", v2=v2) for name in paths.placeholders(path)]
    return {"parameters": [*placeholders, paths.parameter("pretty", "query", "string", v2=v2)]}


def _common(operation: paths.Operation, kind: Kind) -> Object:
    return {
        "operationId": operation.id,
        "tags": [f"{paths.group_word(kind)[:1].lower()}{paths.group_word(kind)[1:]}_{kind.version}"],
        "x-kubernetes-action": operation.action,
        schemas.GVK: schemas.gvk_of(operation.group, operation.version, operation.kind),
    }


def _subject(operation: paths.Operation, kind: Kind) -> str:
    if (operation.group, operation.kind) == (kind.group, kind.kind):
        return schemas.name_of(kind)
    return operation.type or _scale(operation.kind)


def _answer(operation: paths.Operation, kind: Kind) -> str:
    if operation.answers == "list":
        return schemas.list_name_of(kind)
    return _STATUS if operation.answers == "status" else _subject(operation, kind)


def _sent(operation: paths.Operation, kind: Kind) -> str:
    named = {"patch": schemas.PATCH, "options": _OPTIONS}
    return named.get(operation.sends) or _subject(operation, kind)


_TEXTS: Final[dict[str, tuple[str, ...]]] = {"text": ("text/plain",), "stream": ("*/*",)}
"""Media types of answers that are no documents."""


def _v3(operation: paths.Operation, kind: Kind) -> Object:
    dialect = schemas.V3
    media = _TEXTS.get(operation.answers, _JSON)
    text = operation.answers in _TEXTS
    answer = {"schema": {"type": "string"} if text else dialect.ref(_answer(operation, kind))}
    document = _common(operation, kind)
    document["responses"] = {
        "200": {"description": "OK", "content": {kind_: dict(answer) for kind_ in media}}
    }
    if operation.query:
        document["parameters"] = paths.parameters(operation, v2=False)
    if operation.sends:
        body = {"schema": dialect.ref(_sent(operation, kind))}
        document["requestBody"] = {"content": {kind_: dict(body) for kind_ in operation.patches or ("*/*",)}}
        if operation.sends != "options":
            document["requestBody"]["required"] = True
    return document


def _v2(operation: paths.Operation, kind: Kind) -> Object:
    dialect = schemas.V2
    text = operation.answers in _TEXTS
    document = _common(operation, kind)
    answer = {"type": "string"} if text else dialect.ref(_answer(operation, kind))
    document["responses"] = {"200": {"description": "OK", "schema": answer}}
    document["produces"] = list(_TEXTS.get(operation.answers, _JSON))
    document["consumes"] = list(operation.patches or ("*/*",))
    document["parameters"] = paths.parameters(operation, v2=True)
    if operation.sends:
        body = {"in": "body", "name": "body", "schema": dialect.ref(_sent(operation, kind))}
        document["parameters"].insert(0, {**body, "required": True} if operation.sends != "options" else body)
    return document
