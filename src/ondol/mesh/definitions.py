"""The CustomResourceDefinitions of Istio's traffic kinds, derived from the structs that are read.

Istio's whole fields are in them: what the mesh does not act on is kept, whoever wrote it and with
whatever validation, so that its object can be refused with words rather than served without it.
Served as v1 (stored), v1beta1 and v1alpha3, which are the same.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from typing import Any, Final

import msgspec
import msgspec.inspect as types

from ondol.api.objects import Object
from ondol.contracts import mesh
from ondol.mesh import descriptions
from ondol.mesh.model import istio
from ondol.mesh.translate.reach import INGRESS_WORKLOAD, ISTIO_SYSTEM

_VERSIONS: Final = ("v1", "v1beta1", "v1alpha3")
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


def crds() -> list[Object]:
    """VirtualService, DestinationRule and Gateway."""
    judged = [
        _column("Programmed", '.status.conditions[?(@.type=="Programmed")].status'),
        _column("Reason", '.status.conditions[?(@.type=="Programmed")].reason'),
        _column("Findings", '.status.conditions[?(@.type=="PassedAnalysis")].reason'),
    ]
    last = [
        _AGE,
        {**_column("Message", '.status.conditions[?(@.type=="Programmed")].message'), "priority": 1},
    ]
    return [
        _crd(
            "VirtualService",
            "vs",
            _column("Gateways", ".spec.gateways"),
            _column("Hosts", ".spec.hosts"),
            *judged,
            *last,
        ),
        _crd("DestinationRule", "dr", _column("Host", ".spec.host"), *judged, *last),
        _crd("Gateway", "gw", *judged, *last),
    ]


def _column(name: str, path: str) -> Object:
    return {"name": name, "type": "string", "jsonPath": path}


def _crd(kind: str, short: str, *columns: Object) -> Object:
    plural = f"{kind.lower()}s"
    schema = {
        "type": "object",
        "description": descriptions.KINDS[kind],
        "properties": {
            "spec": _schema(types.type_info(istio.SPECS[kind])),
            "status": {
                "type": "object",
                "description": "What became of it.",
                "properties": {
                    "conditions": _CONDITIONS,
                    "observedGeneration": _OBSERVED_GENERATION,
                },
            },
        },
        "required": ["spec"],
    }
    versions: list[Object] = [
        {
            "name": version,
            "served": True,
            "storage": version == _VERSIONS[0],
            "schema": {"openAPIV3Schema": schema},
            "subresources": {"status": {}},
            "additionalPrinterColumns": list(columns),
        }
        for version in _VERSIONS
    ]
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{mesh.GROUP}"},
        "spec": {
            "group": mesh.GROUP,
            "names": {
                "kind": kind,
                "listKind": f"{kind}List",
                "plural": plural,
                "singular": kind.lower(),
                "shortNames": [short],
                "categories": ["istio-io", "networking-istio-io"],
            },
            "scope": "Namespaced",
            "versions": versions,
        },
    }


def _schema(kind: types.Type) -> Object:
    """The structural schema of a type; there are no defaults in it, as there are none in Istio's."""
    if isinstance(kind, types.Metadata):
        return _schema(kind.type)
    if isinstance(kind, types.UnionType):
        members = [member for member in kind.types if not isinstance(member, types.NoneType)]
        if len(members) != 1:
            raise TypeError(f"a field has more than one type: {members}")
        return _schema(members[0])
    return _MAKERS[type(kind)](kind)


def _struct(kind: Any) -> Object:
    texts = descriptions.FIELDS[kind.cls.__name__]
    unsupported = istio.unsupported(kind.cls)
    found: Object = {
        "type": "object",
        "properties": {
            field.encode_name: (
                _UNSUPPORTED
                if field.name in unsupported
                else {"description": texts[field.encode_name], **_schema(field.type)}
            )
            for field in kind.fields
        },
    }
    required = [field.encode_name for field in kind.fields if field.required]
    return {**found, "required": required} if required else found


def _array(kind: Any) -> Object:
    return {"type": "array", "items": _schema(kind.item_type)} | _bounds(kind, minItems="min_length")


def _map(kind: Any) -> Object:
    return {"type": "object", "additionalProperties": _schema(kind.value_type)}


def _string(kind: Any) -> Object:
    bounds = _bounds(kind, minLength="min_length", maxLength="max_length", pattern="pattern")
    return {"type": "string"} | bounds


def _number(name: str) -> Callable[[Any], Object]:
    return lambda kind: {"type": name} | _bounds(kind, minimum="ge", maximum="le")


def _literal(kind: Any) -> Object:
    name = "integer" if isinstance(kind.values[0], int) else "string"
    return {"type": name, "enum": list(kind.values)}


def _bounds(kind: Any, **names: str) -> Object:
    found = {name: getattr(kind, attribute) for name, attribute in names.items()}
    return {name: value for name, value in found.items() if value is not None}


_MAKERS: Final[dict[type[Any], Callable[[Any], Object]]] = {
    types.StructType: _struct,
    types.VarTupleType: _array,
    types.DictType: _map,
    types.StrType: _string,
    types.BoolType: lambda _: {"type": "boolean"},
    types.IntType: _number("integer"),
    types.FloatType: _number("number"),
    types.LiteralType: _literal,
}


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


def ingress_service(port: int) -> Object:
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
            "ports": [{"name": "http2", "port": port, "targetPort": 8080, "protocol": "TCP"}],
        },
    }


def ingress_status(address: str) -> Object:
    """Where the ingress is reached: on this machine, if it listens on every address."""
    ip = "127.0.0.1" if ipaddress.ip_address(address).is_unspecified else address
    return {"status": {"loadBalancer": {"ingress": [{"ip": ip}]}}}
