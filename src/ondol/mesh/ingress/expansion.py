"""Ingresses as the mesh's own objects: two Gateways, and a VirtualService for each host of a namespace. Pure.

What an Ingress says of paths becomes an order of routes: the longest path first, of equal ones the exact
before the prefix, then the older Ingress. Nothing else knows of Ingresses; how hosts are shared among
namespaces, names completed and routes made is as for rules that people write (decision 0029).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from ondol.api import objects
from ondol.api.objects import Key, Object
from ondol.api.validation.ingresses import CLASS_ANNOTATION
from ondol.contracts import cluster, ingress
from ondol.mesh.ingress import options
from ondol.mesh.ingress.options import Options
from ondol.mesh.model import istio
from ondol.mesh.translate import wire
from ondol.mesh.translate.credentials import Certificate
from ondol.mesh.translate.reach import INGRESS_SELECTOR
from ondol.mesh.translate.registry import OF_INGRESS, Gateway, Rule, VirtualService
from ondol.mesh.translate.termination import Termination
from ondol.mesh.xds.types import Origin

HTTP: Final = "http.networking.k8s.io"
HTTPS: Final = ingress.HTTPS_GATEWAY
"""The two Gateways; nobody can write one of these names, which have dots."""
HTTP_NUMBER, HTTPS_NUMBER = 80, 443
ANY_HOST: Final = "*"
_LAST: Final = 0
"""Of a rank, where a path has its length below zero."""


@dataclass(frozen=True, slots=True)
class Problem:
    """What of an Ingress is not served, under the reason of its event."""

    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Ports:
    """Where HTTP and HTTPS are reached from outside."""

    http: int = 80
    https: int = 443


@dataclass(slots=True)
class Expansion:
    """What the Ingresses of the mesh's classes ask for."""

    gateways: list[Gateway] = field(default_factory=list)
    virtual_services: list[VirtualService] = field(default_factory=list)
    terminations: list[Termination] = field(default_factory=list)
    problems: dict[Key, list[Problem]] = field(default_factory=dict)
    """By Ingress; every one that is the mesh's has an entry."""
    sources: dict[Origin, list[Key]] = field(default_factory=dict)
    """The Ingresses that a VirtualService was made from."""

    def beside(self, rules: Mapping[str, Sequence[Rule[Any]]]) -> dict[str, Sequence[Rule[Any]]]:
        """Rules by kind, with those made here."""
        own: dict[str, Sequence[Rule[Any]]] = {
            "Gateway": self.gateways,
            "VirtualService": self.virtual_services,
        }
        return {kind: [*listed, *own.get(kind, ())] for kind, listed in rules.items()}


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What Ingresses refer to."""

    services: Mapping[Key, Object] = field(default_factory=dict)
    certificates: Mapping[Key, Certificate] = field(default_factory=dict)
    unusable: Mapping[Key, str] = field(default_factory=dict)
    """Why the present content of a Secret cannot be served; an earlier one may be among the certificates."""
    ports: Ports = Ports()
    cluster_domain: str = cluster.DOMAIN
    namespace: str = cluster.PLATFORM_NAMESPACE
    """Of the Gateways."""


def is_ours(obj: Object, classes: Mapping[str, Object]) -> bool:
    """Whether an Ingress is of a class of the mesh's; what the older annotation says comes first."""
    name = objects.annotations(obj).get(CLASS_ANNOTATION) or objects.spec(obj).get("ingressClassName")
    of = classes.get(str(name)) if name else None
    return of is not None and objects.spec(of).get("controller") == ingress.CONTROLLER


def expand(ingresses: Iterable[Object], classes: Iterable[Object], around: Surroundings) -> Expansion:
    by_name = {objects.name(each): each for each in classes}
    ours = sorted((each for each in ingresses if is_ours(each, by_name)), key=_age)
    expanded = Expansion()
    if ours:
        _Expander(around, expanded).run(ours)
    return expanded


def _age(obj: Object) -> tuple[str, Key]:
    return str(objects.metadata(obj).get("creationTimestamp") or ""), objects.key(obj)


@dataclass(frozen=True, slots=True)
class _Served:
    """A route with its place among the others of its host."""

    rank: tuple[int, ...]
    route: istio.HTTPRoute


@dataclass(slots=True)
class _Host:
    created: str
    routes: list[_Served] = field(default_factory=list)
    sources: dict[Key, None] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Asked:
    """An Ingress with what its annotations say, and how many are older."""

    obj: Object
    options: Options
    number: int


class _Expander:
    def __init__(self, around: Surroundings, expansion: Expansion) -> None:
        self._around = around
        self._expansion = expansion
        self._hosts: dict[tuple[str, str], _Host] = {}
        """By namespace and host."""
        self._holders: dict[str, str] = {}
        """The namespace of the oldest Ingress of a host."""
        self._gateways = {name: f"{around.namespace}/{name}" for name in (HTTP, HTTPS)}

    def run(self, ours: Sequence[Object]) -> None:
        for each in ours:
            self._expansion.problems[objects.key(each)] = []
            for host in _hosts_of(each):
                self._holders.setdefault(host, objects.namespace(each))
        for number, each in enumerate(ours):
            self._routes_of(each, number)
        for (namespace, host), of_host in self._hosts.items():
            self._finish(namespace, host, of_host)
        self._terminate(ours)
        self._expansion.gateways = [
            self._gateway(HTTP, HTTP_NUMBER, "HTTP"),
            self._gateway(HTTPS, HTTPS_NUMBER, "HTTPS"),
        ]

    def _tell(self, obj: Object, reason: str, message: str) -> None:
        problem = Problem(reason, message)
        listed = self._expansion.problems[objects.key(obj)]
        if problem not in listed:
            listed.append(problem)

    def _gateway(self, name: str, number: int, protocol: str) -> Gateway:
        port = istio.Port(number=number, name=protocol.lower(), protocol=protocol)
        spec = istio.GatewaySpec((istio.Server(port=port, hosts=(ANY_HOST,)),), dict(INGRESS_SELECTOR))
        return Rule(Origin("Gateway", self._around.namespace, name, "1"), "", spec)

    # Routes

    def _host(self, obj: Object, host: str) -> _Host:
        key = (objects.namespace(obj), host)
        of_host = self._hosts.setdefault(key, _Host(_age(obj)[0]))
        of_host.sources[objects.key(obj)] = None
        return of_host

    def _routes_of(self, obj: Object, number: int) -> None:
        of = _Asked(obj, options.read(obj), number)
        for text in of.options.problems:
            self._tell(obj, "AnnotationNotSupported", text)
        spec = objects.spec(obj)
        for index, rule in enumerate(spec.get("rules") or ()):
            host = str(rule.get("host") or ANY_HOST)
            routes = self._host(obj, host).routes
            for at, path in enumerate((rule.get("http") or {}).get("paths") or ()):
                routes += self._path(of, host, path, (index, at))
        if (default := spec.get("defaultBackend")) is not None:
            for host in dict.fromkeys((*_hosts_of(obj), ANY_HOST)):
                self._host(obj, host).routes += self._default(of, host, default)

    def _default(self, of: _Asked, host: str, backend: Any) -> Iterator[_Served]:
        """What no path of a host takes, and what is for no host of all."""
        matches = (_match(host, istio.StringMatch(prefix="/")),)
        template = istio.HTTPRoute(name=f"{objects.name(of.obj)}:default", match=matches)
        yield from self._redirected(of, host, template, (_LAST, 0, of.number))
        yield _Served((_LAST, 0, of.number, 1), self._led(of.obj, backend, "spec.defaultBackend", template))

    def _path(self, of: _Asked, host: str, path: Any, place: tuple[int, int]) -> Iterator[_Served]:
        text, kind = str(path.get("path") or "/"), path.get("pathType")
        field_ = f"spec.rules[{place[0]}].http.paths[{place[1]}]"
        try:
            uris = _uris(text, kind, has_patterns=of.options.has_patterns)
            rewrite = _rewrite(text, of.options)
        except ValueError as error:
            self._tell(of.obj, "PathNotServed", f"{field_}.path: {error}")
            return
        name = f"{objects.name(of.obj)}:{place[0]}.{place[1]}"
        matches = tuple(_match(host, uri) for uri in uris)
        template = istio.HTTPRoute(name=name, match=matches, rewrite=rewrite)
        length = len(text) if kind == "Exact" else len(text.rstrip("/") or "/")
        rank = (-length, 0 if kind == "Exact" else 1, of.number, *place)
        yield from self._redirected(of, host, template, rank)
        yield _Served((*rank, 1), self._led(of.obj, path.get("backend") or {}, f"{field_}.backend", template))

    def _redirected(
        self, of: _Asked, host: str, template: istio.HTTPRoute, rank: tuple[int, ...]
    ) -> Iterator[_Served]:
        """What stands before the route itself: from HTTP alone, to the port at which HTTPS is reached."""
        if not _redirects(of, host):
            return
        matches = tuple(
            msgspec.structs.replace(match, gateways=(self._gateways[HTTP],)) for match in template.match
        )
        ports = self._around.ports
        port = None if (ports.http, ports.https) == (HTTP_NUMBER, HTTPS_NUMBER) else ports.https
        redirect = istio.HTTPRedirect(scheme="https", port=port, redirect_code=308)
        route = istio.HTTPRoute(name=f"{template.name}:https", match=matches, redirect=redirect)
        yield _Served((*rank, 0), route)

    def _led(self, obj: Object, backend: Any, field_: str, template: istio.HTTPRoute) -> istio.HTTPRoute:
        """The route to a backend; one that there is not answers 503 and is told."""
        port, why = self._port(objects.namespace(obj), backend)
        if why:
            self._tell(obj, "BackendMissing", f"{field_}: {why}")
            body = istio.HTTPBody(string="the Ingress has no such backend\n")
            refusal = istio.HTTPDirectResponse(503, body)
            return istio.HTTPRoute(name=template.name, match=template.match, direct_response=refusal)
        service = backend["service"]["name"]
        host = cluster.service_host(service, objects.namespace(obj), self._around.cluster_domain)
        destination = istio.Destination(host, port=istio.PortSelector(port))
        return msgspec.structs.replace(template, route=(istio.RouteDestination(destination),))

    def _port(self, namespace: str, backend: Any) -> tuple[int, str]:
        """The number of the backend's port, or why there is none."""
        named = backend.get("service")
        if named is None:
            kind = (backend.get("resource") or {}).get("kind") or "?"
            return 0, f"resource backends ({kind}) are not served: name a Service"
        service = self._around.services.get(Key(namespace, named["name"]))
        if service is None:
            return 0, f"there is no Service {named['name']}"
        if objects.spec(service).get("type") == "ExternalName":
            return 0, f"Service {named['name']} is of type ExternalName, which has no endpoints"
        asked = named.get("port") or {}
        for port in objects.spec(service).get("ports") or ():
            is_asked = (
                port.get("name") == asked["name"]
                if asked.get("name")
                else port["port"] == asked.get("number")
            )
            if is_asked and (port.get("protocol") or "TCP") == "TCP":
                return int(port["port"]), ""
        return 0, f"Service {named['name']} has no TCP port {asked.get('name') or asked.get('number')}"

    def _finish(self, namespace: str, host: str, of_host: _Host) -> None:
        if not of_host.routes:
            return
        ordered = sorted(of_host.routes, key=lambda served: served.rank)
        spec = istio.VirtualServiceSpec(
            hosts=(host,),
            gateways=tuple(self._gateways.values()),
            http=tuple(served.route for served in ordered),
        )
        version = wire.digest(msgspec.json.encode(spec))
        origin = Origin("VirtualService", namespace, f"{OF_INGRESS}{host}", version)
        self._expansion.virtual_services.append(Rule(origin, of_host.created, spec))
        self._expansion.sources[origin] = list(of_host.sources)

    # TLS

    def _terminate(self, ours: Sequence[Object]) -> None:
        """A host's certificate is named by the oldest Ingress of the namespace that has the host."""
        names: dict[str, tuple[Certificate, str]] = {}
        for each in ours:
            for index, tls in enumerate(objects.spec(each).get("tls") or ()):
                certificate = self._certificate(each, tls, f"spec.tls[{index}]")
                for host in tls.get("hosts") or (ANY_HOST,):
                    holder = self._holders.setdefault(host, objects.namespace(each))
                    if holder != objects.namespace(each):
                        text = f"spec.tls[{index}]: host {host} is held by namespace {holder}"
                        self._tell(each, "HostHeld", text)
                    elif certificate is not None:
                        names.setdefault(host, (certificate, _age(each)[0]))
        by_certificate: dict[str, tuple[Certificate, dict[str, str]]] = {}
        for host, (certificate, created) in names.items():
            by_certificate.setdefault(certificate.name, (certificate, {}))[1][host] = created
        self._expansion.terminations = [
            Termination(certificate, tuple(sorted(hosts.items())))
            for _, (certificate, hosts) in sorted(by_certificate.items())
        ]

    def _certificate(self, obj: Object, tls: Any, field_: str) -> Certificate | None:
        if not tls.get("secretName"):
            self._tell(
                obj, "SecretMissing", f"{field_}: without a secretName there is no certificate to serve"
            )
            return None
        key = Key(objects.namespace(obj), tls["secretName"])
        certificate = self._around.certificates.get(key)
        if (why := self._around.unusable.get(key)) is not None:
            kept = "; the former one is served" if certificate is not None else ""
            self._tell(obj, "SecretInvalid", f"{field_}: Secret {key.name}: {why}{kept}")
        elif certificate is None:
            self._tell(
                obj,
                "SecretMissing",
                f"{field_}: there is no Secret {key.name} of type kubernetes.io/tls or Opaque",
            )
        return certificate


def _hosts_of(obj: Object) -> list[str]:
    """The hosts of its rules; every host where it has none."""
    rules = objects.spec(obj).get("rules") or ()
    return list(dict.fromkeys(str(rule.get("host") or ANY_HOST) for rule in rules)) or [ANY_HOST]


def _redirects(of: _Asked, host: str) -> bool:
    if of.options.always_redirects:
        return True
    tls = objects.spec(of.obj).get("tls") or ()
    return of.options.redirects and any(not each.get("hosts") or host in each["hosts"] for each in tls)


def _rewrite(path: str, chosen: Options) -> istio.HTTPRewrite | None:
    if chosen.rewrite is None:
        return None
    if options.groups(path) < _highest(chosen.rewrite):
        raise ValueError("has fewer groups than the rewrite target")
    whole = f"^{options.pattern(path)}$"
    return istio.HTTPRewrite(uri_regex_rewrite=istio.RegexRewrite(whole, chosen.rewrite))


def _match(host: str, uri: istio.StringMatch) -> istio.HTTPMatchRequest:
    """A wildcard of an Ingress stands for one label, where the proxy's stands for any number."""
    authority = None
    if host.startswith("*."):
        authority = istio.StringMatch(regex=f"(?i)[^.]+{re.escape(host[1:])}(:[0-9]+)?")
    return istio.HTTPMatchRequest(uri=uri, authority=authority)


def _uris(path: str, kind: Any, *, has_patterns: bool) -> tuple[istio.StringMatch, ...]:
    """Exact is that path alone; a prefix goes by elements, as what is left to the implementation does."""
    if kind == "Exact":
        return (istio.StringMatch(exact=path),)
    if has_patterns:
        return (istio.StringMatch(regex=options.pattern(path)),)
    plain = path.rstrip("/")
    if not plain:
        return (istio.StringMatch(prefix="/"),)
    return (istio.StringMatch(exact=plain), istio.StringMatch(prefix=f"{plain}/"))


def _highest(target: str) -> int:
    return max((int(digit) for digit in re.findall(r"\\([1-9])", target)), default=0)
