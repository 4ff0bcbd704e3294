"""The statuses of Brokers and Triggers, from what is observed. Pure.

Conditions, reasons and messages: knative/eventing pkg/apis/eventing/v1 and pkg/reconciler/broker.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from ondol.api import objects
from ondol.api.objects import Object
from ondol.contracts import eventing
from ondol.eventing import addressing, verdicts, wellknown
from ondol.eventing.addressing import Surroundings
from ondol.eventing.destinations import NOWHERE, Address, Unresolved
from ondol.eventing.verdicts import Resolution, Verdict

Document: TypeAlias = Mapping[str, Any]

BROKER_READY: Final = "BrokerReady"
SUBSCRIBER_RESOLVED: Final = "SubscriberResolved"
DEPENDENCY_READY: Final = "DependencyReady"

BROKER_CONDITIONS: Final = (
    wellknown.ADDRESSABLE,
    wellknown.DEAD_LETTER_SINK_RESOLVED,
    wellknown.EVENT_POLICIES_READY,
)
TRIGGER_CONDITIONS: Final = (
    BROKER_READY,
    SUBSCRIBER_RESOLVED,
    wellknown.DEAD_LETTER_SINK_RESOLVED,
    DEPENDENCY_READY,
    wellknown.OIDC_IDENTITY_CREATED,
)


def is_ours(broker: Document) -> bool:
    """Whether the broker is of a class that is served here."""
    return objects.annotations(broker).get(eventing.BROKER_CLASS) in eventing.CLASSES


def broker_urls(broker: Document) -> tuple[str, str]:
    """Where events for the broker are sent, plain and by TLS."""
    return eventing.service_urls(eventing.BROKER_INGRESS, objects.namespace(broker), objects.name(broker))


def broker_status(broker: Document, dead_letter: Resolution, around: Surroundings) -> Object:
    """The status of a Broker; the data plane's conditions decide with ours about Ready."""
    own = {
        wellknown.ADDRESSABLE: verdicts.OK,
        wellknown.DEAD_LETTER_SINK_RESOLVED: verdicts.dead_letter(dead_letter),
        wellknown.EVENT_POLICIES_READY: addressing.policies_verdict(around),
    }
    of_ready = (*own, *eventing.PLANE_CONDITIONS[eventing.BROKER])
    return {
        "observedGeneration": objects.generation(broker),
        **addressing.fields(*broker_urls(broker), eventing.BROKER, broker, around.features),
        "policies": addressing.policy_references(around),
        **addressing.dead_letter_fields(dead_letter),
        "conditions": verdicts.with_ready(broker, own, of_ready=of_ready, now=around.now),
    }


@dataclass(frozen=True, slots=True)
class TriggerView:
    """What a Trigger depends on."""

    broker_name: str
    broker: Document | None
    subscriber: Address | Unresolved
    dead_letter: Resolution
    dead_letter_failure: str = "Unable to get the dead letter sink's URI"
    """The reason, where the dead letter sink has no address."""
    dependency: Verdict = verdicts.OK
    identity: Verdict = verdicts.OK
    service_account: str = ""


def trigger_status(trigger: Document, view: TriggerView, *, now: float) -> Object:
    """The status of a Trigger of a broker that is ours, or that is not there yet."""
    subscriber = view.subscriber
    own = {
        BROKER_READY: broker_verdict(view),
        SUBSCRIBER_RESOLVED: verdicts.failed("Unable to get the Subscriber's URI", str(subscriber))
        if isinstance(subscriber, Unresolved)
        else verdicts.OK,
        wellknown.DEAD_LETTER_SINK_RESOLVED: verdicts.dead_letter(view.dead_letter, view.dead_letter_failure),
        DEPENDENCY_READY: view.dependency,
        wellknown.OIDC_IDENTITY_CREATED: view.identity,
    }
    of_ready = (*own, *eventing.PLANE_CONDITIONS[eventing.TRIGGER])
    address = NOWHERE if isinstance(subscriber, Unresolved) else subscriber
    return {
        "observedGeneration": objects.generation(trigger),
        **address.as_status("subscriber"),
        **addressing.dead_letter_fields(view.dead_letter),
        "auth": {"serviceAccountName": view.service_account} if view.service_account else None,
        "conditions": verdicts.with_ready(trigger, own, of_ready=of_ready, now=now),
    }


def broker_verdict(view: TriggerView) -> Verdict:
    """The condition BrokerReady."""
    if view.broker is None:
        return verdicts.failed("BrokerDoesNotExist", f'Broker "{view.broker_name}" does not exist')
    absent = ("BrokerNotConfigured", "Broker has not yet been reconciled.")
    return verdicts.of_object(view.broker, absent=absent, prefix="Broker", kind="Broker")


def dependency_verdict(dependency: Document) -> Verdict:
    """The condition DependencyReady of a Trigger whose dependency is there."""
    generation, observed = (
        objects.generation(dependency),
        objects.status(dependency).get("observedGeneration"),
    )
    if generation != (observed or 0):
        message = (
            f"The dependency's metadata.generation, {generation}, is not equal to its "
            f"status.observedGeneration, {observed or 0}."
        )
        return verdicts.unknown("GenerationNotEqual", message)
    absent = ("DependencyNotConfigured", "Dependency has not yet been reconciled.")
    return verdicts.of_object(dependency, absent=absent, prefix="Dependency", kind="Dependency")


def dead_letter_of_broker(broker: Document | None) -> Resolution:
    """The dead letter sink of a Trigger that names none: its broker's."""
    if broker is None or addressing.dead_letter_sink(broker) is None:
        return None
    return addressing.dead_letter_address(objects.status(broker)) or Unresolved("")
