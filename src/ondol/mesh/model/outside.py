"""The kinds by which the outside joins the mesh, as frozen structs: every field of Istio's, and no other.

As `istio`, which says how they are read: ServiceEntry, WorkloadEntry, WorkloadGroup and Sidecar.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal, TypeAlias

import msgspec

from ondol.mesh.model.istio import Count, Destination, Duration, Host, PortNumber, Struct, Unsupported

__all__ = [
    "Duration",
    "EgressListener",
    "EntryPort",
    "OutboundTrafficPolicy",
    "ServiceEntrySpec",
    "SidecarSpec",
    "WorkloadEntrySpec",
    "WorkloadGroupSpec",
]

Resolution: TypeAlias = Literal["NONE", "STATIC", "DNS", "DNS_ROUND_ROBIN", "DYNAMIC_DNS"]
UNIX: Final = "unix://"


class WorkloadSelector(Struct, frozen=True):
    labels: dict[str, str] = msgspec.field(default_factory=dict)


# WorkloadEntry


class WorkloadEntrySpec(Struct, frozen=True):
    """A process that is no pod; also an endpoint of a ServiceEntry."""

    address: str = ""
    ports: dict[str, PortNumber] = msgspec.field(default_factory=dict)
    labels: dict[str, str] = msgspec.field(default_factory=dict)
    weight: Count = 0
    locality: str = ""
    service_account: str = ""
    network: Unsupported = None


class ObjectMeta(Struct, frozen=True):
    labels: dict[str, str] = msgspec.field(default_factory=dict)
    annotations: dict[str, str] = msgspec.field(default_factory=dict)


class WorkloadGroupSpec(Struct, frozen=True):
    template: WorkloadEntrySpec
    metadata: ObjectMeta | None = None
    probe: Unsupported = None


# ServiceEntry


class EntryPort(Struct, frozen=True):
    number: PortNumber
    name: Annotated[str, msgspec.Meta(min_length=1, max_length=256)]
    protocol: Annotated[str, msgspec.Meta(max_length=256)] = ""
    target_port: PortNumber | None = None


class ServiceEntrySpec(Struct, frozen=True):
    hosts: Annotated[tuple[Host, ...], msgspec.Meta(min_length=1, max_length=256)]
    addresses: Annotated[
        tuple[Annotated[str, msgspec.Meta(max_length=64)], ...], msgspec.Meta(max_length=256)
    ] = ()
    ports: Annotated[tuple[EntryPort, ...], msgspec.Meta(max_length=256)] = ()
    location: Literal["MESH_EXTERNAL", "MESH_INTERNAL"] = "MESH_EXTERNAL"
    resolution: Resolution = "NONE"
    endpoints: Annotated[tuple[WorkloadEntrySpec, ...], msgspec.Meta(max_length=4096)] = ()
    workload_selector: WorkloadSelector | None = None
    export_to: tuple[str, ...] = ()
    subject_alt_names: tuple[str, ...] = ()


# Sidecar


class SidecarPort(Struct, frozen=True):
    number: PortNumber | None = None
    protocol: str = ""
    name: str = ""
    target_port: Unsupported = None


class EgressListener(Struct, frozen=True):
    hosts: Annotated[tuple[str, ...], msgspec.Meta(min_length=1)]
    port: SidecarPort | None = None
    capture_mode: Literal["DEFAULT", "IPTABLES", "NONE"] = "DEFAULT"
    bind: Unsupported = None


class OutboundTrafficPolicy(Struct, frozen=True):
    mode: Literal["REGISTRY_ONLY", "ALLOW_ANY"] | None = None
    """REGISTRY_ONLY where it is not written."""
    egress_proxy: Destination | None = None


class SidecarSpec(Struct, frozen=True):
    workload_selector: WorkloadSelector | None = None
    egress: tuple[EgressListener, ...] = ()
    outbound_traffic_policy: OutboundTrafficPolicy | None = None
    ingress: Unsupported = None
    inbound_connection_pool: Unsupported = None
