"""Routes joined host by host, in the order that Gateway API gives to what they match. Pure.

At the ingress a host has the Routes of the listener that has it most particularly, of each Gateway at the
port: what a broader listener of the Gateway has is not served there. Between pods a Service has the Routes of
one namespace together; its ports of which they do not speak stay as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

import msgspec

from ondol.api import objects
from ondol.api.objects import Key, Object
from ondol.base.memo import Memo
from ondol.contracts import cluster, mesh
from ondol.mesh.gateway_api import generated
from ondol.mesh.gateway_api.attachment import Attachment, Closeness
from ondol.mesh.gateway_api.documents import Document
from ondol.mesh.gateway_api.http import Compiled, Served
from ondol.mesh.gateway_api.listeners import Open, covers, particularity
from ondol.mesh.gateway_api.sifting import Joined, Source
from ondol.mesh.model import istio
from ondol.mesh.translate import reach
from ondol.mesh.translate.registry import OF_GATEWAY_API, Gateway, VirtualService
from ondol.mesh.xds.types import Origin

_NO_ROUTE: Final = istio.HTTPRoute(name="none", direct_response=istio.HTTPDirectResponse(404))
"""Of a host that has no Routes and keeps what is broader away."""


@dataclass(frozen=True, slots=True)
class _Placed:
    rank: tuple[Any, ...]
    """Among all routes of a host."""
    route: istio.HTTPRoute
    source: Source


@dataclass(slots=True)
class _Host:
    created: str = ""
    routes: list[_Placed] = field(default_factory=list)
    sources: dict[Source, tuple[str, ...]] = field(default_factory=dict)
    """Each with the Route's age."""
    ports: set[int] = field(default_factory=set)
    """Between pods: those that the Routes are for."""
    listeners: list[int] = field(default_factory=list)
    """At the ingress: the identities of those that have it."""

    def claim(self, since: str) -> None:
        self.created = min(filter(None, (self.created, since)), default="")

    def join(self, other: _Host) -> None:
        """What of other Gateways is served beside its own; it is no older for that."""
        own = {id(each.route) for each in self.routes}
        self.routes += [each for each in other.routes if id(each.route) not in own]
        self.sources |= other.sources

    def add(self, route: Document[Any], served: Iterable[Served], closeness: Closeness = (0, 0)) -> None:
        source = (route.kind, route.key)
        self.sources[source] = route.age
        self.routes += [
            _Placed((closeness, *each.rank, route.age, each.place), each.route, source) for each in served
        ]

    def joined(
        self, rule: Callable[[tuple[istio.HTTPRoute, ...]], VirtualService], *, is_inside: bool = False
    ) -> Joined:
        ordered = sorted(self.routes, key=lambda each: each.rank)
        return Joined(
            tuple(sorted(self.sources, key=lambda each: (self.sources[each], each))),
            tuple((each.source, each.route) for each in ordered),
            rule,
            has_meaning_alone=not is_inside,
        )


def _at_port(compiled: Compiled, port: int) -> list[Served]:
    """The routes for calls to one port of a Service."""
    return [
        Served(
            each.rank,
            (*each.place, port),
            msgspec.structs.replace(
                each.route,
                match=tuple(msgspec.structs.replace(match, port=port) for match in each.route.match),
            ),
        )
        for each in compiled.served
    ]


class Hosts:
    def __init__(
        self, services: Mapping[Key, Object], cluster_domain: str, namespace: str, memo: Memo
    ) -> None:
        self._services = services
        self._cluster_domain = cluster_domain
        self._namespace = namespace
        self._roots = frozenset({reach.ISTIO_SYSTEM, namespace})
        self._memo = memo
        self._attached: dict[int, list[tuple[Attachment, Compiled, Mapping[str, Closeness]]]] = {}
        """By the identity of the listener."""
        self._between: dict[tuple[Key, str], _Host] = {}
        """By Service and the namespace of the Routes."""
        self._origins: dict[tuple[int, str], Origin] = {}
        """By the identity of the listener and the host."""

    def add(self, attachment: Attachment, compiled: Compiled) -> None:
        """A Route at a parent that it is accepted at."""
        for listener, hosts in attachment.listeners:
            listener.attached.add((attachment.route.kind, attachment.route.key))
            self._attached.setdefault(id(listener), []).append((attachment, compiled, hosts))
        if attachment.service is not None:
            host = self._between.setdefault((attachment.service, attachment.route.namespace), _Host())
            fresh = (
                sorted(set(attachment.ports) - host.ports) if _is_of(host, attachment) else attachment.ports
            )
            for port in fresh:
                make = partial(_at_port, compiled, port)
                host.add(attachment.route, self._memo.get(("port", id(compiled), port), make, compiled))
            host.ports.update(attachment.ports)
            host.claim(attachment.route.created)

    def gateways(self, served: Mapping[Key, Sequence[Open]]) -> list[Gateway]:
        """One for each port of HTTP that any Gateway has, and one for each listener of HTTPS."""
        rules: dict[str, Gateway] = {}
        for listener in (each for listed in served.values() for each in listed):
            name = _place(listener)
            if listener.spec.protocol == "HTTP" and name not in rules:
                rules[name] = generated.gateway(self._namespace, name, listener, ("*",), created="")
            elif listener.spec.protocol == "HTTPS":
                rules[name] = generated.gateway(self._namespace, name, listener, (listener.hostname,))
        return list(rules.values())

    def rules(
        self, served: Mapping[Key, Sequence[Open]]
    ) -> tuple[list[VirtualService], dict[Origin, Joined]]:
        """The VirtualServices, and of which Routes each is."""
        rules: list[VirtualService] = []
        parts: dict[Origin, Joined] = {}

        def add(rule: VirtualService | None, joined: Joined) -> None:
            if rule is not None:
                rules.append(rule)
                parts[rule.origin] = joined

        for (place, name), claims in self._at_ingress(served).items():
            gateway = f"{self._namespace}/{OF_GATEWAY_API}{place}"
            for namespace, host in self._shared(claims):
                joined = host.joined(partial(self._at, gateway, f"{place}:{namespace}:{name}", host.created))
                add(joined.of(joined.sources), joined)
                self._origins.update(((listener, name), rules[-1].origin) for listener in host.listeners)
        for (service, namespace), host in self._between.items():
            name = cluster.service_host(service.name, service.namespace, self._cluster_domain)
            others = self._others(service, name, host.ports)
            joined = host.joined(partial(self._inside, namespace, name, host.created, others), is_inside=True)
            add(joined.of(joined.sources), joined)
        return rules, parts

    def _at(self, gateway: str, name: str, created: str, http: tuple[istio.HTTPRoute, ...]) -> VirtualService:
        """At the ingress; without any routes it still has its host."""
        _, namespace, host = name.rsplit(":", 2)
        spec = istio.VirtualServiceSpec((host,), (gateway,), http or (_NO_ROUTE,))
        return self._rule(self._namespace, name, created, spec, namespace)

    def _inside(
        self,
        namespace: str,
        name: str,
        created: str,
        others: Sequence[istio.HTTPRoute],
        http: tuple[istio.HTTPRoute, ...],
    ) -> VirtualService:
        """Between pods, with the ports of which no Route speaks."""
        spec = istio.VirtualServiceSpec((name,), (mesh.MESH_GATEWAY,), (*http, *others))
        return self._rule(namespace, name, created, spec)

    def _rule(
        self, namespace: str, name: str, created: str, spec: istio.VirtualServiceSpec, on_behalf: str = ""
    ) -> VirtualService:
        """The same as before where it is of the same routes."""
        key = ("rule", namespace, name, created, spec.gateways, tuple(map(id, spec.http)))
        return self._memo.get(
            key, partial(generated.rule, namespace, name, created, spec, on_behalf), spec.http
        )

    def _shared(self, claims: Mapping[str, _Host]) -> Iterator[tuple[str, _Host]]:
        """By claimant what is served if it has the host: its own Routes and those of root namespaces.

        What the latter have alone is served if whoever has the host has no Gateway.
        """
        roots = sorted(self._roots & claims.keys(), key=lambda name: (claims[name].created, name))
        of_roots = _Host()
        for name in roots:
            of_roots.claim(claims[name].created)
            of_roots.join(claims[name])
        for name, host in claims.items():
            if name not in roots:
                host.join(of_roots)
                yield name, host
        if roots:
            of_roots.listeners = [each for name in roots for each in claims[name].listeners]
            yield roots[0], of_roots

    def rules_of(self, attachment: Attachment) -> Iterator[tuple[Origin, int]]:
        """What was made of a Route at a parent, a rule for each host."""
        for listener, hosts in attachment.listeners:
            for name in hosts:
                if (id(listener), name) in self._origins:
                    yield self._origins[id(listener), name], 1

    def _at_ingress(self, served: Mapping[Key, Sequence[Open]]) -> dict[tuple[str, str], dict[str, _Host]]:
        """By place and host, then by claimant."""
        hosts: dict[tuple[str, str], dict[str, _Host]] = {}

        def claim(listener: Open, name: str, route: Document[Any] | None = None) -> _Host:
            claims = hosts.setdefault((_place(listener), name), {})
            host = claims.setdefault(listener.claimant, _Host())
            host.claim(listener.since(name, route))
            host.listeners.append(id(listener))
            return host

        for listed in served.values():
            for listener in listed:
                place = _place(listener)
                beside = [each.hostname for each in listed if _place(each) == place]
                for attachment, compiled, names in self._attached.get(id(listener), ()):
                    for name, closeness in names.items():
                        if _closest(beside, name) == listener.hostname:
                            host = claim(listener, name, attachment.route)
                            if not _is_of(host, attachment):
                                host.add(attachment.route, compiled.served, closeness)
                if listener.spec.hostname:
                    # Without routes of its own it still keeps its host from what is broader, and from others.
                    claim(listener, listener.hostname)
        return hosts

    def _others(self, service: Key, name: str, ports: set[int]) -> list[istio.HTTPRoute]:
        """The ports of a Service of which no Route speaks, as they are without any."""
        listed = objects.spec(self._services[service]).get("ports") or ()
        return [
            istio.HTTPRoute(
                name=f"port-{port['port']}",
                match=(istio.HTTPMatchRequest(port=port["port"]),),
                route=(
                    istio.RouteDestination(istio.Destination(name, port=istio.PortSelector(port["port"]))),
                ),
            )
            for port in listed
            if port["port"] not in ports and (port.get("protocol") or "TCP") == "TCP"
        ]


def _is_of(host: _Host, attachment: Attachment) -> bool:
    return (attachment.route.kind, attachment.route.key) in host.sources


def _closest(listeners: Iterable[str], host: str) -> str:
    """The listeners' host that has a host most particularly."""
    return max((each for each in listeners if covers(each, host)), key=particularity, default="")


def _place(listener: Open) -> str:
    """Where its hosts are: with all of the port, or for TLS by themselves, by the name in the hello."""
    return str(listener.port) if listener.spec.protocol == "HTTP" else listener.name
