"""Which parents a Route attaches to, and why not to others. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

import msgspec

from ondol.api.objects import Key, Object
from ondol.mesh.gateway_api import names
from ondol.mesh.gateway_api.documents import Document
from ondol.mesh.gateway_api.listeners import Namespaces, Open, intersection
from ondol.mesh.gateway_api.outcomes import Condition
from ondol.mesh.gateway_api.routes import ParentReference

Closeness: TypeAlias = tuple[int, int]
"""How closely a Route names a host, the closest first: in full before by a wildcard, the longer before."""
_UNNAMED: Final[Closeness] = (2, 0)
ACCEPTED: Final = Condition(names.ACCEPTED, "True", "Accepted")


@dataclass(slots=True)
class Attachment:
    """A Route at one of its parents."""

    route: Document[Any]
    reference: ParentReference
    accepted: Condition = ACCEPTED
    listeners: list[tuple[Open, Mapping[str, Closeness]]] = field(default_factory=list)
    """At a Gateway: each listener, with the hosts that are served there."""
    service: Key | None = None
    ports: tuple[int, ...] = ()
    """Between pods: the Service, and which of its ports are meant."""

    def refuse(self, reason: str, message: str) -> None:
        self.accepted = Condition(names.ACCEPTED, "False", reason, message)


@dataclass(frozen=True, slots=True)
class Parents:
    """All that Routes may attach to."""

    opened: Mapping[Key, Sequence[Open]]
    """Listeners by Gateway, those of sets among them."""
    sets: Mapping[Key, Key]
    """The Gateway of each ListenerSet that is attached to one."""
    services: Mapping[Key, Object]
    namespaces: Namespaces

    def attach(self, route: Document[Any]) -> list[Attachment]:
        """The Route at each of its parents that are the mesh's; of others nothing is said."""
        attachments = (self._attached(route, reference) for reference in route.spec.parent_refs)
        return [each for each in attachments if each is not None]

    def _attached(self, route: Document[Any], reference: ParentReference) -> Attachment | None:
        key = Key(reference.namespace or route.namespace, reference.name)
        match (reference.group, reference.kind):
            case (names.GROUP, "Gateway") if key in self.opened:
                own = [each for each in self.opened[key] if each.owner is each.gateway]
                return self._at_listeners(Attachment(route, reference), own)
            case (names.GROUP, "ListenerSet") if key in self.sets:
                listed = [each for each in self.opened[self.sets[key]] if _is_of_set(each, key)]
                return self._at_listeners(Attachment(route, reference), listed)
            case ("" | "core", "Service"):
                return self._at_service(Attachment(route, reference), key)
        return None

    def _at_listeners(self, of: Attachment, listed: Sequence[Open]) -> Attachment:
        reference, route = of.reference, of.route
        named = [
            each
            for each in listed
            if reference.section_name in (None, each.spec.name) and reference.port in (None, each.spec.port)
        ]
        if not named:
            place = " ".join(
                f"{name} {value}"
                for name, value in (("sectionName", reference.section_name), ("port", reference.port))
                if value is not None
            )
            of.refuse(
                "NoMatchingParent", f"{reference.kind} {reference.name} has no listener {place}".strip()
            )
            return of
        allowed = [each for each in named if self._allows(each, route)]
        if not allowed:
            text = f"no listener of {reference.kind} {reference.name} allows this kind from this namespace"
            of.refuse("NotAllowedByListeners", text)
            return of
        hosts = getattr(route.spec, "hostnames", ())
        for each in allowed:
            if shared := _shared(each.hostname, hosts):
                of.listeners.append((each, shared))
        if not of.listeners:
            text = f"no listener of {reference.kind} {reference.name} has one of the hostnames"
            of.refuse("NoMatchingListenerHostname", text)
        return of

    def _allows(self, listener: Open, route: Document[Any]) -> bool:
        allowed = listener.spec.allowed_routes.namespaces
        return listener.allows_kind(route.kind) and self.namespaces.admit(
            allowed.from_, allowed.selector, listener.owner.namespace, route.namespace
        )

    def _at_service(self, of: Attachment, key: Key) -> Attachment:
        """Between pods: of the Service's namespace a Route is for all, of another for calls from that one."""
        service = self.services.get(key)
        reference = of.reference
        if of.route.kind not in names.HTTP_KINDS:
            of.refuse("UnsupportedValue", f"between pods no {of.route.kind} is served")
            return of
        ports = (service or {}).get("spec", {}).get("ports") or ()
        meant = [
            int(port["port"])
            for port in ports
            if (port.get("protocol") or "TCP") == "TCP"
            and reference.port in (None, port["port"])
            and reference.section_name in (None, port.get("name"))
        ]
        if service is None:
            of.refuse("NoMatchingParent", f"there is no Service {key}")
        elif not meant:
            of.refuse("NoMatchingParent", f"Service {key} has no such TCP port")
        else:
            of.service, of.ports = key, tuple(meant)
        return of


def _is_of_set(listener: Open, key: Key) -> bool:
    return listener.owner.kind == "ListenerSet" and listener.owner.key == key


def _shared(own: str, hosts: Sequence[str]) -> dict[str, Closeness]:
    """The hosts of a Route that a listener has, the narrower of both; its own where the Route has none."""
    if not hosts:
        return {own: _UNNAMED}
    shared: dict[str, Closeness] = {}
    for host in map(str.lower, hosts):
        if each := intersection(own, host):
            closeness = (1 if host.startswith("*") else 0, -len(host))
            shared[each] = min(closeness, shared.get(each, _UNNAMED))
    return shared


def reference_document(reference: ParentReference) -> Object:
    """A parent as a status names it."""
    document: Object = msgspec.to_builtins(reference)
    return {"group": reference.group, "kind": reference.kind, **document}
