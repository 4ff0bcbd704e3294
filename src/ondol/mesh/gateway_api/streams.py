"""TLSRoutes and TCPRoutes as rules of the mesh: of connections, by the name they ask for or by port. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from ondol.api.objects import Key
from ondol.mesh.gateway_api import generated
from ondol.mesh.gateway_api.attachment import Attachment
from ondol.mesh.gateway_api.documents import Document
from ondol.mesh.gateway_api.http import Compiled
from ondol.mesh.gateway_api.listeners import Open
from ondol.mesh.gateway_api.references import Backends, Referrer
from ondol.mesh.gateway_api.routes import TCPRouteSpec, TLSRouteSpec
from ondol.mesh.model import istio, routing
from ondol.mesh.translate.registry import OF_GATEWAY_API, Gateway, VirtualService
from ondol.mesh.xds.types import Origin

_NOWHERE: Final = istio.Destination(routing.NOWHERE, port=istio.PortSelector(80))
Source = tuple[str, Key]


def compile_route(document: Document[TLSRouteSpec] | Document[TCPRouteSpec], backends: Backends) -> Compiled:
    """The destinations of a document of either kind; a share that leads nowhere is ended at once."""
    compiled = Compiled(problems=[document.problem] if document.problem else [])
    who = Referrer(document.kind, document.namespace)
    for reference in (each for rule in document.spec.rules for each in rule.backend_refs):
        backend = backends.find(who, reference)
        if backend.destination is None:
            compiled.unresolved.append(backend)
        if reference.weight:
            destination = backend.destination or _NOWHERE
            compiled.shares.append(istio.L4RouteDestination(destination, reference.weight))
    return compiled


@dataclass(slots=True)
class Carried:
    gateways: list[Gateway] = field(default_factory=list)
    virtual_services: list[VirtualService] = field(default_factory=list)
    sources: dict[Origin, list[Source]] = field(default_factory=dict)


class Streams:
    def __init__(self, namespace: str) -> None:
        self._namespace = namespace
        self._attached: dict[int, list[tuple[Attachment, Compiled, tuple[str, ...]]]] = {}
        """By the identity of the listener."""
        self._origins: dict[tuple[int, Source], tuple[Origin, int]] = {}

    def add(self, attachment: Attachment, compiled: Compiled) -> None:
        for listener, hosts in attachment.listeners:
            listener.attached.add((attachment.route.kind, attachment.route.key))
            self._attached.setdefault(id(listener), []).append((attachment, compiled, tuple(sorted(hosts))))

    def rules(self, served: Mapping[Key, Sequence[Open]]) -> Carried:
        of = Carried()
        for listener in (each for listed in served.values() for each in listed):
            attached = sorted(self._attached.get(id(listener), ()), key=lambda each: each[0].route.age)
            if listener.family == "TCP":
                # A connection says nothing by which another Route could be meant: the oldest has all.
                for attachment, compiled, _ in attached[:1]:
                    self._make(of, listener, attachment, compiled, ("*",))
            elif listener.spec.protocol == "TLS":
                for attachment, compiled, hosts in attached:
                    self._make(of, listener, attachment, compiled, hosts)
        return of

    def _make(
        self, of: Carried, listener: Open, attachment: Attachment, compiled: Compiled, hosts: tuple[str, ...]
    ) -> None:
        """A Gateway and a rule for a Route at a listener, so that its hosts are told apart from others'."""
        route = attachment.route
        name = f"{listener.name}:{route.key.namespace}:{route.key.name}"
        bound = (f"{self._namespace}/{OF_GATEWAY_API}{name}",)
        shares = tuple(compiled.shares) or (istio.L4RouteDestination(_NOWHERE, 1),)
        if listener.family == "TLS" and not listener.terminates:
            tls = istio.TLSRoute((istio.TLSMatchAttributes(hosts),), shares)
            spec = istio.VirtualServiceSpec(hosts, bound, tls=(tls,))
        else:
            spec = istio.VirtualServiceSpec(hosts, bound, tcp=(istio.TCPRoute(route=shares),))
        of.gateways.append(generated.gateway(self._namespace, name, listener, hosts))
        since = max(listener.since(host, route) for host in hosts)
        rule = generated.rule(self._namespace, name, since, spec, listener.claimant)
        of.virtual_services.append(rule)
        of.sources[rule.origin] = [(route.kind, route.key)]
        self._origins[id(listener), (route.kind, route.key)] = rule.origin, len(hosts)

    def rules_of(self, attachment: Attachment) -> Iterator[tuple[Origin, int]]:
        """What was made of a Route at a parent, and for how many hosts."""
        for listener, _ in attachment.listeners:
            key = (id(listener), (attachment.route.kind, attachment.route.key))
            if key in self._origins:
                yield self._origins[key]
