"""The statuses of Channels, InMemoryChannels and Subscriptions, from what is observed. Pure.

Conditions, reasons and messages: knative/eventing pkg/apis/messaging/v1 and pkg/reconciler.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from ondol.api import conditions, objects
from ondol.api.objects import Object
from ondol.contracts import eventing
from ondol.eventing import addressing, verdicts, wellknown
from ondol.eventing.addressing import Surroundings
from ondol.eventing.destinations import NOWHERE, Address
from ondol.eventing.verdicts import Resolution, Verdict

Document: TypeAlias = Mapping[str, Any]

SERVICE_READY: Final = "ServiceReady"
ENDPOINTS_READY: Final = "EndpointsReady"
CHANNEL_SERVICE_READY: Final = "ChannelServiceReady"
BACKING_CHANNEL_READY: Final = "BackingChannelReady"
REFERENCES_RESOLVED: Final = "ReferencesResolved"
ADDED_TO_CHANNEL: Final = "AddedToChannel"
CHANNEL_READY: Final = "ChannelReady"

IN_MEMORY_CONDITIONS: Final = (
    SERVICE_READY,
    ENDPOINTS_READY,
    CHANNEL_SERVICE_READY,
    wellknown.ADDRESSABLE,
    wellknown.DEAD_LETTER_SINK_RESOLVED,
    wellknown.EVENT_POLICIES_READY,
)
CHANNEL_CONDITIONS: Final = (
    BACKING_CHANNEL_READY,
    wellknown.ADDRESSABLE,
    wellknown.DEAD_LETTER_SINK_RESOLVED,
    wellknown.EVENT_POLICIES_READY,
)
SUBSCRIPTION_CONDITIONS: Final = (
    REFERENCES_RESOLVED,
    ADDED_TO_CHANNEL,
    CHANNEL_READY,
    wellknown.OIDC_IDENTITY_CREATED,
)
NOT_MARKED_READY: Final = "SubscriptionNotMarkedReadyByChannel"


def in_memory_status(
    channel: Document, service: Verdict, dead_letter: Resolution, around: Surroundings
) -> Object:
    """The status of an InMemoryChannel; `service` is what became of the Service it is reached by."""
    own = {
        SERVICE_READY: verdicts.OK,
        ENDPOINTS_READY: verdicts.OK,
        CHANNEL_SERVICE_READY: service,
        wellknown.ADDRESSABLE: verdicts.OK
        if service.is_true
        else verdicts.failed("emptyHostname", "hostname is the empty string"),
        wellknown.DEAD_LETTER_SINK_RESOLVED: verdicts.dead_letter(
            dead_letter, "Unable to get the DeadLetterSink's URI"
        ),
        wellknown.EVENT_POLICIES_READY: addressing.policies_verdict(around),
    }
    namespace, name = objects.namespace(channel), objects.name(channel)
    url = eventing.service_url(eventing.channel_service(name), namespace=namespace)
    _, encrypted = eventing.service_urls(eventing.CHANNEL_DISPATCHER, namespace, name)
    address = addressing.fields(url, encrypted, eventing.IN_MEMORY_CHANNEL, channel, around.features)
    of_ready = (*own, *eventing.PLANE_CONDITIONS[eventing.IN_MEMORY_CHANNEL])
    return {
        "observedGeneration": objects.generation(channel),
        **(address if service.is_true else {"address": None, "addresses": None}),
        "policies": addressing.policy_references(around),
        **addressing.dead_letter_fields(dead_letter),
        "conditions": verdicts.with_ready(channel, own, of_ready=of_ready, now=around.now),
    }


def channel_status(
    channel: Document, backing: Document | None, problem: Verdict | None, around: Surroundings
) -> Object:
    """The status of a Channel: that of the channel it stands for; `problem` says why there is none."""
    backing = backing if problem is None else None
    status = objects.status(backing or {})
    address = status.get("address")
    dead_letter = addressing.dead_letter_address(status)
    own = {
        BACKING_CHANNEL_READY: problem or _backing_verdict(backing),
        wellknown.ADDRESSABLE: verdicts.OK
        if (address or {}).get("url")
        else verdicts.failed("EmptyHostname", "hostname is the empty string"),
        wellknown.DEAD_LETTER_SINK_RESOLVED: _dead_letter_of_backing(channel, dead_letter),
        wellknown.EVENT_POLICIES_READY: addressing.policies_verdict(around),
    }
    wants_dead_letters = addressing.dead_letter_sink(channel) is not None
    return {
        "observedGeneration": objects.generation(channel),
        "address": dict(address) if address else None,
        "addresses": [dict(each) for each in status.get("addresses") or ()] or None,
        "channel": backing_reference(channel) if backing is not None else None,
        "subscribers": [dict(each) for each in status.get("subscribers") or ()] or None,
        "policies": addressing.policy_references(around),
        **addressing.dead_letter_fields(dead_letter if wants_dead_letters else None),
        "conditions": verdicts.with_ready(channel, own, of_ready=CHANNEL_CONDITIONS, now=around.now),
    }


def backing_reference(channel: Document) -> Object:
    """What a Channel stands for: a channel of its template's kind, of its own name."""
    template = objects.spec(channel).get("channelTemplate") or {}
    return {
        "apiVersion": template.get("apiVersion"),
        "kind": template.get("kind"),
        "name": objects.name(channel),
        "namespace": objects.namespace(channel),
    }


def _backing_verdict(backing: Document | None) -> Verdict:
    absent = ("BackingChannelNotConfigured", "BackingChannel has not yet been reconciled.")
    return verdicts.of_object(backing, absent=absent, prefix="BackingChannel", kind="BackingChannel")


def _dead_letter_of_backing(channel: Document, dead_letter: Address | None) -> Verdict:
    if addressing.dead_letter_sink(channel) is None:
        return verdicts.DEAD_LETTER_NOT_CONFIGURED
    if dead_letter is None:
        reason = f"Backing Channel {objects.name(channel)} didn't set status.deadLetterSinkURI"
        return verdicts.failed(reason)
    return verdicts.OK


@dataclass(frozen=True, slots=True)
class Physical:
    """Where a Subscription's events go."""

    subscriber: Address = NOWHERE
    reply: Address = NOWHERE
    dead_letter: Address = NOWHERE

    def as_status(self) -> Object | None:
        fields = {
            **self.subscriber.as_status("subscriber"),
            **self.reply.as_status("reply"),
            **self.dead_letter.as_status("deadLetterSink"),
        }
        return {field: value for field, value in fields.items() if value} or None


@dataclass(frozen=True, slots=True)
class SubscriptionView:
    """What became of a Subscription, step by step; a step that was not reached leaves what was before."""

    references: Verdict
    physical: Physical | None = None
    added: Verdict | None = None
    channel: Verdict | None = None
    identity: Verdict = verdicts.OK
    service_account: str = ""


def subscription_status(subscription: Document, view: SubscriptionView, *, now: float) -> Object:
    """The status of a Subscription."""
    own = {
        REFERENCES_RESOLVED: view.references,
        ADDED_TO_CHANNEL: view.added or before(subscription, ADDED_TO_CHANNEL),
        CHANNEL_READY: view.channel or before(subscription, CHANNEL_READY),
        wellknown.OIDC_IDENTITY_CREATED: view.identity,
    }
    physical = view.physical.as_status() if view.physical is not None else None
    if view.physical is None:
        physical = objects.status(subscription).get("physicalSubscription")
    return {
        "observedGeneration": objects.generation(subscription),
        "physicalSubscription": dict(physical) if physical else None,
        "auth": {"serviceAccountName": view.service_account} if view.service_account else None,
        "conditions": verdicts.with_ready(subscription, own, of_ready=SUBSCRIPTION_CONDITIONS, now=now),
    }


def before(obj: Document, type_: str) -> Verdict:
    """The verdict that a condition has already."""
    condition = conditions.get(obj, type_)
    if condition is None:
        return verdicts.UNKNOWN
    return Verdict(
        condition["status"], str(condition.get("reason") or ""), str(condition.get("message") or "")
    )


def channel_verdict(subscription: Document, channel: Document) -> Verdict:
    """Whether the channel delivers to the subscription as it is now: the condition ChannelReady."""
    uid, generation = objects.uid(subscription), objects.generation(subscription)
    for entry in objects.status(channel).get("subscribers") or ():
        if entry.get("uid") == uid and entry.get("observedGeneration") == generation:
            return _of_subscriber(str(entry.get("ready") or "Unknown"))
    name, channel_name = objects.name(subscription), objects.name(channel)
    message = (
        f'Failed to get subscription status: subscription "{name}" not present in '
        f'channel "{channel_name}" subscriber\'s list'
    )
    return verdicts.unknown(NOT_MARKED_READY, message)


def _of_subscriber(ready: str) -> Verdict:
    if ready == conditions.TRUE:
        return verdicts.OK
    message = f"Subscription marked by Channel as {ready}"
    if ready == conditions.FALSE:
        return verdicts.failed(NOT_MARKED_READY, message)
    return verdicts.unknown(NOT_MARKED_READY, message)
