"""Services: what they keep of their addresses across updates. Allocation itself is admission's."""

from __future__ import annotations

from typing import Any, ClassVar, Final

from ondol.api import objects
from ondol.api.objects import Object
from ondol.apiserver.strategies.base import Context, Strategy

_ADDRESSED: Final = ("ClusterIP", "NodePort", "LoadBalancer")
_ON_NODES: Final = ("NodePort", "LoadBalancer")


class Service(Strategy):
    has_status: ClassVar[bool] = True
    create_on_update: ClassVar[bool] = True
    returns_deleted: ClassVar[bool] = True

    def prepare_for_create(self, context: Context, new: Object) -> None:
        super().prepare_for_create(context, new)
        new["status"] = {"loadBalancer": {}}

    def prepare_for_update(self, context: Context, new: Object, old: Object) -> None:
        """Take over allocated values the client left out, and drop those of a type it left."""
        super().prepare_for_update(context, new, old)
        spec, was = new["spec"], old["spec"]
        if spec.get("type") in _ADDRESSED and was.get("type") in _ADDRESSED:
            if not spec.get("clusterIP") and was.get("clusterIP"):
                spec["clusterIP"] = was["clusterIP"]
                spec["clusterIPs"] = list(was.get("clusterIPs") or [was["clusterIP"]])
        elif spec.get("type") == "ExternalName" and spec.get("clusterIP") == was.get("clusterIP"):
            for field in ("clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"):
                spec.pop(field, None)
        if spec.get("type") in _ON_NODES:
            if was.get("type") in _ON_NODES:
                _keep_node_ports(spec.get("ports") or (), was.get("ports") or ())
        elif was.get("type") in _ON_NODES:
            _drop_node_ports(spec.get("ports") or (), was.get("ports") or ())


def _keep_node_ports(ports: Any, old: Any) -> None:
    known = {_identity(port): port.get("nodePort") for port in old}
    taken = {port.get("nodePort") for port in ports if port.get("nodePort")}
    for port in ports:
        kept = known.get(_identity(port))
        if not port.get("nodePort") and kept and kept not in taken:
            port["nodePort"] = kept


def _drop_node_ports(ports: Any, old: Any) -> None:
    was = {port.get("nodePort") for port in old}
    for port in ports:
        if port.get("nodePort") in was:
            port.pop("nodePort", None)


def _identity(port: Any) -> tuple[Any, Any]:
    return port.get("protocol"), port.get("port")


def needs_address(service: Object) -> bool:
    spec = objects.spec(service)
    return spec.get("type") in _ADDRESSED and not spec.get("clusterIP")


def needs_node_ports(service: Object) -> bool:
    spec = objects.spec(service)
    if spec.get("type") == "LoadBalancer":
        return spec.get("allocateLoadBalancerNodePorts") is not False
    return spec.get("type") == "NodePort"
