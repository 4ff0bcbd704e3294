"""The definitions of Broker and Trigger."""

from __future__ import annotations

from ondol.api.objects import Object
from ondol.contracts import eventing
from ondol.eventing.kinds import schema
from ondol.eventing.kinds.schema import ANYTHING, STRING, described, record


def broker() -> Object:
    spec = record(
        {
            "config": schema.reference("Settings of the broker's implementation; it never changes."),
            "delivery": schema.delivery("How its triggers deliver that say nothing of their own."),
        }
    )
    status = schema.status({**schema.addressable(), **schema.policies(), **schema.dead_letter_status()})
    version = schema.version(
        eventing.BROKER.version,
        "Takes in events at one address and passes them on to its triggers.",
        spec,
        status,
        [
            schema.URL,
            schema.AGE,
            *schema.READY,
            schema.column("Class", r".metadata.annotations.eventing\.knative\.dev/broker\.class", priority=1),
        ],
    )
    return schema.definition(eventing.BROKER, [version], category="eventing", labels=schema.ADDRESSABLE)


def trigger() -> Object:
    attributes = described(ANYTHING, "Attributes with their values; an empty value means any.")
    spec = record(
        {
            "broker": described(STRING, "The broker whose events are meant; it never changes."),
            "brokerRef": schema.reference("The broker as a reference, in place of its name."),
            "filter": described(record({"attributes": attributes}), "What an event must be to be sent on."),
            "filters": schema.filters(),
            "subscriber": schema.destination("Who gets the events."),
            "delivery": schema.delivery("How events are delivered, in place of what the broker says."),
        }
    )
    status = schema.status(
        {
            **schema.strings("subscriberUri", "subscriberCACerts", "subscriberAudience"),
            **schema.dead_letter_status(),
            "auth": schema.auth(),
        }
    )
    version = schema.version(
        eventing.TRIGGER.version,
        "Sends the events of a broker that pass its filters to a subscriber.",
        spec,
        status,
        [
            schema.column("Broker", ".spec.broker"),
            schema.column("Subscriber_URI", ".status.subscriberUri"),
            schema.AGE,
            *schema.READY,
        ],
    )
    return schema.definition(eventing.TRIGGER, [version], category="eventing")
