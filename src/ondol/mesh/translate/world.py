"""Input and output of the translation, as values: a world of objects, and a snapshot for the proxy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ondol.api.objects import Key, Object
from ondol.mesh.translate.registry import DestinationRule, Gateway, Registry, Rule, VirtualService
from ondol.mesh.translate.rules import MeshRules
from ondol.mesh.translate.termination import Termination
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
    """The certificates of the ingress."""

    def of(self, kind: str) -> Sequence[Rule[Any]]:
        return self.rules.get(kind, ())

    @property
    def virtual_services(self) -> Sequence[VirtualService]:
        return self.of("VirtualService")

    @property
    def destination_rules(self) -> Sequence[DestinationRule]:
        return self.of("DestinationRule")

    @property
    def gateways(self) -> Sequence[Gateway]:
        return self.of("Gateway")


@dataclass(frozen=True, slots=True)
class PodPlan:
    """What must run before a pod's calls are carried."""

    pod: Key
    listener: str
    tables: tuple[str, ...]
    inspector: str = ""
    """The listener inside the proxy that looks at what is undeclared, if anything is."""

    @property
    def listeners(self) -> tuple[str, ...]:
        return (self.listener, self.inspector) if self.inspector else (self.listener,)


@dataclass(frozen=True, slots=True)
class Translation:
    snapshot: Snapshot = field(default_factory=Snapshot)
    pods: Mapping[Key, PodPlan] = field(default_factory=dict)
    registry: Registry = field(default_factory=lambda: Registry(""))
    rules: MeshRules = field(default_factory=lambda: MeshRules(Registry(""), ()))
    """The same object for as long as services and the mesh's own objects stay what they are."""
    ingress_ports: Mapping[int, int] = field(default_factory=dict)
    """Port numbers of Gateways that are one port of the ingress, by what that is called."""
