"""Validation of the kinds by which the outside joins the mesh, beyond what their schemas say.

The rules are those of Istio's validation and of its schemas' CEL; besides, what this machine cannot do
is refused with `Unsupported`: addresses of its own loopback and link, sockets of Unix, networks.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator
from typing import Final

from ondol.base import addresses
from ondol.mesh.model import kube, outside, syntax
from ondol.mesh.model.validation import Problem, Subject

_DNS: Final = ("DNS", "DNS_ROUND_ROBIN")
_DYNAMIC: Final = ("HTTP", "TLS", "GRPC", "HTTP2")
_ANY_ADDRESSES: Final = ("NONE", "STATIC")


def service_entry(spec: outside.ServiceEntrySpec, subject: Subject) -> Iterator[Problem]:
    if spec.workload_selector is not None and spec.endpoints:
        yield Problem("spec: only one of workloadSelector and endpoints may be given")
    yield from _selector(spec.workload_selector)
    yield from _hosts(spec)
    yield from _addresses(spec)
    yield from _ports(spec)
    yield from _resolution(spec)
    for index, endpoint in enumerate(spec.endpoints):
        yield from _placed(f"spec.endpoints[{index}]", _endpoint(endpoint, spec))
    if not all(spec.subject_alt_names):
        yield Problem("spec.subjectAltNames: a name is empty")
    yield from _export_to(spec.export_to, subject.namespace)


def _selector(selector: outside.WorkloadSelector | None) -> Iterator[Problem]:
    if selector is not None and (problem := syntax.labels(selector.labels)):
        yield Problem(f"spec.workloadSelector.labels: {problem}")


def _hosts(spec: outside.ServiceEntrySpec) -> Iterator[Problem]:
    for host in spec.hosts:
        if host == "*":
            yield Problem("spec.hosts: * alone is no host of an entry; name a host or *. and a domain")
        elif problem := syntax.host(host):
            yield Problem(f"spec.hosts: {problem}")
        elif syntax.is_address(host):
            yield Problem(f"spec.hosts: {host} is an address; addresses stand in spec.addresses")


def _addresses(spec: outside.ServiceEntrySpec) -> Iterator[Problem]:
    for text in spec.addresses:
        try:
            network = ipaddress.ip_network(text, strict=False)
        except ValueError:
            yield Problem(f"spec.addresses: {text!r} is no address and no network such as 192.0.2.0/24")
            continue
        if network.version != 4:
            yield Problem(
                f"spec.addresses: {text}: calls over IPv6 go past the mesh, so no IPv6 address is supported",
                "Unsupported",
            )
        elif addresses.is_special(str(network.network_address)):
            yield Problem(f"spec.addresses: {text} is of a machine's own loopback, link or multicast")
        if "/" in text and spec.resolution not in _ANY_ADDRESSES:
            yield Problem("spec.addresses: CIDR addresses are allowed only for NONE/STATIC resolution types")


def _ports(spec: outside.ServiceEntrySpec) -> Iterator[Problem]:
    names = [port.name for port in spec.ports]
    numbers = [port.number for port in spec.ports]
    for name in sorted({name for name in names if names.count(name) > 1}):
        yield Problem(f"spec.ports: the name {name!r} is given twice")
    for number in sorted({number for number in numbers if numbers.count(number) > 1}):
        yield Problem(f"spec.ports: the number {number} is given twice")
    for port in spec.ports:
        where = f"spec.ports[{port.name}]"
        if not syntax.is_label(port.name):
            yield Problem(f"{where}.name: {port.name!r} is no name of a port")
        if port.protocol.upper() == "UDP":
            yield Problem(f"{where}.protocol: UDP goes past the mesh and is not supported", "Unsupported")
        elif port.protocol and kube.declared(port.protocol) is None:
            yield Problem(f"{where}.protocol: {port.protocol!r} is none of {', '.join(kube.PROTOCOLS)}")
    plain = [port for port in spec.ports if not _names_host(port)]
    if spec.resolution != "NONE" and len(spec.hosts) > 1 and plain:
        yield Problem("spec.hosts: multiple hosts provided with non-HTTP, non-TLS ports")


def _names_host(port: outside.EntryPort) -> bool:
    """Whether what is sent at the port says whom it is for."""
    return port.protocol.upper() in ("HTTP", "HTTP2", "GRPC", "GRPC-WEB", "HTTPS", "TLS")


def _resolution(spec: outside.ServiceEntrySpec) -> Iterator[Problem]:
    wildcards = [host for host in spec.hosts if "*" in host]
    if spec.resolution == "NONE" and spec.endpoints:
        yield Problem("spec.endpoints: no endpoints should be provided for resolution type NONE")
    if spec.resolution == "NONE" and spec.workload_selector is not None:
        yield Problem("spec.workloadSelector should not be set when resolution is NONE")
    selects = bool(spec.endpoints) or spec.workload_selector is not None
    if spec.resolution in _DNS and wildcards and not selects:
        yield Problem(
            f"spec.hosts: {wildcards[0]}: hosts must be FQDN if no endpoints are provided for "
            f"resolution mode {spec.resolution}"
        )
    if spec.resolution == "DNS_ROUND_ROBIN" and len(spec.endpoints) > 1:
        yield Problem(
            "spec.endpoints: there must only be 0 or 1 endpoint for resolution mode DNS_ROUND_ROBIN"
        )
    if spec.resolution == "DYNAMIC_DNS":
        yield from _dynamic(spec, wildcards)


def _dynamic(spec: outside.ServiceEntrySpec, wildcards: list[str]) -> Iterator[Problem]:
    mode = "resolution type DYNAMIC_DNS"
    for host in spec.hosts:
        if host not in wildcards:
            yield Problem(f"spec.hosts: {host}: host must be wildcarded for {mode}")
        elif not host.startswith("*."):
            yield Problem(f"spec.hosts: {host}: only a whole first label may be * for {mode}", "Unsupported")
    if spec.addresses:
        yield Problem(f"spec.addresses: addresses cannot be set for {mode}")
    if spec.endpoints or spec.workload_selector is not None:
        yield Problem(f"spec.endpoints: endpoints cannot be set for {mode}")
    for port in spec.ports:
        if port.protocol.upper() not in _DYNAMIC:
            yield Problem(
                f"spec.ports[{port.name}].protocol: only HTTP, TLS, GRPC, and HTTP2 protocols are supported "
                f"for {mode}"
            )


def _endpoint(endpoint: outside.WorkloadEntrySpec, spec: outside.ServiceEntrySpec) -> Iterator[Problem]:
    yield from _workload(endpoint, takes_names=spec.resolution in _DNS)
    names = {port.name for port in spec.ports}
    for name in endpoint.ports:
        if name not in names:
            yield Problem(f"endpoint port {name} is not defined by the service entry")


def workload_entry(spec: outside.WorkloadEntrySpec, _subject: Subject) -> Iterator[Problem]:
    yield from _placed("spec", _workload(spec, takes_names=True))


def _workload(spec: outside.WorkloadEntrySpec, *, takes_names: bool) -> Iterator[Problem]:
    if not spec.address:
        yield Problem("address is required")
    elif spec.address.startswith(outside.UNIX):
        yield Problem(
            f"address {spec.address}: sockets of Unix are of one machine's files and are not supported",
            "Unsupported",
        )
    else:
        yield from _address(spec.address, takes_names=takes_names)
    yield from _labels_and_ports(spec)


def _address(address: str, *, takes_names: bool) -> Iterator[Problem]:
    name = address.lower().rstrip(".")
    if syntax.is_address(address):
        if addresses.is_special(address):
            yield Problem(
                f"address {address} is of a machine's own loopback, link or multicast, which the proxy never "
                "calls; a process on this machine is reached at the machine's own address"
            )
    elif not takes_names:
        yield Problem(f"endpoint address {address!r} is not a valid IP address")
    elif problem := syntax.domain(address):
        yield Problem(f"endpoint address {address!r} is not a valid FQDN or an IP address: {problem}")
    elif name == "localhost" or name.endswith(".localhost"):
        yield Problem(f"address {address} is a machine's own loopback, which the proxy never calls")


def _labels_and_ports(spec: outside.WorkloadEntrySpec) -> Iterator[Problem]:
    if problem := syntax.labels(spec.labels):
        yield Problem(f"labels: {problem}")
    for name in spec.ports:
        if not syntax.is_label(name):
            yield Problem(f"ports: {name!r} is no name of a port")


def workload_group(spec: outside.WorkloadGroupSpec, _subject: Subject) -> Iterator[Problem]:
    if spec.metadata is not None and (problem := syntax.labels(spec.metadata.labels)):
        yield Problem(f"spec.metadata.labels: {problem}")
    yield from _placed("spec.template", _labels_and_ports(spec.template))


def sidecar(spec: outside.SidecarSpec, _subject: Subject) -> Iterator[Problem]:
    yield from _selector(spec.workload_selector)
    if not spec.egress and spec.outbound_traffic_policy is None:
        yield Problem("spec: empty configuration provided")
    numbers = [each.port.number for each in spec.egress if each.port is not None]
    for index, listener in enumerate(spec.egress):
        problems = _egress(listener, is_last=index + 1 == len(spec.egress))
        yield from _placed(f"spec.egress[{index}]", problems)
    for number in sorted({number for number in numbers if number and numbers.count(number) > 1}):
        yield Problem(f"spec.egress: ports on IP bound listeners must be unique: {number}")
    yield from _outbound(spec.outbound_traffic_policy)


def _egress(listener: outside.EgressListener, *, is_last: bool) -> Iterator[Problem]:
    if listener.capture_mode == "NONE":
        yield Problem(
            "captureMode NONE is not supported: every connection of a pod passes the proxy", "Unsupported"
        )
    if listener.port is None:
        if not is_last:
            yield Problem("the egress listener with empty port should be the last listener in the list")
    elif not listener.port.number:
        yield Problem(
            "ports with 0 value must have a unix domain socket bind address, which is not supported"
        )
    elif listener.port.protocol and kube.declared(listener.port.protocol) is None:
        yield Problem(f"port.protocol: {listener.port.protocol!r} is none of {', '.join(kube.PROTOCOLS)}")
    for host in listener.hosts:
        where, slash, name = host.partition("/")
        if not slash or not name:
            yield Problem(f"hosts: {host!r} is not of the form namespace/dnsName")
        elif where not in ("*", ".", "~") and not syntax.is_label(where):
            yield Problem(f"hosts: {host!r}: {where!r} is no namespace")
        elif name != "*" and (problem := syntax.host(name)):
            yield Problem(f"hosts: {problem}")


def _outbound(policy: outside.OutboundTrafficPolicy | None) -> Iterator[Problem]:
    proxy = policy.egress_proxy if policy is not None else None
    if policy is None or proxy is None:
        return
    path = "spec.outboundTrafficPolicy.egressProxy"
    if policy.mode != "ALLOW_ANY":
        yield Problem(f"{path} must be set only with ALLOW_ANY outbound_traffic_policy mode")
    if problem := syntax.domain(proxy.host):
        yield Problem(f"{path}.host: {problem}")
    if proxy.port is None or not proxy.port.number:
        yield Problem(f"{path}.port must be given")


def _export_to(export_to: tuple[str, ...], namespace: str) -> Iterator[Problem]:
    meant = [namespace if name == "." and namespace else name for name in export_to]
    for name in export_to:
        if name not in (".", "*", "~") and not syntax.is_label(name):
            yield Problem(f"spec.exportTo: {name!r} is none of ., *, ~ and a namespace")
    if len(set(meant)) < len(meant):
        yield Problem("spec.exportTo: a namespace is given twice")
    for alone in ("*", "~"):
        if alone in meant and len(meant) > 1:
            yield Problem(f"spec.exportTo: {alone} stands alone")


def _placed(path: str, problems: Iterable[Problem]) -> Iterator[Problem]:
    return (each._replace(message=f"{path}: {each.message}") for each in problems)
