"""The HTTP side of JobSinks, in the process `events`: an event is posted, and its Job is asked after."""

from __future__ import annotations

from typing import Final

from ondol.api import objects, resources
from ondol.api.objects import Key, Object
from ondol.base import errors
from ondol.client import Client
from ondol.contracts import eventing
from ondol.eventing import exchange
from ondol.eventing.cloudevents.event import Event
from ondol.eventing.exchange import Answer, Incoming
from ondol.eventing.sinks import jobs, posting
from ondol.eventing.sinks.jobs import Place
from ondol.sdk import Manager

_ALLOW: Final = (b"allow", b"POST, GET, OPTIONS")
_REFUSED: Final = (errors.Invalid, errors.Forbidden, errors.BadRequest)


class JobSinks:
    """Answers `POST /<namespace>/<name>` with 202 and a Location, which says what becomes of the Job.

    Whoever sends twice is answered the same and makes one Job. The Job is made before the Secret that it
    reads, which it owns; if the process ends in between, the next attempt makes what is missing.
    """

    def __init__(self, manager: Manager) -> None:
        self._client: Client = manager.client
        self._sinks = manager.informer(eventing.JOB_SINK)

    async def handle(self, incoming: Incoming) -> Answer:
        if incoming.method == "POST":
            return await self._post(incoming)
        if incoming.method == "GET":
            return await self._get(incoming)
        if incoming.method == "OPTIONS":
            return Answer(200, (_ALLOW,))
        return exchange.words(405, f"{incoming.method} is not served: POST an event", _ALLOW)

    async def _post(self, incoming: Incoming) -> Answer:
        taken = posting.posted(incoming, eventing.JOB_SINK, self._sinks.lister)
        if isinstance(taken, Answer):
            return taken
        key, sink, event = taken
        place = Place(key, event.source, event.id)
        try:
            job = await self._job(sink, place)
            await self._secret(sink, job, event)
        except _REFUSED as error:
            reason = error.message.encode("ascii", "replace").replace(b"\n", b" ")[:512]
            return exchange.words(500, f"no Job can be made: {error.message}", (b"reason", reason))
        return Answer(202, ((b"location", place.location().encode()),))

    async def _job(self, sink: Object, place: Place) -> Object:
        try:
            return await self._client.create(resources.JOB, jobs.job(sink, place.job_name))
        except errors.AlreadyExists:
            return await self._client.get(resources.JOB, place.job_name, place.sink.namespace)

    async def _secret(self, sink: Object, job: Object, event: Event) -> None:
        if objects.labels(job).get(jobs.NAME_LABEL) != objects.name(sink):
            raise errors.Forbidden(f"Job {objects.name(job)} is there already, and not of this JobSink")
        try:
            await self._client.create(resources.SECRET, jobs.secret(sink, job, event))
        except errors.AlreadyExists:
            return

    async def _get(self, incoming: Incoming) -> Answer:
        place = jobs.place_of(incoming.path)
        if place is None:
            return exchange.words(400, "the path is not one of a Location")
        if self._sinks.lister.get(place.sink) is None:
            return exchange.words(404, f"there is no JobSink {place.sink}")
        try:
            job = await self._client.get(resources.JOB, place.job_name, place.sink.namespace)
        except errors.NotFound:
            return exchange.words(404, "there is no Job of this event")
        status, reason = jobs.progress(job)
        if reason:
            return Answer(status, ((b"reason", reason.encode()),))
        return Answer(status, ((b"location", place.location().encode()),))


def sink_key(incoming: Incoming) -> Key | None:
    """The JobSink that a request is for, so that its policies can be looked at."""
    place = jobs.place_of(incoming.path)
    return place.sink if place is not None else jobs.sink_of(incoming.path)
