"""A route: one consumer of a stream, and what becomes of each of its events. Values, made from objects."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from ondol.api.objects import Key
from ondol.eventing.delivery.policy import Policy
from ondol.eventing.exchange import Target
from ondol.eventing.filters import Predicate

WINDOW: Final = 128
"""Events of one consumer that are in hand, and so delivered at once at most."""


@dataclass(frozen=True, slots=True)
class Source:
    """Whose consumer it is, for metrics, traces and messages: a Trigger's or a Subscription's."""

    kind: str
    namespace: str
    name: str
    parent: str
    """The Broker's or Channel's name."""


@dataclass(frozen=True, slots=True)
class Route:
    """`reply_stream` is the stream of a broker that replies go back to; else they go to `reply`, if at all.

    Without a `subscriber` nothing is delivered: events wait.
    """

    stream: str
    consumer: str
    source: Source
    predicate: Predicate = field(compare=False)
    topics: tuple[str, ...] = ()
    filter_text: str = ""
    """What the predicate was made from, so that routes can be compared."""
    subscriber: Target | None = None
    reply: Target | None = None
    reply_stream: str = ""
    dead_letter_sink: Target | None = None
    dead_stream: str = ""
    policy: Policy = field(default_factory=Policy)
    is_ordered: bool = False
    is_strict: bool = False
    """Whether a successful answer with a body that is no event counts as a failure, as a Trigger's does."""
    window: int = WINDOW
    service_account: Key | None = None
    """As whom replies go back to a broker, where policies are asked about them."""
