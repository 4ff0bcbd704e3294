"""Listeners of Gateways and ListenerSets: which are served, at which port, for which Routes. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from ondol.api import labels, objects
from ondol.api.objects import Key, Object
from ondol.base import errors
from ondol.mesh.gateway_api import names
from ondol.mesh.gateway_api.documents import Document
from ondol.mesh.gateway_api.model import (
    GatewaySpec,
    LabelSelector,
    Listener,
    ListenerSetSpec,
    RouteGroupKind,
)
from ondol.mesh.gateway_api.outcomes import Condition
from ondol.mesh.gateway_api.references import Certificates, Referrer, Shown
from ondol.mesh.translate.servers import INGRESS_PORT, INGRESS_TLS_PORT

KINDS_OF: Final[Mapping[str, tuple[str, ...]]] = {
    "HTTP": names.HTTP_KINDS,
    "HTTPS": names.HTTP_KINDS,
    "TLS": ("TLSRoute",),
    "TCP": ("TCPRoute",),
}
"""By the protocol of a listener, the kinds of Routes it may serve."""
_FAMILY: Final = {"HTTPS": "TLS"}
"""Protocols that may share a port with others, where those are told apart by the name in the hello."""
_SPOKEN: Final = {INGRESS_PORT: "HTTP", INGRESS_TLS_PORT: "TLS"}


_ACCEPTED: Final = Condition(names.ACCEPTED, "True", "Accepted")
_RESOLVED: Final = Condition(names.RESOLVED_REFS, "True", "ResolvedRefs")
_ALONE: Final = Condition(names.CONFLICTED, "False", "NoConflicts")


@dataclass(slots=True, eq=False)
class Open:
    """A listener that is asked for, and what is decided of it."""

    gateway: Document[GatewaySpec]
    owner: Document[GatewaySpec] | Document[ListenerSetSpec]
    """The Gateway itself, or the ListenerSet that adds the listener to it."""
    spec: Listener
    port: int
    """What the port is called at the ingress."""
    kinds: tuple[RouteGroupKind, ...] = ()
    certificates: tuple[str, ...] = ()
    """`namespace/secret`, where TLS ends here."""
    accepted: Condition = _ACCEPTED
    resolved: Condition = _RESOLVED
    conflicted: Condition = _ALONE
    attached: set[tuple[str, Key]] = field(default_factory=set)
    """Kind and key of each Route."""

    @property
    def hostname(self) -> str:
        return (self.spec.hostname or "*").lower()

    @property
    def claimant(self) -> str:
        """The namespace for which it claims hosts: the Gateway's, which admits ListenerSets and Routes."""
        return self.gateway.namespace

    @property
    def created(self) -> str:
        """Since when it can be there."""
        return max(self.gateway.created, self.owner.created)

    def since(self, host: str, route: Document[Any] | None = None) -> str:
        """Since when it claims a host: its own since it is there, others since there is a Route, too."""
        if route is None or (self.spec.hostname and host == self.hostname):
            return self.created
        return max(self.created, route.created)

    @property
    def is_served(self) -> bool:
        sound = self.accepted.status == "True" and self.conflicted.status == "False"
        return sound and bool(self.kinds) and (not self.terminates or bool(self.certificates))

    @property
    def family(self) -> str:
        return _FAMILY.get(self.spec.protocol, self.spec.protocol)

    @property
    def terminates(self) -> bool:
        """Whether TLS ends here."""
        mode = self.spec.tls.mode if self.spec.tls is not None else "Terminate"
        return self.family == "TLS" and mode == "Terminate"

    @property
    def name(self) -> str:
        """Of no other listener of the machine."""
        owner = f"{self.owner.kind}:{self.owner.key.namespace}:{self.owner.key.name}"
        return f"{self.port}:{owner}:{self.spec.name}"

    @property
    def conditions(self) -> tuple[Condition, ...]:
        return (self.accepted, self.resolved, self.conflicted)

    def allows_kind(self, kind: str) -> bool:
        return any((each.group, each.kind) == (names.GROUP, kind) for each in self.kinds)


@dataclass(frozen=True, slots=True)
class Place:
    """What the machine has to offer to Gateways."""

    port_of: Mapping[int, int] = field(default_factory=dict)
    """Port numbers that mean the ingress port, by what that is called."""
    port_problem: Callable[[int], str] = lambda _number: ""
    address: str = "127.0.0.1"
    """Where it is reached."""


def open_all(
    gateways: Sequence[Document[GatewaySpec]],
    sets: Mapping[Key, Sequence[Document[ListenerSetSpec]]],
    place: Place,
    certificates: Certificates,
) -> dict[Key, list[Open]]:
    """The listeners of each Gateway, its own before those of its sets, each with what is decided of it."""
    opened = {}
    elder: dict[int, list[Open]] = {}
    for gateway in gateways:
        listed = [_opened(gateway, gateway, each, place, certificates) for each in gateway.spec.listeners]
        for owner in sets.get(gateway.key, ()):
            listed += [_opened(gateway, owner, each, place, certificates) for each in owner.spec.listeners]
        _settle_conflicts(listed)
        for each in listed:
            if each.is_served:
                _yield_to(each, elder.setdefault(each.port, []))
        opened[gateway.key] = listed
    return opened


def _yield_to(of: Open, elder: list[Open]) -> None:
    """A port has one protocol on this machine, and a name of TLS one listener: the older Gateway's."""
    others = [each for each in elder if each.gateway is not of.gateway]
    for each in others:
        if each.family != of.family or of.family == "TCP":
            text = f"port {of.spec.port} serves {each.spec.protocol} for the older Gateway {each.gateway.key}"
            of.accepted = Condition(names.ACCEPTED, "False", "PortUnavailable", text)
            return
        if of.family == "TLS" and of.hostname == each.hostname and (of.terminates or each.terminates):
            text = f"host {of.hostname} at port {of.spec.port} is the older Gateway {each.gateway.key}'s"
            _conflict(of, "HostnameConflict", text)
            return
    elder.append(of)


def _opened(
    gateway: Document[GatewaySpec],
    owner: Document[GatewaySpec] | Document[ListenerSetSpec],
    spec: Listener,
    place: Place,
    certificates: Certificates,
) -> Open:
    of = Open(gateway, owner, spec, place.port_of.get(spec.port, spec.port))
    served = KINDS_OF.get(spec.protocol)
    if served is None:
        text = f"protocol {spec.protocol} is not served: the proxy carries HTTP, TLS and TCP"
        of.accepted = Condition(names.ACCEPTED, "False", "UnsupportedProtocol", text)
        return of
    asked = spec.allowed_routes.kinds or tuple(RouteGroupKind(kind) for kind in served)
    of.kinds = tuple(each for each in asked if each.group == names.GROUP and each.kind in served)
    if len(of.kinds) < len(asked):
        strange = ", ".join(f"{each.kind}.{each.group}" for each in asked if each not in of.kinds)
        text = f"a listener of protocol {spec.protocol} does not serve {strange}"
        of.resolved = Condition(names.RESOLVED_REFS, "False", "InvalidRouteKinds", text)
    if of.terminates:
        _show(of, certificates)
    if problem := place.port_problem(spec.port) or _otherwise(of):
        of.accepted = Condition(names.ACCEPTED, "False", "PortUnavailable", problem)
    elif spec.tls is not None and spec.tls.options:
        text = f"tls.options: {min(spec.tls.options)} is not acted on"
        of.accepted = Condition(names.ACCEPTED, "False", "UnsupportedValue", text)
    elif spec.allowed_routes.namespaces.from_ == "Selector" and (
        problem := _selector_problem(spec.allowed_routes.namespaces.selector)
    ):
        of.accepted = Condition(names.ACCEPTED, "False", "UnsupportedValue", problem)
    return of


def _otherwise(of: Open) -> str:
    """Why the protocol is not spoken at the two ports of the ingress."""
    spoken = _SPOKEN.get(of.port, of.family)
    return "" if spoken == of.family else f"port {of.spec.port} speaks {spoken} on this machine"


def _show(of: Open, certificates: Certificates) -> None:
    who = Referrer(of.owner.kind, of.owner.namespace)
    references = of.spec.tls.certificate_refs if of.spec.tls is not None else ()
    shown = [certificates.find(who, each) for each in references]
    of.certificates = tuple(each.name for each in shown if each.name)
    problems = [each for each in shown if each.reason]
    if not shown:
        problems = [Shown(reason="InvalidCertificateRef", message="tls.certificateRefs names no certificate")]
    if problems:
        text = "; ".join(each.message for each in problems)
        of.resolved = Condition(names.RESOLVED_REFS, "False", problems[0].reason, text)


def _settle_conflicts(listed: Sequence[Open]) -> None:
    """In one Gateway: a port has one protocol, and a host of it one listener.

    Its own listeners have neither without the other; what a set adds gives way to what was there before.
    """
    by_port: dict[int, list[Open]] = {}
    for each in listed:
        if each.accepted.status == "True":
            by_port.setdefault(each.spec.port, []).append(each)
    for port, here in by_port.items():
        own = [each for each in here if each.owner is each.gateway]
        if len({each.family for each in own}) > 1:
            for each in own:
                _conflict(each, "ProtocolConflict", f"port {port} is asked for with several protocols")
        first = own[0] if own else here[0]
        hosts = {each.hostname for each in own}
        for each in here:
            if each in own:
                continue
            if each.family != first.family:
                _conflict(each, "ProtocolConflict", f"port {port} already serves {first.spec.protocol}")
            elif each.hostname in hosts:
                _conflict(each, "HostnameConflict", f"port {port} already serves host {each.hostname}")
            else:
                hosts.add(each.hostname)


def _conflict(of: Open, reason: str, text: str) -> None:
    of.conflicted = Condition(names.CONFLICTED, "True", reason, text)
    of.accepted = Condition(names.ACCEPTED, "False", reason, text)


# Which namespaces are meant


class Namespaces:
    """Namespaces by their labels; whoever looks at labels is remembered to have."""

    def __init__(self, listed: Iterable[Object]) -> None:
        self._labels = {objects.name(each): objects.labels(each) for each in listed}

    def admit(self, from_: str, selector: LabelSelector | None, own: str, namespace: str) -> bool:
        """Whether `namespace` is among those meant by an object of the namespace `own`."""
        if from_ == "Same":
            return own == namespace
        if from_ != "Selector":
            return from_ == "All"
        try:
            chosen = labels.from_document(_document(selector))
        except errors.BadRequest:
            return False
        return namespace in self._labels and chosen.matches(self._labels[namespace])


def _document(selector: LabelSelector | None) -> Object | None:
    document: Object | None = msgspec.to_builtins(selector) if selector is not None else None
    return document


def _selector_problem(selector: LabelSelector | None) -> str:
    try:
        labels.from_document(_document(selector))
    except errors.BadRequest as error:
        return f"allowedRoutes.namespaces.selector: {error.message}"
    return ""


# Hosts


def covers(pattern: str, host: str) -> bool:
    """Whether a listener's host admits a host or a wildcard: `*.x` covers what has labels before x."""
    if pattern == "*":
        return True
    if pattern.startswith("*."):
        return host.removeprefix("*").endswith(pattern[1:]) and host != pattern[2:]
    return pattern == host


def intersection(first: str, second: str) -> str:
    """The narrower of two hosts of which one covers the other; nothing where neither does."""
    if covers(first, second):
        return second
    return first if covers(second, first) else ""


def particularity(host: str) -> tuple[bool, int]:
    """Sorts the most particular host last: names in full after wildcards, longer after shorter."""
    return not host.startswith("*"), len(host)
