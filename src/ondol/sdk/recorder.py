"""Events: what happened to an object, told once and then counted.

Reconcilers call `EventRecorder.event`, which never waits; a task of the manager writes in the
background. Repeats raise a count, floods of similar messages are combined, and what exceeds the
bound is dropped and counted, so a failing controller cannot bury the API server.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, NamedTuple

from ondol.api import objects, resources
from ondol.api.objects import Object
from ondol.base import clock as time
from ondol.base import errors, log
from ondol.base.clock import Clock
from ondol.base.signal import Signal
from ondol.client import Client

EventType = Literal["Normal", "Warning"]

_REST_S: Final = 0.1
"""Nobody waits for an event; who does what it tells of should not wait behind it at the server."""
_PENDING_MAX: Final = 1000
_REMEMBERED_MAX: Final = 4096
_SIMILAR_MAX: Final = 10
_SIMILAR_WINDOW_S: Final = 600.0
_ATTEMPTS: Final = 5
_COMBINED: Final = "(combined from similar events): "
_MESSAGE_MAX: Final = 1024


class _Key(NamedTuple):
    uid: str
    namespace: str
    name: str
    kind: str
    component: str
    type: str
    reason: str
    message: str
    part: str
    host: str


@dataclass(slots=True)
class _Pending:
    involved: Object
    message: str
    first: float
    last: float
    count: int


@dataclass(slots=True)
class _Similar:
    since: float
    messages: set[str] = field(default_factory=set)


@dataclass(slots=True)
class Metrics:
    recorded: int = 0
    written: int = 0
    dropped: int = 0


class EventRecorder:
    """`run` writes until cancelled; `event` may be called before."""

    def __init__(self, client: Client, *, clock: Clock, component: str) -> None:
        self.metrics = Metrics()
        self._client = client
        self._clock = clock
        self._component = component
        self._named_ns = 0
        self._pending: OrderedDict[_Key, _Pending] = OrderedDict()
        self._written: OrderedDict[_Key, tuple[str, int]] = OrderedDict()
        self._similar: OrderedDict[_Key, _Similar] = OrderedDict()
        self._recorded = Signal()
        self._log = log.get("events")

    def event(
        self,
        obj: Mapping[str, Any],
        type: EventType,
        reason: str,
        message: str,
        *,
        component: str = "",
        part: str = "",
        host: str = "",
    ) -> None:
        """Record that something happened to `obj`.

        `part` is the field it happened to (`spec.containers{main}`), `host` the node that tells it.
        """
        now = self._clock.now()
        self.metrics.recorded += 1
        occurrence = _key(obj, component or self._component, type, reason, message[:_MESSAGE_MAX])
        key = self._combined(occurrence._replace(part=part, host=host), now)
        text = f"{_COMBINED}{message}"[:_MESSAGE_MAX] if key.message == _COMBINED else key.message
        pending = self._pending.get(key)
        if pending is not None:
            pending.last, pending.message = now, text
            pending.count += 1
            return
        if len(self._pending) >= _PENDING_MAX:
            self.metrics.dropped += 1
            return
        self._pending[key] = _Pending(_reference(obj, part), text, now, now, 1)
        self._recorded.set()

    @property
    def idle(self) -> bool:
        return not self._pending

    async def run(self) -> None:
        while True:
            await self._recorded.wait()
            self._recorded.clear()
            await self._clock.sleep(_REST_S)
            while self._pending:
                key, pending = self._pending.popitem(last=False)
                await self._deliver(key, pending)

    def _combined(self, key: _Key, now: float) -> _Key:
        """The key itself, or one shared by all messages of its reason once there are too many."""
        bare = key._replace(message="")
        similar = self._similar.get(bare)
        if similar is None or now - similar.since > _SIMILAR_WINDOW_S:
            similar = self._similar[bare] = _Similar(now)
            if len(self._similar) > _REMEMBERED_MAX:
                self._similar.popitem(last=False)
        if len(similar.messages) <= _SIMILAR_MAX:
            similar.messages.add(key.message)
        return key._replace(message=_COMBINED) if len(similar.messages) > _SIMILAR_MAX else key

    async def _deliver(self, key: _Key, pending: _Pending) -> None:
        for attempt in range(_ATTEMPTS):
            try:
                await self._write(key, pending)
            except (errors.Unavailable, errors.Timeout, errors.TooManyRequests):
                await self._clock.sleep(0.5 * 2**attempt)
            except errors.ApiError as error:
                self._log.debug("event_refused", reason=key.reason, error=error.message)
                break
            else:
                self.metrics.written += 1
                return
        self.metrics.dropped += 1

    async def _write(self, key: _Key, pending: _Pending) -> None:
        previous = self._written.get(key)
        if previous is not None:
            name, count = previous
            change = {
                "count": count + pending.count,
                "lastTimestamp": time.rfc3339(pending.last),
                "message": pending.message,
            }
            try:
                await self._client.patch(resources.EVENT, name, _home(pending.involved), patch=change)
            except errors.NotFound:
                del self._written[key]  # it outlived its hour: start a new one
            else:
                self._remember(key, name, count + pending.count)
                return
        document = self._document(key, pending)
        await self._client.create(resources.EVENT, document)
        self._remember(key, objects.name(document), pending.count)

    def _remember(self, key: _Key, name: str, count: int) -> None:
        self._written[key] = (name, count)
        self._written.move_to_end(key)
        if len(self._written) > _REMEMBERED_MAX:
            self._written.popitem(last=False)

    def _nanoseconds(self, time_s: float) -> int:
        """Another number each time, so that an object's events are listed in the order they came in.

        As client-go names them, which rounds the times inside an event to seconds like we do.
        """
        self._named_ns = max(self._named_ns + 1, int(time_s * 1e9))
        return self._named_ns

    def _document(self, key: _Key, pending: _Pending) -> Object:
        return {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {
                "name": f"{key.name[:230]}.{self._nanoseconds(pending.first):016x}",
                "namespace": _home(pending.involved),
            },
            "involvedObject": pending.involved,
            "type": key.type,
            "reason": key.reason,
            "message": pending.message,
            "source": {"component": key.component, **({"host": key.host} if key.host else {})},
            "reportingComponent": key.component,
            "reportingInstance": key.host,
            "firstTimestamp": time.rfc3339(pending.first),
            "lastTimestamp": time.rfc3339(pending.last),
            "count": pending.count,
        }


def _key(obj: Mapping[str, Any], component: str, type: str, reason: str, message: str) -> _Key:
    namespace, name, uid = objects.namespace(obj), objects.name(obj), objects.uid(obj)
    return _Key(uid, namespace, name, str(obj.get("kind") or ""), component, type, reason, message, "", "")


def _home(involved: Object) -> str:
    return str(involved.get("namespace") or "default")


def _reference(obj: Mapping[str, Any], part: str) -> Object:
    fields = {
        "apiVersion": obj.get("apiVersion"),
        "kind": obj.get("kind"),
        "name": objects.name(obj),
        "namespace": objects.namespace(obj),
        "uid": objects.uid(obj),
        "resourceVersion": objects.resource_version(obj),
        "fieldPath": part,
    }
    return {name: value for name, value in fields.items() if value}
