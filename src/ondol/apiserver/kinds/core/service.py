"""Services: what they keep of their addresses across updates. Allocation itself is admission's."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar, Final

from ondol.api import objects
from ondol.api import services as services_
from ondol.api.defaults import network as defaults
from ondol.api.objects import Object
from ondol.api.tables import builtin
from ondol.api.validation import Rules, fields, network, warnings
from ondol.apiserver.admission import addresses, services
from ondol.apiserver.admission.chain import Plugins
from ondol.apiserver.auth.bootstrap_policy import Access
from ondol.apiserver.kinds.registration import Kind
from ondol.apiserver.strategy import Context, Strategy
from ondol.apiserver.unsupported import Rule, Unsupported

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
        _keep_allocated(spec, was)
        for applies, typed in _TYPED:
            if applies(was) and not applies(spec):
                _drop_unchanged(spec, was, typed)
        if _is_on_nodes(was) and not _is_on_nodes(spec) and _node_ports(was) >= _node_ports(spec):
            for port in spec.get("ports") or ():
                port.pop("nodePort", None)
        if spec.get("type") != "LoadBalancer":
            new["status"] = {**objects.status(new), "loadBalancer": {}}

    def warnings(self, new: Object, old: Object | None) -> list[str]:
        return warnings.service(new, old)


def _is_addressed(spec: Mapping[str, Any]) -> bool:
    return spec.get("type") in services.ADDRESSED


def _is_on_nodes(spec: Mapping[str, Any]) -> bool:
    return spec.get("type") in _ON_NODES


def _is_balanced(spec: Mapping[str, Any]) -> bool:
    return spec.get("type") == "LoadBalancer"


def _is_external(spec: Mapping[str, Any]) -> bool:
    return _is_on_nodes(spec) or (spec.get("type") == "ClusterIP" and bool(spec.get("externalIPs")))


# What a Service must be for fields to mean anything. Those a client did not change itself go with
# the type; changed ones stay, for validation to refuse (`dropTypeDependentFields` of the strategy).
_TYPED: Final[tuple[tuple[Callable[[Mapping[str, Any]], bool], tuple[tuple[str, ...], ...]], ...]] = (
    (_is_addressed, (("clusterIP", "clusterIPs"), ("ipFamilies",), ("ipFamilyPolicy",))),
    (services_.has_health_check, (("healthCheckNodePort",),)),
    (_is_balanced, (("allocateLoadBalancerNodePorts",), ("loadBalancerClass",))),
    (_is_external, (("externalTrafficPolicy",),)),
)


def _drop_unchanged(spec: Any, was: Mapping[str, Any], together: Iterable[tuple[str, ...]]) -> None:
    for group in together:
        if all(spec.get(field) == was.get(field) for field in group):
            for field in group:
                spec.pop(field, None)


def _keep_allocated(spec: Any, was: Mapping[str, Any]) -> None:
    if _is_addressed(spec) and _is_addressed(was) and not spec.get("clusterIP") and was.get("clusterIP"):
        spec["clusterIP"] = was["clusterIP"]
        spec["clusterIPs"] = list(was.get("clusterIPs") or [was["clusterIP"]])
    if _is_on_nodes(spec) and _is_on_nodes(was):
        _keep_node_ports(spec.get("ports") or (), was)
    if services_.has_health_check(spec) and services_.has_health_check(was):
        _keep_health_check_port(spec, was)


def _keep_health_check_port(spec: Any, was: Mapping[str, Any]) -> None:
    if not spec.get("healthCheckNodePort") and was.get("healthCheckNodePort"):
        spec["healthCheckNodePort"] = was["healthCheckNodePort"]


def _keep_node_ports(ports: Any, was: Mapping[str, Any]) -> None:
    """Ports are the same by their names, whatever else of them changed."""
    by_name = {port.get("name"): port.get("nodePort") for port in was.get("ports") or ()}
    taken = _node_ports({"ports": ports})
    for port in ports:
        former = by_name.get(port.get("name"))
        if not port.get("nodePort") and former and former not in taken:
            port["nodePort"] = former


def _node_ports(spec: Mapping[str, Any]) -> set[int]:
    return {port["nodePort"] for port in spec.get("ports") or () if port.get("nodePort")}


_UNSUPPORTED: Final = (
    Rule("ipFamilyPolicy", "addresses are IPv4", ("SingleStack", "PreferDualStack")),
    Rule(
        "sessionAffinityConfig",
        "calls from pods of the mesh stay with their endpoint longer",
        ({"clientIP": {"timeoutSeconds": 10800}},),  # the default, which nobody wrote
    ),
)

KIND: Final = Kind(
    "",
    "Service",
    strategy=Service(),
    default=defaults.service,
    rules=Rules(network.service, network.service_update, fields.label_1035),
    layout=builtin.layout("", "Service"),
    unsupported=Unsupported(_UNSUPPORTED),
    plugins=Plugins(allocating=(addresses.admit_service, services.admit)),
    access=Access(view=("services", "services/status"), edit=("services",)),
)
