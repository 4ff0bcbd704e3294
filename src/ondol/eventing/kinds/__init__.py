"""The kinds of Eventing: their definitions, and the rules the API server holds them to."""

from __future__ import annotations

from ondol.api.objects import Object
from ondol.eventing.kinds import (
    brokers,
    channels,
    flows,
    journal,
    kafka,
    policies,
    request_replies,
    sinks,
    sources,
    transforms,
    types,
)


def definitions() -> list[Object]:
    """The CustomResourceDefinitions of Eventing, ready to be applied."""
    return [
        brokers.broker(),
        brokers.trigger(),
        channels.channel(),
        channels.in_memory_channel(),
        channels.subscription(),
        flows.sequence(),
        flows.parallel(),
        types.event_type(),
        policies.event_policy(),
        request_replies.request_reply(),
        *sources.definitions(),
        *sinks.definitions(),
        *kafka.definitions(),
        *transforms.definitions(),
        journal.dead_letter(),
        journal.replay(),
    ]
