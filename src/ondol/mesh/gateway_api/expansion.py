"""Gateway API as the mesh's own objects: a Gateway for each port, a VirtualService for each host. Pure.

Routes of all Gateways at a port are joined host by host, in the order that Gateway API gives to matches;
between pods those of one namespace for one Service are. How names are completed, whom a rule is for and how
routes are made is as for rules that people write.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from ondol.api.objects import Key, Object
from ondol.base.memo import Memo
from ondol.contracts import cluster
from ondol.mesh.gateway_api import documents, http, names, streams
from ondol.mesh.gateway_api.attachment import Attachment, Parents, reference_document
from ondol.mesh.gateway_api.documents import Document
from ondol.mesh.gateway_api.gateways import Around, Gateways
from ondol.mesh.gateway_api.hosts import Hosts
from ondol.mesh.gateway_api.http import Compiled
from ondol.mesh.gateway_api.listeners import Namespaces, Place
from ondol.mesh.gateway_api.outcomes import ClassOutcome, Condition, Outcomes, ParentOutcome
from ondol.mesh.gateway_api.references import Backends, Certificates, Grants, Referrer
from ondol.mesh.gateway_api.sifting import Joined
from ondol.mesh.gateway_api.streams import Streams
from ondol.mesh.translate.credentials import Content
from ondol.mesh.translate.registry import Gateway, Rule, VirtualService
from ondol.mesh.xds.types import Origin


@dataclass(frozen=True, slots=True)
class Objects:
    """Everything of Gateway API there is, by kind."""

    of: Mapping[str, Sequence[Object]] = field(default_factory=dict)

    def listed(self, kind: str) -> Sequence[Object]:
        return self.of.get(kind, ())


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the objects refer to."""

    services: Mapping[Key, Object] = field(default_factory=dict)
    namespaces: Sequence[Object] = ()
    certificates: Mapping[Key, Content] = field(default_factory=dict)
    place: Place = field(default_factory=Place)
    cluster_domain: str = cluster.DOMAIN
    namespace: str = cluster.PLATFORM_NAMESPACE
    """Of what is made here."""


@dataclass(slots=True)
class Expansion:
    gateways: list[Gateway] = field(default_factory=list)
    virtual_services: list[VirtualService] = field(default_factory=list)
    outcomes: Outcomes = field(default_factory=Outcomes)
    sources: dict[Origin, list[tuple[str, Key]]] = field(default_factory=dict)
    """Kind and key of the Routes that a VirtualService was made from."""
    joined: dict[Origin, Joined] = field(default_factory=dict)
    """For those that several may have part in."""

    def beside(self, rules: Mapping[str, Sequence[Rule[Any]]]) -> dict[str, Sequence[Rule[Any]]]:
        """Rules by kind, with those made here."""
        own: dict[str, Sequence[Rule[Any]]] = {
            "Gateway": self.gateways,
            "VirtualService": self.virtual_services,
        }
        return {kind: [*listed, *own.get(kind, ())] for kind, listed in rules.items()}


def expand(present: Objects, around: Surroundings, memo: Memo | None = None) -> Expansion:
    """What all objects together ask for; `memo` keeps what was read of those that stay."""
    return _Expander(present, around, memo if memo is not None else Memo()).run()


class _Expander:
    def __init__(self, present: Objects, around: Surroundings, memo: Memo) -> None:
        self._around = around
        self._memo = memo
        self._read = {
            kind: sorted((self._document(kind, each) for each in present.listed(kind)), key=lambda of: of.age)
            for kind in documents.SPECS
        }
        self._grants = Grants(self._read["ReferenceGrant"])
        self._backends = Backends(around.services, self._grants, around.cluster_domain)
        self._outcomes = Outcomes()
        self._hosts = Hosts(around.services, around.cluster_domain, around.namespace, memo)
        self._streams = Streams(around.namespace)
        self._compiled_of: dict[tuple[str, Key], Compiled] = {}

    def _document(self, kind: str, obj: Object) -> Document[Any]:
        return self._memo.get((kind, id(obj)), lambda: documents.read(kind, obj), obj)

    def run(self) -> Expansion:
        classes = self._classes()
        own = [each for each in self._read["Gateway"] if each.spec.gateway_class_name in classes]
        namespaces = Namespaces(self._around.namespaces)
        certificates = Certificates(self._around.certificates, self._grants)
        around = Around(self._around.place, namespaces, certificates)
        gateways = Gateways(own, self._read["ListenerSet"], classes, around)
        parents = Parents(gateways.opened, gateways.sets, self._around.services, namespaces)
        attachments = [
            attachment
            for resource in names.ROUTES
            for route in self._read[resource.kind]
            for attachment in parents.attach(route)
        ]
        self._attach(attachments)
        self._outcomes.gateways = gateways.outcomes()
        served = gateways.served()
        virtual_services, joined = self._hosts.rules(served)
        carried = self._streams.rules(served)
        self._tell_parents(attachments)
        return Expansion(
            [*self._hosts.gateways(served), *carried.gateways],
            [*virtual_services, *carried.virtual_services],
            self._outcomes,
            {origin: list(each.sources) for origin, each in joined.items()} | carried.sources,
            joined,
        )

    def _classes(self) -> dict[str, bool]:
        """The names of the mesh's classes, and whether each is accepted."""
        accepted = {}
        for each in self._read["GatewayClass"]:
            if each.spec.controller_name != names.CONTROLLER:
                continue
            condition = Condition(names.ACCEPTED, "True", "Accepted")
            if each.spec.parameters_ref is not None:
                text = "spec.parametersRef: there are no parameters"
                condition = Condition(names.ACCEPTED, "False", "InvalidParameters", text)
            version = Condition("SupportedVersion", "True", "SupportedVersion")
            self._outcomes.classes[each.key] = ClassOutcome((condition, version))
            accepted[each.key.name] = condition.status == "True"
        return accepted

    # Routes

    def _attach(self, attachments: Sequence[Attachment]) -> None:
        compiled = self._compiled_of
        for each in attachments:
            route = each.route
            if (route.kind, route.key) not in compiled:
                compiled[route.kind, route.key] = self._compiled(route)
            problems = compiled[route.kind, route.key].problems
            if problems and each.accepted.status == "True":
                each.refuse("UnsupportedValue", "; ".join(dict.fromkeys(problems)))
        _settle_kinds(attachments)
        for each in attachments:
            own = compiled[each.route.kind, each.route.key]
            if each.accepted.status == "True":
                (self._hosts if each.route.kind in names.HTTP_KINDS else self._streams).add(each, own)

    def _tell_parents(self, attachments: Sequence[Attachment]) -> None:
        for each in attachments:
            of = self._hosts if each.route.kind in names.HTTP_KINDS else self._streams
            is_accepted = each.accepted.status == "True"
            self._tell_parent(each, tuple(of.rules_of(each)) if is_accepted else ())

    def _compiled(self, route: Document[Any]) -> Compiled:
        """Made anew only when the Route or what one of its references leads to changed."""
        who = Referrer(route.kind, route.namespace)
        references = self._memo.get(("references", id(route)), lambda: route.references, route)
        led = tuple(self._backends.find(who, each) for each in references)
        compiler = http.compile_route if route.kind in names.HTTP_KINDS else streams.compile_route
        make = partial(compiler, route, self._backends)
        return self._memo.get(("compiled", id(route), led), make, route)

    def _tell_parent(self, attachment: Attachment, rules: tuple[tuple[Origin, int], ...]) -> None:
        compiled = self._compiled_of[attachment.route.kind, attachment.route.key]
        resolved = Condition(names.RESOLVED_REFS, "True", "ResolvedRefs")
        if compiled.unresolved:
            text = "; ".join(dict.fromkeys(each.message for each in compiled.unresolved))
            resolved = Condition(names.RESOLVED_REFS, "False", compiled.unresolved[0].reason, text)
        reference = reference_document(attachment.reference)
        outcome = ParentOutcome(reference, (attachment.accepted, resolved), rules)
        key = (attachment.route.kind, attachment.route.key)
        listed = self._outcomes.parents
        listed[key] = (*listed.get(key, ()), outcome)


def _settle_kinds(attachments: Sequence[Attachment]) -> None:
    """At one listener a host has Routes of one kind: the younger of two kinds is not accepted."""
    holders: dict[tuple[int, str], Document[Any]] = {}
    for each in sorted(attachments, key=lambda each: each.route.age):
        if each.accepted.status != "True":
            continue
        for listener, hosts in each.listeners:
            for host in hosts:
                holder = holders.setdefault((id(listener), host), each.route)
                if holder.kind != each.route.kind:
                    each.refuse("HostnameConflict", f"host {host} has an older {holder.kind}, {holder.key}")
