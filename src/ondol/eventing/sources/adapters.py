"""What every adapter in the process `events` does: it hears of its sources, and says that it serves them."""

from __future__ import annotations

import random
import uuid
from typing import Final, Protocol

from ondol.api import conditions, objects
from ondol.api.objects import Key, Object, Resource
from ondol.base import errors
from ondol.contracts import eventing
from ondol.eventing.exchange import Target
from ondol.eventing.sources import status as statuses
from ondol.eventing.sources.outbox import Outbox, Source
from ondol.eventing.verdicts import OK, Verdict
from ondol.sdk import Controller, Manager, Result, status

FIELD_MANAGER: Final = "ondol-events"


class NotYet(errors.OndolError):
    """A source is not served yet; to be asked for again after `again_s`."""

    def __init__(self, message: str, *, again_s: float) -> None:
        super().__init__(message)
        self.again_s = again_s


class Feed(Protocol):
    """What sends the events of one kind of source. Both are called again whenever the source changes."""

    async def serve(self, source: Object, target: Target, /) -> float | None:
        """Send what is due, and say after how many seconds to be called again.

        `NotYet` while it does not see yet what it is to tell of, `ValueError` if it never will.
        """
        ...

    def stop(self, key: Key) -> None:
        """The source is gone, or has no sink: send nothing more."""
        ...


class Adapter:
    """The sources of one kind, each served by the feed of its kind."""

    def __init__(self, manager: Manager, resource: Resource, feed: Feed, outbox: Outbox) -> None:
        self._clock = manager.clock
        self._resource = resource
        self._feed = feed
        self._outbox = outbox
        self._sources = manager.informer(resource)
        self._writer = status.Writer(
            manager.client, resource, field_manager=FIELD_MANAGER, conditions=(eventing.DEPLOYED,)
        )

    def controller(self) -> Controller:
        controller = Controller(f"events-{self._resource.plural}", self.reconcile)
        controller.watch(self._sources)
        return controller

    async def reconcile(self, key: Key) -> Result | None:
        source = self._sources.lister.get(key)
        if source is None or objects.is_deleting(source):
            self._feed.stop(key)
            self._outbox.forget((self._resource, key))
            return None
        verdict, again_s = await self._serve(key, source)
        await self._report(source, verdict)
        return Result(requeue_after_s=again_s)

    async def _serve(self, key: Key, source: Object) -> tuple[Verdict, float | None]:
        target = statuses.target(source)
        if target is None:
            self._feed.stop(key)
            return OK, None
        try:
            return OK, await self._feed.serve(source, target)
        except NotYet as error:
            return Verdict("Unknown", "DeploymentUnavailable", str(error)), error.again_s
        except ValueError as error:
            self._feed.stop(key)
            return Verdict("False", "Unusable", str(error)), None

    async def _report(self, source: Object, verdict: Verdict) -> None:
        listed = conditions.set(
            conditions.of(source),
            eventing.DEPLOYED,
            verdict.status,
            reason=verdict.reason,
            message=verdict.message,
            now=self._clock.now(),
        )
        await self._writer.write(source, {"conditions": listed})


def event_id(rng: random.Random) -> str:
    """A new id for an event."""
    return str(uuid.UUID(int=rng.getrandbits(128), version=4))


def source_of(resource: Resource, source: Object) -> Source:
    """As the outbox calls a source."""
    return resource, objects.key(source)
