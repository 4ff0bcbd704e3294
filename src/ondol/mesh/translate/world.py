"""Input and output of the translation, as values: a world of objects, and a snapshot for the proxy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ondol.api.objects import Key, Object
from ondol.mesh.identity.authority import Issued
from ondol.mesh.model import mesh_options
from ondol.mesh.model.mesh_options import MeshOptions
from ondol.mesh.translate.credentials import Credentials
from ondol.mesh.translate.registry import DestinationRule, Gateway, Registry, Rule, VirtualService
from ondol.mesh.translate.rules import MeshRules
from ondol.mesh.translate.termination import Termination
from ondol.mesh.translate.views import Sidecar
from ondol.mesh.xds.types import Snapshot


@dataclass(frozen=True, slots=True)
class World:
    """Everything the mesh is made from; documents do not change while they live."""

    namespaces: Sequence[Object] = ()
    pods: Sequence[Object] = ()
    services: Sequence[Object] = ()
    endpoint_slices: Sequence[Object] = ()
    rules: Mapping[str, Sequence[Rule[Any]]] = field(default_factory=dict)
    """The objects of the mesh's own kinds, by kind: each is typed, valid, and equal only to itself."""
    terminations: Sequence[Termination] = ()
    """The certificates of Ingresses."""
    addresses: Mapping[tuple[str, str, str], Mapping[str, str]] = field(default_factory=dict)
    """The automatic addresses of ServiceEntries: by kind, namespace and name, then by host."""
    credentials: Credentials = field(default_factory=Credentials)
    """The Secrets that Gateways and DestinationRules name."""
    options: MeshOptions = mesh_options.DEFAULTS
    """Istio's configuration of the mesh."""
    certificates: Mapping[str, Issued] = field(default_factory=dict)
    """What the mesh's authority has issued, by identity."""
    roots: bytes = b""
    """What the mesh trusts, PEM."""
    opening: frozenset[str] = frozenset()
    """Uids of pods that run and are about to be guarded: until they are, nothing is asked of their calls."""
    closed: frozenset[str] = frozenset()
    """Slots of filters by which something is asked already: no pod that joins opens its workload again."""
    nodes: Sequence[Object] = ()

    def of(self, kind: str) -> Sequence[Rule[Any]]:
        return self.rules.get(kind, ())

    @property
    def virtual_services(self) -> Sequence[VirtualService]:
        return self.of("VirtualService")

    @property
    def destination_rules(self) -> Sequence[DestinationRule]:
        return self.of("DestinationRule")

    @property
    def sidecars(self) -> Sequence[Sidecar]:
        return self.of("Sidecar")

    @property
    def gateways(self) -> Sequence[Gateway]:
        return self.of("Gateway")


@dataclass(frozen=True, slots=True)
class PodPlan:
    """What must run before a pod's calls are carried."""

    pod: Key
    listener: str
    tables: tuple[str, ...]
    inspectors: tuple[str, ...] = ()
    """The listeners inside the proxy that look at what is undeclared, and at the names that TLS asks for."""
    arrivals: str = ""
    """The listener for what arrives, if anything is asked of that."""
    filters: tuple[str, ...] = ()
    """What decides about requests that arrive."""

    @property
    def listeners(self) -> tuple[str, ...]:
        own = (self.listener, *self.inspectors)
        return (*own, self.arrivals) if self.arrivals else own


@dataclass(frozen=True, slots=True)
class Translation:
    snapshot: Snapshot = field(default_factory=Snapshot)
    pods: Mapping[Key, PodPlan] = field(default_factory=dict)
    registry: Registry = field(default_factory=lambda: Registry(""))
    rules: MeshRules = field(default_factory=lambda: MeshRules(Registry(""), ()))
    """The same object for as long as services and the mesh's own objects stay what they are."""
    ingress_ports: Mapping[int, int] = field(default_factory=dict)
    """Port numbers of Gateways that are one port of the ingress, by what that is called."""
