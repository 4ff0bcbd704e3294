"""What a pod's calls may see of the mesh, and what becomes of calls to all else: its Sidecar, if any.

Pure. A view is a namespace, the Sidecar that pods there are under, and the policy for what the mesh does not
know. Pods of one view share listeners' layouts and route tables.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final

from ondol.contracts import scoping
from ondol.contracts.scoping import Chosen, Egress
from ondol.mesh.model import istio, outside
from ondol.mesh.model.kube import Service
from ondol.mesh.translate.registry import Registry, Rule, VirtualService

Sidecar = Rule[outside.SidecarSpec]


@dataclass(frozen=True)
class View:
    """Whose calls: equal views are served by the same configuration."""

    namespace: str = ""
    sidecar: Sidecar | None = None
    registry_only: bool = False
    """Calls to what the mesh does not know are refused."""

    @cached_property
    def egress(self) -> tuple[Egress, ...]:
        """Empty lets everything in."""
        return egress(self.sidecar.spec) if self.sidecar is not None else ()

    @property
    def proxy(self) -> istio.Destination | None:
        """Where calls go that are to nobody the mesh knows, if a Sidecar says so."""
        policy = self.sidecar.spec.outbound_traffic_policy if self.sidecar is not None else None
        return policy.egress_proxy if policy is not None else None

    @property
    def suffix(self) -> str:
        """What tells its tables from those of a namespace's other views."""
        if self.sidecar is None:
            return "|closed" if self.registry_only else ""
        return f"|{self.sidecar.namespace}/{self.sidecar.origin.name}"

    @property
    def is_plain(self) -> bool:
        return self.sidecar is None

    def admits(self, service: Service, port: int) -> bool:
        """Whether a service may be called at a port."""
        return not self.egress or scoping.admits(
            self.egress, self.namespace, service.key.namespace, service.host, port
        )

    def admits_rule(self, rule: VirtualService, host: str, port: int) -> bool:
        """The same of a host that only a rule names."""
        return not self.egress or scoping.admits(self.egress, self.namespace, rule.namespace, host, port)

    def services(self, registry: Registry) -> Iterator[tuple[Service, frozenset[int]]]:
        """Those that may be called, each with the ports at which it may."""
        for service in registry.visible(self.namespace):
            ports = frozenset(port.number for port in service.ports if self.admits(service, port.number))
            if ports:
                yield service, ports


EVERYTHING: Final = View()
"""Of whoever is under no Sidecar, in whichever namespace."""


def egress(spec: outside.SidecarSpec) -> tuple[Egress, ...]:
    return tuple(
        Egress((each.port.number or 0) if each.port is not None else 0, each.hosts) for each in spec.egress
    )


@dataclass(slots=True)
class Views:
    """Chooses the view of a pod, by the Sidecars of an era."""

    sidecars: tuple[Sidecar, ...] = ()
    registry_only: bool = False
    """What holds where no Sidecar says otherwise."""
    _views: dict[tuple[str, Sidecar | None], View] = field(default_factory=dict)

    def of(self, namespace: str, labels: Mapping[str, str]) -> View:
        sidecar = self.sidecar(namespace, labels) if self.sidecars else None
        key = (namespace, sidecar)
        view = self._views.get(key)
        if view is None:
            view = self._views[key] = View(namespace, sidecar, self._is_closed(sidecar))
        return view

    def sidecar(self, namespace: str, labels: Mapping[str, str]) -> Sidecar | None:
        """The one that means a pod most closely, of several the oldest."""
        return closest(self.sidecars, namespace, labels)

    def _is_closed(self, sidecar: Sidecar | None) -> bool:
        policy = sidecar.spec.outbound_traffic_policy if sidecar is not None else None
        return self.registry_only if policy is None else policy.mode != "ALLOW_ANY"


def closest(sidecars: Iterable[Sidecar], namespace: str, labels: Mapping[str, str]) -> Sidecar | None:
    ranked = [
        (position, each.age, each)
        for each in sidecars
        if (position := scoping.rank(chosen(each), namespace, labels)) is not None
    ]
    return min(ranked, key=lambda entry: entry[:2])[-1] if ranked else None


def chosen(sidecar: Sidecar) -> Chosen:
    selector = sidecar.spec.workload_selector
    return Chosen(
        sidecar.namespace, selector.labels if selector is not None else {}, has_selector=selector is not None
    )
