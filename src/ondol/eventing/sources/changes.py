"""The events of ApiServerSources: one for each change of an object. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal, TypeAlias

import msgspec

from ondol.api import objects
from ondol.api.objects import Object, Resource
from ondol.base.timestamps import rfc3339_micro
from ondol.eventing.cloudevents import event as events
from ondol.eventing.cloudevents.event import Event
from ondol.eventing.sources import overrides, wellknown

Document: TypeAlias = Mapping[str, Any]
Change: TypeAlias = Literal["add", "update", "delete"]

API_SERVER: Final = "https://kubernetes.default.svc"
"""The attribute `source`: the API server, as pods call it."""


def attributes(source: Document) -> list[Object]:
    """`status.ceAttributes`."""
    return [{"type": type_, "source": API_SERVER} for type_ in _types(source).values()]


def change(old: Document | None, new: Document | None) -> Change:
    """What happened to an object."""
    if new is None:
        return "delete"
    return "add" if old is None else "update"


def is_owned(source: Document, obj: Document) -> bool:
    """Whether the object's controller is of the kind that the source asks for, if it asks."""
    owner = objects.spec(source).get("owner")
    if owner is None:
        return True
    controller = objects.controller_of(obj)
    return controller is not None and all(
        not owner.get(field) or owner[field] == controller.get(field) for field in ("apiVersion", "kind")
    )


def event_of(
    source: Document, resource: Resource, kind: Change, obj: Document, *, id: str, now: float
) -> Event:
    """The event of one change."""
    name, namespace = objects.name(obj), objects.namespace(obj)
    extensions = {
        "kind": resource.kind,
        "apiversion": resource.api_version,
        "name": name,
        "namespace": namespace,
    }
    event = events.new(
        id=id,
        source=API_SERVER,
        type=_types(source)[kind],
        data=msgspec.json.encode(_payload(source, resource, obj)),
        subject=f"/apis/{resource.api_version}/namespaces/{namespace}/{resource.plural}/{name}",
        time=rfc3339_micro(now),
        datacontenttype="application/json",
        **{key: value for key, value in extensions.items() if value},
    )
    return overrides.applied(event, objects.spec(source))


def _types(source: Document) -> dict[str, str]:
    if objects.spec(source).get("mode") == wellknown.RESOURCE_MODE:
        return wellknown.RESOURCE_TYPES
    return wellknown.REFERENCE_TYPES


def _payload(source: Document, resource: Resource, obj: Document) -> Document:
    if objects.spec(source).get("mode") == wellknown.RESOURCE_MODE:
        return obj
    reference = {
        "kind": resource.kind,
        "namespace": objects.namespace(obj),
        "name": objects.name(obj),
        "apiVersion": resource.api_version,
    }
    return {field: value for field, value in reference.items() if value}
