"""The way out of sources, sinks and transforms: the plane's own."""

from __future__ import annotations

from ondol.eventing.cloudevents.event import Event
from ondol.eventing.exchange import Answer, Target
from ondol.eventing.plane.sending import HttpSender


class Outgoing:
    """Implements `exchange.Sender`."""

    def __init__(self, sender: HttpSender) -> None:
        self._sender = sender

    async def send(self, event: Event, target: Target) -> Answer:
        """Post the event; `Unavailable` or `Timeout` if nobody answers."""
        answer = await self._sender.send(target, event, ())
        return Answer(answer.status, tuple(answer.headers), answer.body)
