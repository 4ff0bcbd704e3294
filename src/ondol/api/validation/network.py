"""Rules of Services, Endpoints and EndpointSlices."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Mapping
from typing import Any, Final

from ondol.api import services
from ondol.api.schema import causes
from ondol.api.validation import fields, metadata
from ondol.base import addresses, names
from ondol.base.errors import Cause

_TYPES: Final = ("ClusterIP", "ExternalName", "LoadBalancer", "NodePort")
_POLICIES: Final = ("Cluster", "Local")
_EXTERNAL: Final = ("NodePort", "LoadBalancer")
_DISTRIBUTIONS: Final = ("PreferClose", "PreferSameZone", "PreferSameNode")
_ADDRESS: Final = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"
_MAX_AFFINITY_S: Final = 86400


def service(obj: Mapping[str, Any]) -> Iterator[Cause]:
    spec = obj.get("spec") or {}
    kind = spec.get("type") or ""
    yield from fields.one_of("spec.type", kind, _TYPES, required=True)
    yield from fields.one_of(
        "spec.sessionAffinity", spec.get("sessionAffinity"), ("ClientIP", "None"), required=True
    )
    yield from metadata.label_pairs(spec.get("selector") or {}, "spec.selector")
    if kind == "ExternalName":
        yield from _external_name(spec)
    else:
        if not spec.get("ports") and spec.get("clusterIP") != "None":
            yield causes.required("spec.ports")
        yield from _cluster_ips(spec)
    if kind == "LoadBalancer" and spec.get("clusterIP") == "None":
        detail = "may not be set to 'None' for LoadBalancer services"
        yield causes.invalid("spec.clusterIPs[0]", "None", detail)
    yield from _ports(spec.get("ports") or (), kind)
    yield from _traffic(spec, kind)
    timeout = ((spec.get("sessionAffinityConfig") or {}).get("clientIP") or {}).get("timeoutSeconds")
    if timeout is not None and not 0 < timeout <= _MAX_AFFINITY_S:
        detail = f"must be greater than 0 and less than {_MAX_AFFINITY_S}"
        yield causes.invalid("spec.sessionAffinityConfig.clientIP.timeoutSeconds", timeout, detail)
    for index, address in enumerate(spec.get("externalIPs") or ()):
        yield from _reachable(f"spec.externalIPs[{index}]", address)


def _external_name(spec: Mapping[str, Any]) -> Iterator[Cause]:
    name = (spec.get("externalName") or "").rstrip(".")
    if spec.get("clusterIP"):
        yield causes.forbidden("spec.clusterIPs[0]", "may not be set for ExternalName services")
    if not name:
        yield causes.required("spec.externalName")
    elif not names.is_dns1123_subdomain(name):
        yield causes.invalid("spec.externalName", spec["externalName"], fields.SUBDOMAIN)
    for field in ("ipFamilies", "ipFamilyPolicy"):
        if spec.get(field):
            yield causes.forbidden(f"spec.{field}", "may not be set for ExternalName services")


def _cluster_ips(spec: Mapping[str, Any]) -> Iterator[Cause]:
    cluster_ips = spec.get("clusterIPs") or ()
    if spec.get("clusterIP") and cluster_ips and cluster_ips[0] != spec["clusterIP"]:
        yield causes.invalid("spec.clusterIPs", list(cluster_ips), "first value must match `clusterIP`")
    for index, address in enumerate(cluster_ips):
        if address == "None":
            if len(cluster_ips) > 1:
                detail = "'None' must be the first and only value"
                yield causes.invalid(f"spec.clusterIPs[{index}]", address, detail)
        else:
            yield from _address(f"spec.clusterIPs[{index}]", address)


def _ports(ports: Any, kind: str) -> Iterator[Cause]:
    seen: set[Any] = set()
    yield from fields.unique(
        "spec.ports", ((i, p["name"]) for i, p in enumerate(ports) if p.get("name")), "name"
    )
    for index, port in enumerate(ports):
        item_path = f"spec.ports[{index}]"
        if port.get("name"):
            yield from fields.label(f"{item_path}.name", port["name"])
        elif len(ports) > 1:
            yield causes.required(f"{item_path}.name")
        yield from fields.port(f"{item_path}.port", port.get("port"))
        yield from fields.one_of(
            f"{item_path}.protocol", port.get("protocol"), fields.PROTOCOLS, required=True
        )
        yield from fields.port_or_name(f"{item_path}.targetPort", port.get("targetPort"))
        if port.get("nodePort"):
            yield from fields.port(f"{item_path}.nodePort", port["nodePort"])
            if kind not in _EXTERNAL:
                detail = "may not be used when `type` is 'ClusterIP'"
                yield causes.forbidden(f"{item_path}.nodePort", detail)
        pair = (port.get("protocol"), port.get("port"))
        if pair in seen:
            yield causes.duplicate(item_path, {"port": port.get("port"), "protocol": port.get("protocol")})
        seen.add(pair)


def _traffic(spec: Mapping[str, Any], kind: str) -> Iterator[Cause]:
    yield from fields.one_of("spec.internalTrafficPolicy", spec.get("internalTrafficPolicy"), _POLICIES)
    external = spec.get("externalTrafficPolicy")
    yield from fields.one_of("spec.externalTrafficPolicy", external, _POLICIES)
    if external and kind not in _EXTERNAL and not spec.get("externalIPs"):
        detail = "may only be set for externally-accessible services"
        yield causes.invalid("spec.externalTrafficPolicy", external, detail)
    for field in ("allocateLoadBalancerNodePorts", "loadBalancerClass"):
        if spec.get(field) is not None and kind != "LoadBalancer":
            yield causes.forbidden(f"spec.{field}", "may only be used when `type` is 'LoadBalancer'")

    checked = spec.get("healthCheckNodePort")
    if checked:
        yield from fields.port("spec.healthCheckNodePort", checked)
        if not services.has_health_check(spec):
            detail = "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'"
            yield causes.invalid("spec.healthCheckNodePort", checked, detail)
    yield from fields.one_of("spec.trafficDistribution", spec.get("trafficDistribution"), _DISTRIBUTIONS)


def _address(path: str, value: str) -> Iterator[Cause]:
    try:
        ipaddress.ip_address(value)
    except ValueError:
        yield causes.invalid(path, value, _ADDRESS)


def _reachable(path: str, value: str) -> Iterator[Cause]:
    """An address that may be another machine's (ValidateNonSpecialIP)."""
    address = addresses.parsed(value)
    if address is None:
        yield causes.invalid(path, value, _ADDRESS)
    elif objection := addresses.objection(address):
        yield causes.invalid(path, value, objection)


def service_update(new: Mapping[str, Any], old: Mapping[str, Any]) -> Iterator[Cause]:
    """An assigned cluster address and its family may not change, but for services of type ExternalName."""
    spec, old_spec = new.get("spec") or {}, old.get("spec") or {}
    checked = all(map(services.has_health_check, (spec, old_spec)))
    if checked and spec.get("healthCheckNodePort") != old_spec.get("healthCheckNodePort"):
        yield causes.forbidden("spec.healthCheckNodePort", fields.IMMUTABLE)
    if "ExternalName" in (spec.get("type"), old_spec.get("type")):
        return
    if old_spec.get("clusterIP"):
        if spec.get("clusterIP") != old_spec["clusterIP"]:
            detail = "may not change once set"
            yield causes.invalid("spec.clusterIPs[0]", spec.get("clusterIP") or "", detail)
        families, before = spec.get("ipFamilies") or (), old_spec.get("ipFamilies") or ()
        if families and before and families[0] != before[0]:
            yield causes.invalid("spec.ipFamilies[0]", families[0], "may not change once set")
    if old_spec.get("loadBalancerClass") and spec.get("type") == "LoadBalancer":
        yield from fields.same(
            "spec.loadBalancerClass",
            spec.get("loadBalancerClass"),
            old_spec["loadBalancerClass"],
            "may not change once set",
        )


def endpoints(obj: Mapping[str, Any]) -> Iterator[Cause]:
    for index, subset in enumerate(obj.get("subsets") or ()):
        item_path = f"subsets[{index}]"
        if not subset.get("addresses") and not subset.get("notReadyAddresses"):
            yield causes.required(item_path, "must specify `addresses` or `notReadyAddresses`")
        for field in ("addresses", "notReadyAddresses"):
            for at, address in enumerate(subset.get(field) or ()):
                yield from _reachable(f"{item_path}.{field}[{at}].ip", address.get("ip") or "")
        ports = subset.get("ports") or ()
        for at, port in enumerate(ports):
            spot = f"{item_path}.ports[{at}]"
            if len(ports) > 1 and not port.get("name"):
                yield causes.required(f"{spot}.name")
            yield from fields.port(f"{spot}.port", port.get("port"))
            yield from fields.one_of(
                f"{spot}.protocol", port.get("protocol"), fields.PROTOCOLS, required=True
            )


def endpoint_slice(obj: Mapping[str, Any]) -> Iterator[Cause]:
    family = obj.get("addressType") or ""
    yield from fields.one_of("addressType", family, ("FQDN", "IPv4", "IPv6"), required=True)
    listed = obj.get("endpoints") or ()
    if len(listed) > 1000:
        yield causes.too_many("endpoints", len(listed), 1000)
    for index, endpoint in enumerate(listed):
        yield from _endpoint(endpoint, f"endpoints[{index}]", family)
    ports = obj.get("ports") or ()
    if len(ports) > 20000:
        yield causes.too_many("ports", len(ports), 20000)
    yield from fields.unique("ports", ((i, p.get("name")) for i, p in enumerate(ports)), "name")
    for index, port in enumerate(ports):
        if port.get("name"):
            yield from fields.label(f"ports[{index}].name", port["name"])
        yield from fields.one_of(
            f"ports[{index}].protocol", port.get("protocol"), fields.PROTOCOLS, required=True
        )


def _endpoint(endpoint: Mapping[str, Any], path: str, family: str) -> Iterator[Cause]:
    listed = endpoint.get("addresses") or ()
    if not listed:
        yield causes.required(f"{path}.addresses", "must contain at least 1 address")
    if len(listed) > 100:
        yield causes.too_many(f"{path}.addresses", len(listed), 100)
    for index, address in enumerate(listed):
        item_path = f"{path}.addresses[{index}]"
        if family == "FQDN":
            yield from fields.subdomain(item_path, address)
        elif family in ("IPv4", "IPv6"):
            yield from _of_family(item_path, address, family)
    if endpoint.get("hostname"):
        yield from fields.label(f"{path}.hostname", endpoint["hostname"])
    if endpoint.get("nodeName"):
        yield from fields.subdomain(f"{path}.nodeName", endpoint["nodeName"])


def _of_family(path: str, value: str, family: str) -> Iterator[Cause]:
    address = addresses.parsed(value)
    if address is None or f"IPv{address.version}" != family:
        yield causes.invalid(path, value, f"must be an {family} address")
    else:
        yield from _reachable(path, value)


def endpoint_slice_update(new: Mapping[str, Any], old: Mapping[str, Any]) -> Iterator[Cause]:
    yield from fields.same("addressType", new.get("addressType"), old.get("addressType"))
