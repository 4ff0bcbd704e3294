"""The CustomResourceDefinitions of the mesh's kinds, derived from the structs that are read.

Istio's whole fields are in them: what the mesh does not act on is kept, whoever wrote it and with
whatever validation, so that its object can be refused with words rather than served without it.
All versions of a kind are the same.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from typing import Any, Final

import msgspec
import msgspec.inspect as types

from ondol.api.objects import Object
from ondol.contracts import mesh
from ondol.mesh.kinds import KINDS
from ondol.mesh.kinds.kind import Kind, Kinds
from ondol.mesh.model import istio
from ondol.mesh.translate.reach import INGRESS_WORKLOAD, ISTIO_SYSTEM

DEFAULT_GATEWAY_MARK: Final = "mesh.ondol.dev/default-gateway-made"
"""Annotation of a namespace: the mesh has made its Gateway there, and makes it no second time."""

_AGE: Final = {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}
_OBSERVED_GENERATION: Final = {
    "type": "integer",
    "format": "int64",
    "description": "The generation of the spec that the status is about.",
}
_CONDITIONS: Final = {
    "type": "array",
    "description": "Programmed tells whether Envoy has it, and why not.",
    "x-kubernetes-list-type": "map",
    "x-kubernetes-list-map-keys": ["type"],
    "items": {
        "type": "object",
        "required": ["type", "status"],
        "properties": {
            "type": {"type": "string"},
            "status": {"type": "string", "enum": ["True", "False", "Unknown"]},
            "reason": {"type": "string"},
            "message": {"type": "string"},
            "lastTransitionTime": {"type": "string", "format": "date-time"},
            "observedGeneration": _OBSERVED_GENERATION,
        },
    },
}


_UNSUPPORTED: Final = {
    "description": "Not supported: an object that says something here is refused (Accepted is False).",
    "x-kubernetes-preserve-unknown-fields": True,
}


def crds(kinds: Kinds = KINDS) -> list[Object]:
    """The definitions of the mesh's kinds."""
    return [_crd(kind) for kind in kinds.values()]


def _columns(kind: Kind[Any]) -> list[Object]:
    judged = [
        _column("Programmed", '.status.conditions[?(@.type=="Programmed")].status'),
        _column("Reason", '.status.conditions[?(@.type=="Programmed")].reason'),
        _column("Findings", '.status.conditions[?(@.type=="PassedAnalysis")].reason'),
    ]
    last = [
        _AGE,
        {**_column("Message", '.status.conditions[?(@.type=="Programmed")].message'), "priority": 1},
    ]
    return [*(_column(*column) for column in kind.columns), *judged, *last]


def _column(name: str, path: str) -> Object:
    return {"name": name, "type": "string", "jsonPath": path}


def _crd(kind: Kind[Any]) -> Object:
    resource = kind.resource
    schema, columns = {"openAPIV3Schema": _document(kind)}, _columns(kind)
    versions: list[Object] = [
        {
            "name": version,
            "served": True,
            "storage": version == kind.versions[0],
            "schema": schema,
            "subresources": {"status": {}},
            "additionalPrinterColumns": columns,
        }
        for version in kind.versions
    ]
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{resource.plural}.{resource.group}"},
        "spec": {
            "group": resource.group,
            "names": {
                "kind": kind.name,
                "listKind": f"{kind.name}List",
                "plural": resource.plural,
                "singular": kind.name.lower(),
                "shortNames": [kind.short_name],
                "categories": ["istio-io", resource.group.replace(".", "-")],
            },
            "scope": "Namespaced",
            "versions": versions,
        },
    }


def _document(kind: Kind[Any]) -> Object:
    """The schema of whole objects."""
    status = {
        "type": "object",
        "description": "What became of it.",
        "properties": {
            "conditions": _CONDITIONS,
            "observedGeneration": _OBSERVED_GENERATION,
            **kind.status,
        },
    }
    spec = Schemas(kind.fields).schema(types.type_info(kind.spec))
    return {
        "type": "object",
        "description": kind.description,
        "properties": {"spec": spec, "status": status},
        "required": ["spec"],
    }


class Schemas:
    """Structural schemas of structs, described by `fields`; no defaults are in them, as in Istio's."""

    def __init__(self, fields: Mapping[str, Mapping[str, str]]) -> None:
        self._fields = fields

    def schema(self, type: types.Type) -> Object:
        match type:
            case types.Metadata():
                return self.schema(type.type)
            case types.UnionType():
                members = [member for member in type.types if not isinstance(member, types.NoneType)]
                if len(members) != 1:
                    raise TypeError(f"a field has more than one type: {members}")
                return self.schema(members[0])
            case types.StructType():
                return self._struct(type)
            case types.VarTupleType():
                items = {"items": self.schema(type.item_type)}
                return {"type": "array"} | items | bounds(type, minItems="min_length")
            case types.AnyType():
                return {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
            case types.DictType():
                return {"type": "object", "additionalProperties": self.schema(type.value_type)}
        return scalar(type)

    def _struct(self, type: types.StructType) -> Object:
        texts = self._fields[type.cls.__name__]
        unsupported = istio.unsupported(type.cls)
        schema: Object = {
            "type": "object",
            "properties": {
                field.encode_name: (
                    _UNSUPPORTED
                    if field.name in unsupported
                    else {"description": texts[field.encode_name], **self.schema(field.type)}
                )
                for field in type.fields
            },
        }
        required = [field.encode_name for field in type.fields if field.required]
        return {**schema, "required": required} if required else schema


def scalar(type: types.Type) -> Object:
    """The schema of what has no parts."""
    match type:
        case types.StrType():
            limits = bounds(type, minLength="min_length", maxLength="max_length", pattern="pattern")
            return {"type": "string"} | limits
        case types.BoolType():
            return {"type": "boolean"}
        case types.IntType():
            return {"type": "integer"} | bounds(type, minimum="ge", maximum="le")
        case types.FloatType():
            return {"type": "number"} | bounds(type, minimum="ge", maximum="le")
        case types.LiteralType():
            name = "integer" if isinstance(type.values[0], int) else "string"
            return {"type": name, "enum": list(type.values)}
    raise TypeError(f"no schema for {type}")


def bounds(type: types.Type, **names: str) -> Object:
    """The bounds of a type, by their names in a schema."""
    values = {name: getattr(type, attribute) for name, attribute in names.items()}
    return {name: value for name, value in values.items() if value is not None}


def default_gateway(namespace: str) -> Object:
    """The Gateway that admits every host on the ingress port; made by the mesh when it is not there."""
    server = istio.Server(port=istio.Port(number=80, name="http", protocol="HTTP"), hosts=("*",))
    spec = istio.GatewaySpec(servers=(server,), selector={"istio": "ingressgateway"})
    return {
        "apiVersion": f"{mesh.GROUP}/v1",
        "kind": "Gateway",
        "metadata": {"name": mesh.DEFAULT_GATEWAY, "namespace": namespace},
        "spec": msgspec.to_builtins(spec),
    }


INGRESS_CLASS: Final = "ondol.dev/ingress"
"""Of the Service whose load the proxy balances, and no node."""


def ingress_service(port: int, tls_port: int) -> Object:
    """The Service of the ingress, by the name and port name that Istio's instructions look for.

    It selects no pods: the proxy itself listens at the port, at the address in the Service's status.
    """
    labels = {"app": INGRESS_WORKLOAD, "istio": "ingressgateway"}
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": INGRESS_WORKLOAD, "namespace": ISTIO_SYSTEM, "labels": labels},
        "spec": {
            "type": "LoadBalancer",
            "allocateLoadBalancerNodePorts": False,
            "loadBalancerClass": INGRESS_CLASS,
            "ports": [
                {"name": "http2", "port": port, "targetPort": 8080, "protocol": "TCP"},
                {"name": "https", "port": tls_port, "targetPort": 8443, "protocol": "TCP"},
            ],
        },
    }


def ingress_status(address: str) -> Object:
    """The status of its Service, where it is reached: on this machine, if it listens on every address."""
    ip = "127.0.0.1" if ipaddress.ip_address(address).is_unspecified else address
    return {"loadBalancer": {"ingress": [{"ip": ip}]}}
