"""The events of PingSources and of timers. Pure."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

from ondol.api import objects
from ondol.api.objects import Object
from ondol.base.timestamps import rfc3339_micro
from ondol.eventing.cloudevents import event as events
from ondol.eventing.cloudevents.event import Event
from ondol.eventing.sources import overrides, wellknown


def ping_source(source: Mapping[str, Any]) -> str:
    """The attribute `source` of a PingSource's events."""
    return f"/apis/v1/namespaces/{objects.namespace(source)}/pingsources/{objects.name(source)}"


def ping_attributes(source: Mapping[str, Any]) -> list[Object]:
    """`status.ceAttributes`."""
    return [{"type": wellknown.PING_TYPE, "source": ping_source(source)}]


def ping(source: Mapping[str, Any], *, id: str, now: float) -> Event:
    """The event that a PingSource sends at this time."""
    spec = objects.spec(source)
    event = events.new(
        id=id,
        source=ping_source(source),
        type=wellknown.PING_TYPE,
        data=_ping_data(spec),
        time=rfc3339_micro(now),
    )
    if event.data is not None and spec.get("contentType"):
        event = event.with_attributes(datacontenttype=str(spec["contentType"]))
    return overrides.applied(event, spec)


def _ping_data(spec: Mapping[str, Any]) -> bytes | None:
    if encoded := spec.get("dataBase64"):
        return base64.b64decode(str(encoded))
    text = spec.get("data")
    return str(text).encode() if text else None


def timer_source(source: Mapping[str, Any]) -> str:
    """The attribute `source` of a timer's events."""
    place = f"namespaces/{objects.namespace(source)}/integrationsources/{objects.name(source)}"
    return f"/apis/v1alpha1/{place}"


def timer_attributes(source: Mapping[str, Any]) -> list[Object]:
    """`status.ceAttributes`."""
    return [{"type": wellknown.TIMER_TYPE, "source": timer_source(source)}]


def tick(source: Mapping[str, Any], *, id: str, now: float) -> Event:
    """The event that a timer sends at this time."""
    spec = objects.spec(source)
    timer = spec.get("timer") or {}
    event = events.new(
        id=id,
        source=timer_source(source),
        type=wellknown.TIMER_TYPE,
        data=str(timer.get("message") or "").encode() or None,
        time=rfc3339_micro(now),
        datacontenttype=str(timer.get("contentType") or "text/plain"),
    )
    return overrides.applied(event, spec)
