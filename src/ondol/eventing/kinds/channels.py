"""The definitions of Channel, InMemoryChannel and Subscription."""

from __future__ import annotations

from ondol.api.objects import Object
from ondol.contracts import eventing
from ondol.eventing.kinds import schema
from ondol.eventing.kinds.schema import described, record

_COLUMNS = (schema.URL, schema.AGE, *schema.READY)


def _channelable_status() -> dict[str, Object]:
    return {
        **schema.addressable(),
        **schema.policies(),
        **schema.dead_letter_status(),
        "deadLetterChannel": schema.reference("The channel of events that were given up."),
        "subscribers": schema.subscriber_statuses(),
    }


def channel() -> Object:
    spec = record(
        {
            "channelTemplate": schema.channel_template(),
            "delivery": schema.delivery("How its subscriptions deliver that say nothing of their own."),
            "subscribers": schema.subscribers(),
        }
    )
    backing = schema.reference("The channel that was made of the template.")
    version = schema.version(
        eventing.CHANNEL.version,
        "Takes in events at one address and passes them on to its subscriptions.",
        spec,
        schema.status({**_channelable_status(), "channel": backing}),
        _COLUMNS,
    )
    return schema.definition(
        eventing.CHANNEL,
        [version],
        category=("messaging", "channel"),
        short_names=("ch",),
        labels=schema.SUBSCRIBABLE,
    )


def in_memory_channel() -> Object:
    spec = record(
        {
            "delivery": schema.delivery("How its subscriptions deliver that say nothing of their own."),
            "subscribers": schema.subscribers(),
        }
    )
    version = schema.version(
        eventing.IN_MEMORY_CHANNEL.version,
        "The platform's own channel. Its events are kept on disk, whatever the name says.",
        spec,
        schema.status(_channelable_status()),
        _COLUMNS,
    )
    return schema.definition(
        eventing.IN_MEMORY_CHANNEL,
        [version],
        category=("messaging", "channel"),
        short_names=("imc",),
        labels=schema.SUBSCRIBABLE,
    )


def subscription() -> Object:
    spec = record(
        {
            "channel": schema.reference("The channel whose events are meant; it never changes."),
            "subscriber": schema.destination("Who gets the events."),
            "reply": schema.destination("Who gets the events that the subscriber answers with."),
            "delivery": schema.delivery("How events are delivered, in place of what the channel says."),
        }
    )
    resolved = record(
        {
            **schema.strings("subscriberUri", "subscriberCACerts", "subscriberAudience"),
            **schema.strings("replyUri", "replyCACerts", "replyAudience"),
            **schema.dead_letter_status(),
        }
    )
    status = schema.status(
        {"physicalSubscription": described(resolved, "The addresses it has come to."), "auth": schema.auth()}
    )
    version = schema.version(
        eventing.SUBSCRIPTION.version,
        "Sends the events of a channel to a subscriber, and its answers to a reply.",
        spec,
        status,
        [schema.AGE, *schema.READY],
    )
    return schema.definition(eventing.SUBSCRIPTION, [version], category="messaging", short_names=("sub",))
