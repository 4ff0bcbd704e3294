"""What is posted to a sink, before anything is done with it."""

from __future__ import annotations

from typing import Final, NamedTuple

from ondol.api import objects
from ondol.api.objects import Key, Object, Resource
from ondol.eventing import exchange
from ondol.eventing.cloudevents import http
from ondol.eventing.cloudevents.event import Event
from ondol.eventing.exchange import Answer, Incoming
from ondol.eventing.sinks import jobs
from ondol.sdk.store import Lister

_ALLOW: Final = (b"allow", b"POST")


class Posted(NamedTuple):
    """An event, and the sink it is for."""

    key: Key
    sink: Object
    event: Event


def posted(incoming: Incoming, resource: Resource, sinks: Lister) -> Posted | Answer:
    """The event of `POST /<namespace>/<name>`, or why there is none; errors of decoding are raised."""
    if incoming.method != "POST":
        return exchange.words(405, f"{incoming.method} is not served: POST an event", _ALLOW)
    key = jobs.sink_of(incoming.path)
    if key is None:
        return exchange.words(400, f"the path for a {resource.kind} is /<namespace>/<name>")
    sink = sinks.get(key)
    if sink is None or objects.is_deleting(sink):
        return exchange.words(404, f"there is no {resource.kind} {key}")
    [event] = http.decode(incoming.headers, incoming.body)
    return Posted(key, sink, event)
