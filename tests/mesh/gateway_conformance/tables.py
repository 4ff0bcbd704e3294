"""The cases of Gateway API's features, as data: read from YAML into objects of the API.

Each case is a table of its own: the objects, requests with what is expected of them, and what is said of the
objects. The facts are those of Gateway API's conformance suite; the structure and the words are our own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from ondol.api.objects import Object
from ondol.mesh.gateway_api.feed import gateway_class

_FOLDER = Path(__file__).with_name("cases")
_GROUP = "gateway.networking.k8s.io"


@dataclass(frozen=True)
class Case:
    """One table, with the base that all have."""

    area: str
    document: Mapping[str, Any]

    @property
    def name(self) -> str:
        return f"{self.area}: {self.document['name']}"

    @property
    def requests(self) -> list[Mapping[str, Any]]:
        return list(self.document.get("requests") or ())

    def objects(self) -> dict[str, list[Object]]:
        """By kind; Services with their EndpointSlices."""
        listed: dict[str, list[Object]] = {"GatewayClass": [gateway_class("ondol")]}
        for each in self._objects():
            listed.setdefault(each["kind"], []).append(each)
        return listed

    def _objects(self) -> Iterator[Object]:
        for name, labels in BASE["namespaces"].items():
            yield {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}
        for number, service in enumerate(BASE["services"]):
            yield from service_objects(number, service)
        for gateway in (*BASE["gateways"], *(self.document.get("gateways+") or ())):
            yield named("Gateway", gateway, gatewayClassName="ondol")
        for each in self.document.get("sets") or ():
            namespace, _, name = each["gateway"].rpartition("/")
            reference = {"name": name, "namespace": namespace}
            yield named(
                "ListenerSet", {"name": each["name"], "listeners": each["listeners"]}, parentRef=reference
            )
        for grant in self.document.get("grants") or ():
            from_ = [{"group": _GROUP, "kind": kind, "namespace": of} for kind, of in grant["from"]]
            to = [
                {"group": "", "kind": kind, **({"name": name[0]} if name else {})}
                for kind, *name in grant["to"]
            ]
            yield named("ReferenceGrant", {"name": grant["name"], "from": from_, "to": to})
        for route in self.document.get("routes") or ():
            yield route_object(route)


BASE: Mapping[str, Any] = yaml.safe_load((_FOLDER / "base.yaml").read_text())


def cases(*areas: str) -> list[Case]:
    """Those of the areas, or all."""
    files = sorted(path for path in _FOLDER.glob("*.yaml") if path.stem != "base")
    return [
        Case(path.stem, each)
        for path in files
        if not areas or path.stem in areas
        for each in yaml.safe_load(path.read_text())
    ]


def named(kind: str, document: Mapping[str, Any], **more: Any) -> Object:
    """An object of Gateway API's: its name and age, and everything else its spec."""
    namespace, _, name = document["name"].rpartition("/")
    spec = {key: value for key, value in document.items() if key not in ("name", "created")}
    created = f"2026-01-01T00:00:{document.get('created', 0):02}Z"
    return {
        "apiVersion": f"{_GROUP}/v1",
        "kind": kind,
        "metadata": {
            "name": name,
            "namespace": namespace,
            "creationTimestamp": created,
            "resourceVersion": "1",
            "generation": 1,
        },
        "spec": {**spec, **more},
    }


def route_object(route: Mapping[str, Any]) -> Object:
    parents = [_reference(each, {}) for each in route.get("parents") or ()]
    parents += [_reference(each, {"group": "", "kind": "Service"}) for each in route.get("services") or ()]
    rest = {key: value for key, value in route.items() if key not in ("kind", "parents", "services")}
    return named(route.get("kind", "HTTPRoute"), rest, parentRefs=parents)


def _reference(text: str | Mapping[str, Any], more: Mapping[str, Any]) -> Object:
    if isinstance(text, Mapping):
        return {**text, **more}
    namespace, _, name = text.rpartition("/")
    return {"name": name, **({"namespace": namespace} if namespace else {}), **more}


def service_objects(number: int, service: Mapping[str, Any]) -> Iterator[Object]:
    namespace, _, name = service["name"].rpartition("/")
    metadata = {"name": name, "namespace": namespace, "resourceVersion": "1"}
    ports = [
        {"name": name, "port": port, **({"appProtocol": protocol} if protocol else {})}
        for name, port, protocol in service["ports"]
    ]
    spec = {"clusterIP": f"10.96.7.{number + 1}", "ports": ports}
    yield {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec}
    addresses = [f"10.1.{number}.{index + 1}" for index in range(service.get("endpoints", 1))]
    yield {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {**metadata, "labels": {"kubernetes.io/service-name": name}},
        "addressType": "IPv4",
        "ports": [{"name": port["name"], "port": 3000, "protocol": "TCP"} for port in ports],
        "endpoints": [{"addresses": [each], "conditions": {"ready": True}} for each in addresses],
    }


def cluster_address(name: str) -> str:
    """The address of a Service of the base, `namespace/name`."""
    index = next(i for i, each in enumerate(BASE["services"]) if each["name"] == name)
    return f"10.96.7.{index + 1}"
