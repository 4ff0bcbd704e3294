"""EventTypes of what comes in, made while the flag `eventtype-auto-create` is on."""

from __future__ import annotations

from collections import deque
from typing import Final

from ondol.base import errors, log
from ondol.base.signal import Signal
from ondol.contracts import eventing
from ondol.eventing.cloudevents.event import Event
from ondol.eventing.configuration import features
from ondol.eventing.configuration.live import Live
from ondol.eventing.plane.ingress import Entrance
from ondol.eventing.types import documents
from ondol.sdk import Manager

_SEEN_MAX: Final = 10_000
_WAITING_MAX: Final = 1000
_RESOURCES: Final = {each.kind: each for each in (eventing.BROKER, eventing.IN_MEMORY_CHANNEL)}


class EventTypes:
    """Each type and source of each broker and channel once; what there is already is left as it is."""

    def __init__(self, manager: Manager) -> None:
        self._live = Live(manager)
        self._client = manager.client
        self._informers = {kind: manager.informer(resource) for kind, resource in _RESOURCES.items()}
        self._seen: set[tuple[str, str, str]] = set()
        self._waiting: deque[tuple[Entrance, Event]] = deque(maxlen=_WAITING_MAX)
        self._signal = Signal()
        self._log = log.get("event-types")

    def observe(self, entrance: Entrance, event: Event) -> None:
        """An event came in."""
        if not self._live.features.is_on(features.EVENT_TYPE_AUTO_CREATE):
            return
        identity = (entrance.uid, event.type, event.source)
        if identity in self._seen:
            return
        if len(self._seen) >= _SEEN_MAX:
            self._seen.clear()
        self._seen.add(identity)
        self._waiting.append((entrance, event))
        self._signal.set()

    async def run(self) -> None:
        while True:
            await self._signal.wait()
            self._signal.clear()
            while self._waiting:
                await self._make(*self._waiting.popleft())

    async def _make(self, entrance: Entrance, event: Event) -> None:
        taker = self._informers[entrance.kind].lister.get(entrance.key)
        if taker is None:
            return
        document = documents.of_event(event, _RESOURCES[entrance.kind], taker)
        try:
            await self._client.create(eventing.EVENT_TYPE, document)
        except errors.AlreadyExists:
            return
        except errors.ApiError as error:
            self._seen.discard((entrance.uid, event.type, event.source))
            self._log.warning("event_type_not_made", type=event.type, error=error.message)
