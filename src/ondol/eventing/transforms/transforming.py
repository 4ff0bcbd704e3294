"""The HTTP side of EventTransforms, in the process `events`: an event comes in, another one is the answer.

With a sink the new event is sent there, and what the sink answers is passed on, dropped or transformed as
`spec.reply` says.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, TypeAlias

from ondol.api import objects
from ondol.api.objects import Key, Object
from ondol.base import errors
from ondol.contracts import eventing
from ondol.eventing import exchange
from ondol.eventing.cloudevents import http, json_format
from ondol.eventing.cloudevents.errors import Malformed
from ondol.eventing.cloudevents.event import Event
from ondol.eventing.exchange import Answer, Incoming, Sender, Target
from ondol.eventing.sources import status as sources
from ondol.eventing.transforms.evaluator import Evaluator, Exceeded, Failed
from ondol.sdk import Manager

Document: TypeAlias = Mapping[str, Any]

_ALLOW: Final = (b"allow", b"POST, OPTIONS")
_JSON: Final = (b"content-type", b"application/json")
_PASSED_ON: Final = frozenset({b"content-type", b"retry-after", b"allow"})
_BY_SERVICE: Final = "transform-service"


class Transforms:
    """All EventTransforms of a process; each is called by the host of its own service."""

    def __init__(self, manager: Manager, evaluator: Evaluator, sender: Sender) -> None:
        self._evaluator = evaluator
        self._sender = sender
        self._transforms = manager.informer(eventing.EVENT_TRANSFORM)
        self._transforms.add_index(_BY_SERVICE, lambda transform: [str(service_key(transform))])

    def find(self, service: Key) -> Object | None:
        """The transform that has this service."""
        listed = self._transforms.lister.by_index(_BY_SERVICE, str(service))
        return next(iter(listed), None)

    async def handle(self, service: Key, incoming: Incoming) -> Answer:
        """Answer a request to the service of a transform."""
        transform = self.find(service)
        if transform is None or objects.is_deleting(transform):
            return exchange.words(404, f"there is no EventTransform at {service}")
        if incoming.method == "OPTIONS":
            return Answer(200, (_ALLOW,))
        if incoming.method != "POST":
            return exchange.words(405, f"{incoming.method} is not served: POST an event", _ALLOW)
        [event] = http.decode(incoming.headers, incoming.body)
        try:
            return await self._transform(transform, event)
        except Failed as error:
            return exchange.words(400, f"the expression fails for this event: {error}")
        except Exceeded as error:
            return exchange.words(503, str(error), (b"retry-after", b"1"))

    async def _transform(self, transform: Object, event: Event) -> Answer:
        spec = objects.spec(transform)
        owner = objects.namespace(transform)
        value = await self._evaluator.evaluate(expression(spec), json_format.encode(event), owner=owner)
        if not spec.get("sink"):
            return _reply(value)
        target = sources.target(transform)
        if target is None:
            return exchange.words(503, "the sink has no address yet", (b"retry-after", b"1"))
        if value is None:
            return Answer(202)
        return await self._send(spec, _event(value), target, owner)

    async def _send(self, spec: Document, event: Event, target: Target, owner: str) -> Answer:
        try:
            answer = await self._sender.send(event, target)
        except errors.ApiError as error:
            return exchange.words(502, f"the sink did not answer: {error.message}")
        if not answer.is_accepted:
            return _passed_on(answer)
        reply = spec.get("reply") or {}
        if reply.get("discard"):
            return Answer(200)
        if not reply.get("jsonata"):
            return _passed_on(answer)
        if not answer.body and http.mode(answer.headers) is None:
            return _passed_on(answer)
        return _reply(await self._evaluator.evaluate(expression(reply), _document(answer), owner=owner))


def service_key(transform: Document) -> Key:
    """The service of a transform."""
    return Key(objects.namespace(transform), eventing.transform_service(objects.name(transform)))


def expression(spec: Document) -> str:
    """The expression of a transformation; without one, the event is as it was."""
    return str((spec.get("jsonata") or {}).get("expression") or "$")


def _event(value: bytes) -> Event:
    try:
        return json_format.decode(value)
    except Malformed as error:
        raise Failed(f"its value is no CloudEvent: {error.message}") from error


def _reply(value: bytes | None) -> Answer:
    """The value as an answer: an event if it is one, any other JSON as that."""
    if value is None:
        return Answer(200)
    try:
        event = json_format.decode(value)
    except Malformed:
        return Answer(200, (_JSON,), value)
    headers, body = http.encode(event)
    return Answer(200, tuple(headers), body)


def _document(answer: Answer) -> bytes:
    """What a sink answered, as a document: an event, or whatever JSON it is."""
    if http.mode(answer.headers) is None:
        return answer.body
    try:
        [event] = http.decode(answer.headers, answer.body)
    except Malformed as error:
        raise Failed(f"the sink's answer is no CloudEvent: {error.message}") from error
    return json_format.encode(event)


def _passed_on(answer: Answer) -> Answer:
    """A sink's answer, without the headers that are about its connection."""
    headers = [
        (name, value)
        for name, value in answer.headers
        if name.lower() in _PASSED_ON or name.lower().startswith(b"ce-")
    ]
    return Answer(answer.status, tuple(headers), answer.body)
