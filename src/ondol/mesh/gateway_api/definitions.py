"""The CustomResourceDefinitions of Gateway API, derived from the structs that are read.

They refuse what the standard channel's refuse. `retry` of the experimental channel is in them, and its
`sessionPersistence`, whose Routes are refused in words.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec
import msgspec.inspect as types

from ondol.api.objects import Object, Resource
from ondol.mesh.definitions import bounds, scalar
from ondol.mesh.gateway_api import descriptions, model, names, routes, words
from ondol.mesh.model import istio

_EPOCH: Final = "1970-01-01T00:00:00Z"
_AGE: Final = ("Age", ".metadata.creationTimestamp")


@dataclass(frozen=True, slots=True)
class _Definition:
    resource: Resource
    spec: type[msgspec.Struct]
    description: str
    versions: tuple[str, ...] = ("v1",)
    """Served; the stored one first."""
    short_names: tuple[str, ...] = ()
    columns: tuple[tuple[str, str], ...] = (_AGE,)
    status: Mapping[str, Any] | None = None


def _status_of(type_: str) -> str:
    return f'.status.conditions[?(@.type=="{type_}")].status'


def _conditions(*pending: str, at_least: int = 0) -> Object:
    text = {"type": "string"}
    schema: Object = {
        "type": "array",
        "maxItems": 8,
        **words.map_by("type"),
        "items": {
            "type": "object",
            "required": ["lastTransitionTime", "message", "reason", "status", "type"],
            "properties": {
                "type": {**text, "maxLength": 316},
                "status": {**text, "enum": ["True", "False", "Unknown"]},
                "reason": {
                    **text,
                    "minLength": 1,
                    "maxLength": 1024,
                    "pattern": "^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$",
                },
                "message": {**text, "maxLength": 32768},
                "lastTransitionTime": {**text, "format": "date-time"},
                "observedGeneration": {"type": "integer", "format": "int64", "minimum": 0},
            },
        },
    }
    if at_least:
        schema["minItems"] = at_least
    if pending:
        schema["default"] = [
            {
                "type": each,
                "status": "Unknown",
                "reason": "Pending",
                "message": "Waiting for controller",
                "lastTransitionTime": _EPOCH,
            }
            for each in pending
        ]
    return schema


def _own_status(*pending: str, **more: Object) -> Object:
    listed = _conditions(*pending)
    default = {"conditions": listed["default"]}
    return {"type": "object", "default": default, "properties": {"conditions": listed, **more}}


def _of_others(field: str, reference: str) -> Object:
    """What several controllers may say of one object, each of its own parents or ancestors."""
    entry = {
        "type": "object",
        "required": ["conditions", "controllerName", reference],
        "properties": {
            reference: _Schemas().schema(types.type_info(routes.ParentReference)),
            "controllerName": _Schemas().schema(types.type_info(model.GatewayClassSpec))["properties"][
                "controllerName"
            ]
            | {"x-kubernetes-validations": []},
            "conditions": _conditions(at_least=1),
        },
    }
    del entry["properties"]["controllerName"]["x-kubernetes-validations"]  # type: ignore[index]
    most = 32 if field == "parents" else 16
    listed = {"type": "array", "maxItems": most, **words.ATOMIC, "items": entry}
    return {"type": "object", "required": [field], "properties": {field: listed}}


def _listener_statuses() -> Object:
    kind = _Schemas().schema(types.type_info(model.RouteGroupKind))
    entry = {
        "type": "object",
        "required": ["attachedRoutes", "conditions", "name"],
        "properties": {
            "name": _Schemas().schema(types.type_info(model.Listener))["properties"]["name"],
            "attachedRoutes": {"type": "integer", "format": "int32"},
            "supportedKinds": {"type": "array", "maxItems": 8, **words.ATOMIC, "items": kind},
            "conditions": _conditions(),
        },
    }
    return {"type": "array", "maxItems": 64, **words.map_by("name"), "items": entry}


def _addresses() -> Object:
    address = _Schemas().schema(types.type_info(model.Address))
    value = {**address["properties"]["value"], "minLength": 1}
    address = {**address, "required": ["value"], "properties": {**address["properties"], "value": value}}
    return {"type": "array", "maxItems": 16, **words.ATOMIC, "items": address}


class _Schemas:
    """Structural schemas with the defaults and rules of Gateway API."""

    def schema(self, type: types.Type) -> Object:
        match type:
            case types.Metadata():
                return self.schema(type.type) | (type.extra_json_schema or {})
            case types.UnionType():
                members = [member for member in type.types if not isinstance(member, types.NoneType)]
                if len(members) != 1:
                    raise TypeError(f"a field has more than one type: {members}")
                return self.schema(members[0])
            case types.StructType():
                return self._struct(type)
            case types.VarTupleType():
                items = {"items": self.schema(type.item_type)}
                return {"type": "array"} | items | bounds(type, minItems="min_length", maxItems="max_length")
            case types.DictType():
                values = {"additionalProperties": self.schema(type.value_type)}
                return {"type": "object"} | values | bounds(type, maxProperties="max_length")
        return scalar(type)

    def _struct(self, type: types.StructType) -> Object:
        unsupported = istio.unsupported(type.cls)
        schema: Object = {
            "type": "object",
            "properties": {
                field.encode_name: (
                    _UNSUPPORTED if field.name in unsupported else self._field(type.cls.__name__, field)
                )
                for field in type.fields
            },
        }
        if required := [field.encode_name for field in type.fields if field.required]:
            schema["required"] = required
        if listed := _rules(type.cls):
            schema |= words.rules(*listed)
        return schema | _MORE.get(type.cls.__name__, {})

    def _field(self, struct: str, field: types.Field) -> Object:
        schema = self.schema(field.type)
        if isinstance(field.default, str | int) and not isinstance(field.default, bool):
            schema = {**schema, "default": field.default}
        return {"description": descriptions.of(struct, field.encode_name), **schema}


_UNSUPPORTED: Final = {
    "description": "Not supported: a Route that says something here is not served (Accepted is False).",
    "x-kubernetes-preserve-unknown-fields": True,
}
_IPS: Final = {"anyOf": [{"format": "ipv4"}, {"format": "ipv6"}]}
_MORE: Final[Mapping[str, Object]] = {
    "Address": {
        "oneOf": [
            {"properties": {"type": {"enum": ["IPAddress"]}, "value": _IPS}},
            {"properties": {"type": {"not": {"enum": ["IPAddress"]}}}},
        ]
    },
    "LabelSelector": {"x-kubernetes-map-type": "atomic"},
}


def _rules(struct: type[Any]) -> tuple[words.Rule, ...]:
    """Those of the struct and of what it extends."""
    return tuple(rule for each in struct.__mro__ for rule in words.STRUCTS.get(each.__name__, ()))


_OF_ROUTES: Final = (("Hostnames", ".spec.hostnames"), _AGE)


_BOTH: Final = ("v1", "v1beta1")


def _table() -> Iterable[_Definition]:
    accepted, programmed = ((each, _status_of(each)) for each in (names.ACCEPTED, names.PROGRAMMED))
    features = {
        "type": "array",
        "maxItems": 64,
        **words.map_by("name"),
        "items": {"type": "object", "required": ["name"], "properties": {"name": {"type": "string"}}},
    }
    yield _Definition(
        names.GATEWAY_CLASS,
        model.GatewayClassSpec,
        "Gateways of one kind, and which controller serves them.",
        _BOTH,
        ("gc",),
        (
            ("Controller", ".spec.controllerName"),
            accepted,
            _AGE,
            ("Description", ".spec.description"),
        ),
        _own_status(names.ACCEPTED, supportedFeatures=features),
    )
    yield _Definition(
        names.GATEWAY,
        model.GatewaySpec,
        "Where requests from outside come in, and which Routes may serve them.",
        _BOTH,
        ("gtw",),
        (("Class", ".spec.gatewayClassName"), ("Address", ".status.addresses[*].value"), programmed, _AGE),
        _own_status(
            names.ACCEPTED,
            names.PROGRAMMED,
            addresses=_addresses(),
            listeners=_listener_statuses(),
            attachedListenerSets={"type": "integer", "format": "int32"},
        ),
    )
    yield _Definition(
        names.LISTENER_SET,
        model.ListenerSetSpec,
        "More listeners for a Gateway.",
        short_names=("lset",),
        columns=(accepted, programmed, _AGE),
        status=_own_status(names.ACCEPTED, names.PROGRAMMED, listeners=_listener_statuses()),
    )
    yield from _routes()


def _routes() -> Iterable[_Definition]:
    """The kinds of Routes, and what lets them refer to other namespaces."""
    parents = _of_others("parents", "parentRef")
    yield _Definition(
        names.HTTP_ROUTE,
        routes.HTTPRouteSpec,
        "Where HTTP requests go.",
        _BOTH,
        columns=_OF_ROUTES,
        status=parents,
    )
    yield _Definition(
        names.GRPC_ROUTE, routes.GRPCRouteSpec, "Where gRPC calls go.", columns=_OF_ROUTES, status=parents
    )
    yield _Definition(
        names.TLS_ROUTE,
        routes.TLSRouteSpec,
        "Where TLS connections go, by the name they ask for.",
        status=parents,
    )
    yield _Definition(names.TCP_ROUTE, routes.TCPRouteSpec, "Where TCP connections go.", status=parents)
    yield _Definition(
        names.REFERENCE_GRANT,
        model.ReferenceGrantSpec,
        "Lets objects of other namespaces refer to some of this one.",
        ("v1beta1", "v1"),
        ("refgrant",),
    )


def crds() -> list[Object]:
    return [_crd(each) for each in _table()]


def _crd(definition: _Definition) -> Object:
    resource = definition.resource
    versions: list[Object] = [
        {
            "name": version,
            "served": True,
            "storage": version == definition.versions[0],
            "schema": {"openAPIV3Schema": _document(definition)},
            "additionalPrinterColumns": [_column(*column) for column in definition.columns],
            **({"subresources": {"status": {}}} if definition.status is not None else {}),
        }
        for version in definition.versions
    ]
    plural, singular = resource.plural, resource.kind.lower()
    listed = {
        "kind": resource.kind,
        "listKind": f"{resource.kind}List",
        "plural": plural,
        "singular": singular,
    }
    if definition.short_names:
        listed["shortNames"] = list(definition.short_names)  # type: ignore[assignment]
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {
            "name": resource.group_resource,
            "annotations": {
                # The API server admits definitions in k8s.io only with a word on who reviewed them.
                "api-approved.kubernetes.io": "https://github.com/kubernetes-sigs/gateway-api/pull/4530",
                f"{names.GROUP}/bundle-version": names.BUNDLE_VERSION,
                f"{names.GROUP}/channel": "standard",
            },
        },
        "spec": {
            "group": resource.group,
            "names": {**listed, "categories": ["gateway-api"]},
            "scope": "Namespaced" if resource.namespaced else "Cluster",
            "versions": versions,
        },
    }


def _column(name: str, path: str) -> Object:
    return {"name": name, "type": "date" if name == "Age" else "string", "jsonPath": path}


def _document(definition: _Definition) -> Object:
    spec = _Schemas().schema(types.type_info(definition.spec))
    properties: Object = {
        "apiVersion": {"type": "string"},
        "kind": {"type": "string"},
        "metadata": {"type": "object"},
        "spec": spec,
    }
    if definition.status is not None:
        properties["status"] = definition.status
    return {
        "type": "object",
        "description": definition.description,
        "properties": properties,
        "required": ["spec"],
    }
