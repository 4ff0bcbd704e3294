"""Services and their endpoints, ingresses, network policies."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from ondol.api import objects, resources
from ondol.api.objects import Object
from ondol.apiserver.state_metrics.families import (
    Family,
    Labels,
    Sample,
    Subject,
    at,
    created,
    deleted,
    exists,
    info,
    named,
    namespaced,
    once,
    one,
    revision,
)

_CLASS_ANNOTATION: Final = "kubernetes.io/ingress.class"


def _texts(source: Mapping[str, Any], **fields: str) -> Labels:
    """Labels from fields that may be missing, by the labels' names."""
    return tuple((label, str(source.get(field) or "")) for label, field in fields.items())


# Services


def _service_identity(service: Object) -> Labels:
    return (
        ("namespace", objects.namespace(service)),
        ("service", objects.name(service)),
        ("uid", objects.uid(service)),
    )


def _service(service: Object) -> Iterable[Sample]:
    return info(
        *_texts(
            objects.spec(service),
            cluster_ip="clusterIP",
            external_name="externalName",
            load_balancer_ip="loadBalancerIP",
            external_traffic_policy="externalTrafficPolicy",
        )
    )


def _balanced_at(service: Object) -> Iterable[Sample]:
    for ingress in at(service, "status", "loadBalancer", "ingress") or ():
        yield from info(*_texts(ingress, ip="ip", hostname="hostname"))


SERVICE: Final = Subject(
    resources.SERVICE,
    "service",
    _service_identity,
    (
        Family("kube_service_info", "Its addresses.", _service),
        created("service"),
        deleted("service"),
        Family(
            "kube_service_spec_type", "Its type.", lambda obj: info(*_texts(objects.spec(obj), type="type"))
        ),
        Family(
            "kube_service_spec_external_ip",
            "Addresses outside at which it is reached.",
            lambda obj: once(
                ((("external_ip", str(ip)),), 1) for ip in objects.spec(obj).get("externalIPs") or ()
            ),
        ),
        Family(
            "kube_service_status_load_balancer_ingress",
            "Where it is balanced.",
            lambda obj: once(_balanced_at(obj)),
        ),
    ),
)

# Endpoints


def _port(port: Mapping[str, Any]) -> Labels:
    return _texts(port, port_name="name", port_protocol="protocol", port_number="port")


def _endpoint_addresses(endpoints: Object) -> Iterable[Sample]:
    for subset in endpoints.get("subsets") or ():
        for port in subset.get("ports") or ():
            for field, is_ready in (("addresses", "true"), ("notReadyAddresses", "false")):
                for address in subset.get(field) or ():
                    yield from info(*_port(port), ("ip", str(address.get("ip"))), ("ready", is_ready))


def _endpoint_ports(endpoints: Object) -> Iterable[Sample]:
    for subset in endpoints.get("subsets") or ():
        for port in subset.get("ports") or ():
            yield from info(*_port(port))


ENDPOINTS: Final = Subject(
    resources.ENDPOINTS,
    "endpoint",
    namespaced("endpoint"),
    (
        exists("endpoint"),
        created("endpoint"),
        Family("kube_endpoint_address", "Its addresses.", lambda obj: once(_endpoint_addresses(obj))),
        Family("kube_endpoint_ports", "Its ports.", lambda obj: once(_endpoint_ports(obj))),
    ),
)


def _slice_endpoints(slice_: Object) -> Iterable[Sample]:
    for endpoint in slice_.get("endpoints") or ():
        states = endpoint.get("conditions") or {}
        target = endpoint.get("targetRef") or {}
        common = (
            *(
                (name, str(bool(states.get(name))).lower())
                for name in ("ready", "serving", "terminating")
                if name in states
            ),
            *_texts(endpoint, hostname="hostname"),
            *_texts(target, targetref_kind="kind", targetref_name="name", targetref_namespace="namespace"),
            *_texts(endpoint, endpoint_nodename="nodeName", endpoint_zone="zone"),
        )
        for address in endpoint.get("addresses") or ():
            yield (*common, ("address", str(address))), 1


def _hints(slice_: Object) -> Iterable[Sample]:
    for endpoint in slice_.get("endpoints") or ():
        addresses = endpoint.get("addresses") or ()
        for zone in at(endpoint, "hints", "forZones") or ():
            if addresses:
                yield from info(("address", str(addresses[0])), ("for_zone", str(zone.get("name"))))


ENDPOINT_SLICE: Final = Subject(
    resources.ENDPOINT_SLICE,
    "endpointslice",
    namespaced("endpointslice"),
    (
        Family(
            "kube_endpointslice_info",
            "Its kind of addresses.",
            lambda obj: info(*_texts(obj, addresstype="addressType")),
        ),
        created("endpointslice"),
        Family("kube_endpointslice_endpoints", "Its endpoints.", lambda obj: once(_slice_endpoints(obj))),
        Family(
            "kube_endpointslice_endpoints_hints",
            "The zones that its endpoints are for.",
            lambda obj: once(_hints(obj)),
        ),
        Family(
            "kube_endpointslice_ports",
            "Its ports.",
            lambda obj: once((_port(port), 1) for port in obj.get("ports") or ()),
        ),
    ),
)

# Ingresses


def _ingress(ingress: Object) -> Iterable[Sample]:
    name = objects.annotations(ingress).get(_CLASS_ANNOTATION) or objects.spec(ingress).get(
        "ingressClassName"
    )
    return info(("ingressclass", str(name or "_default")))


def _paths(ingress: Object) -> Iterable[Sample]:
    for rule in objects.spec(ingress).get("rules") or ():
        for path in at(rule, "http", "paths") or ():
            backend = path.get("backend") or {}
            place = (*_texts(rule, host="host"), *_texts(path, path="path", path_type="pathType"))
            if service := backend.get("service"):
                port = service.get("port") or {}
                number = str(port.get("number") or port.get("name") or "")
                yield (*place, ("service_name", str(service.get("name"))), ("service_port", number)), 1
            elif resource := backend.get("resource"):
                fields = _texts(
                    resource, resource_api_group="apiGroup", resource_kind="kind", resource_name="name"
                )
                yield (*place, *fields), 1


def _tls(ingress: Object) -> Iterable[Sample]:
    for each in objects.spec(ingress).get("tls") or ():
        for host in each.get("hosts") or ():
            yield from info(("tls_host", str(host)), ("secret", str(each.get("secretName") or "")))


INGRESS: Final = Subject(
    resources.INGRESS,
    "ingress",
    namespaced("ingress"),
    (
        Family("kube_ingress_info", "Its class.", _ingress),
        created("ingress"),
        revision("ingress"),
        Family("kube_ingress_path", "Its paths, and where each leads.", lambda obj: once(_paths(obj))),
        Family("kube_ingress_tls", "The hosts that it has certificates for.", lambda obj: once(_tls(obj))),
    ),
)

INGRESS_CLASS: Final = Subject(
    resources.INGRESS_CLASS,
    "ingressclass",
    named("ingressclass"),
    (
        Family(
            "kube_ingressclass_info",
            "Who acts on it.",
            lambda obj: info(*_texts(objects.spec(obj), controller="controller")),
        ),
        created("ingressclass"),
    ),
)


def _rules(policy: Object, direction: str) -> Iterable[Sample]:
    return one(len(objects.spec(policy).get(direction) or ()))


NETWORK_POLICY: Final = Subject(
    resources.NETWORK_POLICY,
    "networkpolicy",
    namespaced("networkpolicy"),
    (
        created("networkpolicy"),
        Family(
            "kube_networkpolicy_spec_ingress_rules",
            "Its rules of what may come.",
            lambda obj: _rules(obj, "ingress"),
        ),
        Family(
            "kube_networkpolicy_spec_egress_rules",
            "Its rules of what may go.",
            lambda obj: _rules(obj, "egress"),
        ),
    ),
)
