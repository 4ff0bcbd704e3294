"""Statuses of Gateway API's objects, from what was decided of them and what the proxy runs. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ondol.api import conditions, objects
from ondol.api.objects import Object
from ondol.mesh.gateway_api import features, names
from ondol.mesh.gateway_api.model import RouteGroupKind
from ondol.mesh.gateway_api.outcomes import (
    ClassOutcome,
    Condition,
    GatewayOutcome,
    ListenerOutcome,
    ParentOutcome,
)
from ondol.mesh.kinds.findings import CLAIMED
from ondol.mesh.kinds.kind import Finding
from ondol.mesh.xds.types import Origin


@dataclass(frozen=True, slots=True)
class Proxy:
    """What is known of the proxy: whether a listener of that name runs, and why it was refused."""

    runs: Callable[[str], bool]
    refusal: Callable[[str], str] = lambda _name: ""


def of_class(obj: Object, outcome: ClassOutcome, now: float) -> Object:
    supported = [{"name": name} for name in features.SUPPORTED]
    return {
        "conditions": _conditions(conditions.of(obj), outcome.conditions, obj, now),
        "supportedFeatures": supported,
    }


def of_gateway(obj: Object, outcome: GatewayOutcome, proxy: Proxy, address: str, now: float) -> Object:
    """The status of a Gateway: it is programmed when one of its listeners is."""
    status = of_listener_set(obj, outcome, proxy, now)
    is_reached = any(each.resource and proxy.runs(each.resource) for each in outcome.listeners)
    return {
        **status,
        "addresses": [{"type": "IPAddress", "value": address}] if is_reached else None,
        "attachedListenerSets": outcome.attached_sets,
    }


def of_listener_set(obj: Object, outcome: GatewayOutcome, proxy: Proxy, now: float) -> Object:
    before = {each.get("name"): each for each in objects.status(obj).get("listeners") or ()}
    listed = [_listener(each, before.get(each.name) or {}, obj, proxy, now) for each in outcome.listeners]
    written = [*outcome.conditions, _programmed(outcome, proxy)]
    return {"conditions": _conditions(conditions.of(obj), written, obj, now), "listeners": listed or None}


def _programmed(outcome: GatewayOutcome, proxy: Proxy) -> Condition:
    if any(each.status != "True" for each in outcome.conditions):
        return Condition(names.PROGRAMMED, "False", "Invalid", outcome.conditions[0].message)
    if outcome.address_problem:
        return Condition(names.PROGRAMMED, "False", "AddressNotUsable", outcome.address_problem)
    states = [_state(each, proxy) for each in outcome.listeners]
    if any(each.status == "True" for each in states):
        return Condition(names.PROGRAMMED, "True", "Programmed")
    return states[0] if states else Condition(names.PROGRAMMED, "False", "Invalid", "there are no listeners")


def _state(of: ListenerOutcome, proxy: Proxy) -> Condition:
    if not of.resource:
        text = next((each.message for each in of.conditions if each.message), "it is not served")
        return Condition(names.PROGRAMMED, "False", "Invalid", text)
    if proxy.runs(of.resource):
        return Condition(names.PROGRAMMED, "True", "Programmed")
    if text := proxy.refusal(of.resource):
        return Condition(names.PROGRAMMED, "False", "Invalid", f"the proxy refused it: {text}")
    return Condition(names.PROGRAMMED, "False", "Pending", "the proxy has not answered yet")


def _listener(
    of: ListenerOutcome, before: Mapping[str, Any], obj: Object, proxy: Proxy, now: float
) -> Object:
    written = (*of.conditions, _state(of, proxy))
    return {
        "name": of.name,
        "supportedKinds": [_kind(each) for each in of.kinds],
        "attachedRoutes": of.attached,
        "conditions": _conditions(before.get("conditions") or (), written, obj, now),
    }


def _kind(of: RouteGroupKind) -> Object:
    return {"group": of.group, "kind": of.kind}


def of_parents(
    obj: Object, outcomes: Sequence[ParentOutcome], now: float, fields: tuple[str, str]
) -> list[Object]:
    """What is said of parents, others' left as it is; `fields` are those of the list and the reference."""
    field, reference = fields
    before = list(objects.status(obj).get(field) or ())
    listed = [each for each in before if each.get("controllerName") != names.CONTROLLER]
    own = [each for each in before if each.get("controllerName") == names.CONTROLLER]
    for outcome in outcomes:
        same: Mapping[str, Any] = next((each for each in own if each.get(reference) == outcome.reference), {})
        listed.append(
            {
                reference: outcome.reference,
                "controllerName": names.CONTROLLER,
                "conditions": _conditions(same.get("conditions") or (), outcome.conditions, obj, now),
            }
        )
    return listed


def claimed(
    outcomes: Sequence[ParentOutcome], findings: Mapping[Origin, Sequence[Finding]]
) -> Sequence[ParentOutcome]:
    """What is said of a Route's parents, with the hosts that another namespace has.

    The Route is not accepted where it is served for none; `findings` are those on what was made of Routes.
    """
    return [_claimed(each, findings) for each in outcomes]


def _claimed(of: ParentOutcome, findings: Mapping[Origin, Sequence[Finding]]) -> ParentOutcome:
    lost = [
        finding.message
        for origin, _ in of.rules
        for finding in findings.get(origin, ())
        if finding.code == CLAIMED
    ]
    if not lost:
        return of
    text = "; ".join(dict.fromkeys(lost))
    condition = Condition(names.ACCEPTED, "True", "Accepted", text)
    if len(lost) >= sum(hosts for _, hosts in of.rules):
        condition = Condition(names.ACCEPTED, "False", "HostnameConflict", text)
    return replace(of, conditions=with_accepted(of.conditions, condition))


def with_accepted(conditions: Sequence[Condition], accepted: Condition) -> tuple[Condition, ...]:
    return tuple(accepted if each.type == names.ACCEPTED else each for each in conditions)


def _conditions(
    before: Iterable[Mapping[str, Any]], written: Iterable[Condition], obj: Object, now: float
) -> list[Object]:
    """The conditions in full; each has a message, as the schema asks."""
    of = {each.get("type"): each for each in before}
    listed: list[Object] = []
    for each in written:
        current = [of[each.type]] if each.type in of else []
        listed += conditions.set(
            current,
            each.type,
            each.status,
            reason=each.reason,
            message=each.message,
            now=now,
            observed_generation=objects.generation(obj),
        )
        listed[-1].setdefault("message", "")
    return listed
