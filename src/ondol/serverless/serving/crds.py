"""The CustomResourceDefinitions of Serving. A pod's fields come from the table of built-in kinds.

Only what Knative's default feature flags allow is in the schema, so that everything else is
refused by the API server instead of being ignored.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from ondol.api import facts
from ondol.api.objects import Object, Resource
from ondol.api.resources import (
    KNATIVE_CONFIGURATION,
    KNATIVE_REVISION,
    KNATIVE_ROUTE,
    KNATIVE_SERVICE,
    POD_AUTOSCALER,
)

_CORE: Final = "io.k8s.api.core.v1."
_POD_FIELDS: Final = (
    "containers",
    "volumes",
    "serviceAccountName",
    "imagePullSecrets",
    "automountServiceAccountToken",
    "enableServiceLinks",
)
_CONTAINER_FIELDS: Final = (
    "name",
    "image",
    "command",
    "args",
    "env",
    "envFrom",
    "ports",
    "resources",
    "readinessProbe",
    "livenessProbe",
    "startupProbe",
    "securityContext",
    "workingDir",
    "volumeMounts",
    "imagePullPolicy",
    "terminationMessagePath",
    "terminationMessagePolicy",
)
_VOLUME_FIELDS: Final = ("name", "configMap", "secret", "emptyDir", "projected")
_ONLY: Final = {
    _CORE + "PodSpec": _POD_FIELDS,
    _CORE + "Container": _CONTAINER_FIELDS,
    _CORE + "Volume": _VOLUME_FIELDS,
}
_SCALARS: Final[Mapping[str, Object]] = {
    "string": {"type": "string"},
    "bytes": {"type": "string", "format": "byte"},
    "int32": {"type": "integer", "format": "int32"},
    "int64": {"type": "integer", "format": "int64"},
    "double": {"type": "number"},
    "bool": {"type": "boolean"},
    "time": {"type": "string", "format": "date-time"},
    "micro-time": {"type": "string", "format": "date-time"},
    "quantity": {"x-kubernetes-int-or-string": True},
    "int-or-string": {"x-kubernetes-int-or-string": True},
}
_STRING: Final[Object] = {"type": "string"}
_INTEGER: Final[Object] = {"type": "integer"}
_BOOLEAN: Final[Object] = {"type": "boolean"}
_STATUS: Final[Object] = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}


def structural(type_name: str) -> Object:
    """The structural schema of a built-in type, written out in full and masked to what is allowed."""
    fields = facts.type_named(type_name).fields
    allowed = _ONLY.get(type_name, fields)
    schema: Object = {
        "type": "object",
        "properties": {name: _field(fields[name]) for name in fields if name in allowed},
    }
    # A container is named by its revision when its author did not.
    required = [n for n in fields if n in allowed and fields[n].required and fields[n].default is None]
    if type_name == _CORE + "Container":
        required = [n for n in required if n != "name"]
    if required:
        schema["required"] = required
    return schema


def _field(field: facts.Field) -> Object:
    marks, word = facts.split(field.type)
    schema = dict(_SCALARS[word]) if word in _SCALARS else structural(word)
    while marks:
        outer, marks = marks[-2:], marks[:-2]
        if outer == "[]":
            schema = {"type": "array", "items": schema}
        else:
            schema = {"type": "object", "additionalProperties": schema}
    return schema


def _object(properties: Mapping[str, Object], *required: str) -> Object:
    schema: Object = {"type": "object", "properties": dict(properties)}
    return schema | ({"required": list(required)} if required else {})


def _template() -> Object:
    strings: Object = {"type": "object", "additionalProperties": _STRING}
    metadata = _object({"name": _STRING, "labels": strings, "annotations": strings})
    return _object({"metadata": metadata, "spec": _revision_spec()})


def _revision_spec() -> Object:
    schema = structural(_CORE + "PodSpec")
    schema["properties"] |= {
        "containerConcurrency": {"type": "integer", "format": "int64", "minimum": 0, "maximum": 1000},
        "timeoutSeconds": {"type": "integer", "format": "int64", "minimum": 1, "maximum": 600},
    }
    schema["properties"]["containers"]["minItems"] = 1
    return schema


def _traffic(*, of_service: bool) -> Object:
    properties: dict[str, Object] = {
        "revisionName": _STRING,
        "latestRevision": _BOOLEAN,
        "percent": {"type": "integer", "format": "int64", "minimum": 0, "maximum": 100},
        "tag": {"type": "string", "pattern": "^[a-z]([-a-z0-9]*[a-z0-9])?$", "maxLength": 63},
    }
    if not of_service:
        properties["configurationName"] = _STRING
    return {"type": "array", "items": _object(properties)}


def _definition(
    resource: Resource, spec: Object, *, short_names: tuple[str, ...], columns: list[Object], category: str
) -> Object:
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": resource.group_resource, "labels": {"app.kubernetes.io/part-of": "ondol"}},
        "spec": {
            "group": resource.group,
            "scope": "Namespaced",
            "names": {
                "plural": resource.plural,
                "singular": resource.kind.lower(),
                "kind": resource.kind,
                "listKind": f"{resource.kind}List",
                "shortNames": list(short_names),
                "categories": ["all", "knative", category],
            },
            "versions": [
                {
                    "name": resource.version,
                    "served": True,
                    "storage": True,
                    "subresources": {"status": {}},
                    "additionalPrinterColumns": columns,
                    "schema": {"openAPIV3Schema": _object({"spec": spec, "status": _STATUS})},
                }
            ],
        },
    }


def _column(name: str, path: str) -> Object:
    return {"name": name, "type": "string", "jsonPath": path}


_READY_COLUMNS: Final = [
    _column("Ready", ".status.conditions[?(@.type=='Ready')].status"),
    _column("Reason", ".status.conditions[?(@.type=='Ready')].reason"),
]
_LATEST_COLUMNS: Final = [
    _column("LatestCreated", ".status.latestCreatedRevisionName"),
    _column("LatestReady", ".status.latestReadyRevisionName"),
]


def definitions() -> list[Object]:
    """Every CustomResourceDefinition of Serving, ready to be applied."""
    any_object: Object = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    revision_columns = [
        _column("Config Name", r".metadata.labels['serving\.knative\.dev/configuration']"),
        _column("Generation", r".metadata.labels['serving\.knative\.dev/configurationGeneration']"),
        *_READY_COLUMNS,
        {**_column("Actual Replicas", ".status.actualReplicas"), "type": "integer"},
        {**_column("Desired Replicas", ".status.desiredReplicas"), "type": "integer"},
    ]
    scaler_columns = [
        {**_column("DesiredScale", ".status.desiredScale"), "type": "integer"},
        {**_column("ActualScale", ".status.actualScale"), "type": "integer"},
        _column("Mode", ".status.mode"),
        *_READY_COLUMNS,
    ]
    scaler = _object(
        {
            "containerConcurrency": _INTEGER,
            "timeoutSeconds": _INTEGER,
            "containerPort": _INTEGER,
            "protocolType": {"type": "string", "enum": ["http1", "h2c"]},
            "reachability": {"type": "string", "enum": ["Reachable", "Unreachable", "Unknown"]},
            "scaleTargetRef": any_object,
        },
        "scaleTargetRef",
    )
    return [
        _definition(
            KNATIVE_SERVICE,
            _object({"template": _template(), "traffic": _traffic(of_service=True)}, "template"),
            short_names=("kservice", "ksvc"),
            columns=[_column("URL", ".status.url"), *_LATEST_COLUMNS, *_READY_COLUMNS],
            category="serving",
        ),
        _definition(
            KNATIVE_CONFIGURATION,
            _object({"template": _template()}, "template"),
            short_names=("config", "cfg"),
            columns=[*_LATEST_COLUMNS, *_READY_COLUMNS],
            category="serving",
        ),
        _definition(
            KNATIVE_REVISION,
            _revision_spec(),
            short_names=("rev",),
            columns=revision_columns,
            category="serving",
        ),
        _definition(
            KNATIVE_ROUTE,
            _object({"traffic": _traffic(of_service=False)}),
            short_names=("rt",),
            columns=[_column("URL", ".status.url"), *_READY_COLUMNS],
            category="serving",
        ),
        _definition(
            POD_AUTOSCALER,
            scaler,
            short_names=("kpa", "pa"),
            columns=scaler_columns,
            category="knative-internal",
        ),
    ]
