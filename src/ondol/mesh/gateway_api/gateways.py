"""Gateways with their ListenerSets: which are accepted, and what each listener serves. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from ondol.api.objects import Key
from ondol.mesh.gateway_api import names
from ondol.mesh.gateway_api.documents import Document
from ondol.mesh.gateway_api.listeners import Namespaces, Open, Place, open_all
from ondol.mesh.gateway_api.model import GatewaySpec, ListenerSetSpec
from ondol.mesh.gateway_api.outcomes import Condition, GatewayOutcome, ListenerOutcome
from ondol.mesh.gateway_api.references import Certificates
from ondol.mesh.translate import gateways as envoy

_ACCEPTED: Final = Condition(names.ACCEPTED, "True", "Accepted")


@dataclass(frozen=True, slots=True)
class Around:
    """What decides of listeners, beside them."""

    place: Place
    namespaces: Namespaces
    certificates: Certificates


class Gateways:
    """The Gateways of the mesh's classes, the oldest first."""

    def __init__(
        self,
        listed: Sequence[Document[GatewaySpec]],
        sets: Sequence[Document[ListenerSetSpec]],
        classes: Mapping[str, bool],
        around: Around,
    ) -> None:
        self._listed = listed
        place, namespaces, certificates = around.place, around.namespaces, around.certificates
        self._place = place
        self._accepted = {each.key: _judged(each, classes) for each in listed}
        self._sets: dict[tuple[str, Key], tuple[Document[ListenerSetSpec], Condition]] = {}
        attached: dict[Key, list[Document[ListenerSetSpec]]] = {}
        by_key = {each.key: each for each in listed}
        for each in sets:
            reference = each.spec.parent_ref
            key = Key(reference.namespace or each.namespace, reference.name)
            gateway = by_key.get(key)
            if gateway is None or (reference.group, reference.kind) != (names.GROUP, "Gateway"):
                continue
            condition = self._set_condition(gateway, each, namespaces)
            self._sets["ListenerSet", each.key] = each, condition
            if condition.status == "True":
                attached.setdefault(key, []).append(each)
        self.opened: Mapping[Key, Sequence[Open]] = open_all(listed, attached, place, certificates)
        """The listeners of each Gateway."""
        self.sets = {each.key: key for key, of in attached.items() for each in of}
        """The Gateway of each ListenerSet that is attached to one."""
        self._attached = {key: len(of) for key, of in attached.items()}

    def _set_condition(
        self, gateway: Document[GatewaySpec], of: Document[ListenerSetSpec], namespaces: Namespaces
    ) -> Condition:
        if of.problem:
            return Condition(names.ACCEPTED, "False", "Invalid", of.problem)
        allowed = gateway.spec.allowed_listeners
        meant = allowed.namespaces if allowed is not None else None
        if meant is None or not namespaces.admit(
            meant.from_, meant.selector, gateway.namespace, of.namespace
        ):
            text = f"Gateway {gateway.key} allows no listeners of this namespace"
            return Condition(names.ACCEPTED, "False", "NotAllowed", text)
        if self._accepted[gateway.key].status != "True":
            text = f"Gateway {gateway.key} is not accepted"
            return Condition(names.ACCEPTED, "False", "ParentNotAccepted", text)
        return _ACCEPTED

    def served(self) -> dict[Key, list[Open]]:
        """The listeners that are served, by Gateway."""
        return {
            key: [each for each in opened if each.is_served]
            for key, opened in self.opened.items()
            if self._accepted[key].status == "True" and not self._address_problem(key)
        }

    def _address_problem(self, key: Key) -> str:
        asked = next(each for each in self._listed if each.key == key).spec.addresses
        strange = [each.value for each in asked if each.value not in (None, "", self._place.address)]
        if not strange:
            return ""
        return f"{', '.join(map(str, strange))} is not the ingress address {self._place.address}"

    def outcomes(self) -> dict[tuple[str, Key], GatewayOutcome]:
        outcomes: dict[tuple[str, Key], GatewayOutcome] = {}
        served = self.served()
        for each in self._listed:
            own = [listener for listener in self.opened[each.key] if listener.owner is each]
            condition = _of_listeners(self._accepted[each.key], own)
            outcomes["Gateway", each.key] = GatewayOutcome(
                (condition,),
                tuple(_listener_outcome(listener, served.get(each.key, ())) for listener in own),
                self._address_problem(each.key),
                self._attached.get(each.key, 0),
            )
        for key, (document, condition) in self._sets.items():
            gateway = self.sets.get(document.key)
            added = [of for of in self.opened[gateway] if of.owner is document] if gateway else []
            outcomes[key] = GatewayOutcome(
                (_of_listeners(condition, added),),
                tuple(_listener_outcome(listener, served.get(gateway, ())) for listener in added)
                if gateway
                else (),
                self._address_problem(gateway) if gateway else "",
            )
        return outcomes


def _judged(of: Document[GatewaySpec], classes: Mapping[str, bool]) -> Condition:
    """Whether a Gateway is sound in all but its listeners."""
    spec = of.spec
    if of.problem:
        return Condition(names.ACCEPTED, "False", "Invalid", of.problem)
    if not classes[spec.gateway_class_name]:
        text = f"GatewayClass {spec.gateway_class_name} is not accepted"
        return Condition(names.ACCEPTED, "Unknown", "Pending", text)
    if spec.infrastructure is not None and spec.infrastructure.parameters_ref is not None:
        text = "spec.infrastructure.parametersRef: there are no parameters"
        return Condition(names.ACCEPTED, "False", "InvalidParameters", text)
    if strange := [each.type for each in spec.addresses if each.type != "IPAddress"]:
        text = f"addresses of type {', '.join(strange)} are not served"
        return Condition(names.ACCEPTED, "False", "UnsupportedAddress", text)
    if spec.tls is not None and (spec.tls.backend is not None or spec.tls.frontend is not None):
        text = "spec.tls is not supported: no client's certificate is checked, and none is shown to backends"
        return Condition(names.ACCEPTED, "False", "Invalid", text)
    return _ACCEPTED


def _of_listeners(condition: Condition, listed: Sequence[Open]) -> Condition:
    """A Gateway is accepted as long as one of its listeners is."""
    if condition.status != "True" or all(each.accepted.status == "True" for each in listed):
        return condition
    text = "; ".join(
        f"listener {each.spec.name}: {each.accepted.message}"
        for each in listed
        if each.accepted.status != "True"
    )
    is_partly = any(each.accepted.status == "True" for each in listed)
    return Condition(names.ACCEPTED, "True" if is_partly else "False", "ListenersNotValid", text)


def _listener_outcome(of: Open, served: Sequence[Open]) -> ListenerOutcome:
    resource = envoy.listener_name(of.port) if of in served else ""
    return ListenerOutcome(of.spec.name, of.kinds, len(of.attached), of.conditions, resource)
