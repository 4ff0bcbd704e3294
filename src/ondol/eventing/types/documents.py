"""EventTypes as documents: the three versions of one, and the one of an event that passed. Pure."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import Any, Final, TypeAlias

from ondol.api import objects
from ondol.api.objects import Object, Resource
from ondol.contracts import eventing
from ondol.eventing.cloudevents.event import Event

Document: TypeAlias = Mapping[str, Any]

_ATTRIBUTES_VERSION: Final = eventing.EVENT_TYPE_V1BETA3.api_version
_SCHEMA_ATTRIBUTE: Final = "schemadata"
_NAME_MAX: Final = 253


def converted(obj: Document, api_version: str) -> Object:
    """An EventType as another version of it; v1beta1 and v1beta2 are alike.

    What v1beta3 has no place for (`schemaData`) or more of (other attributes) is not taken along.
    """
    before, after = str(obj.get("apiVersion")), {**obj, "apiVersion": api_version}
    if (before == _ATTRIBUTES_VERSION) == (api_version == _ATTRIBUTES_VERSION):
        return after
    spec = objects.spec(obj)
    after["spec"] = _flat(spec) if before == _ATTRIBUTES_VERSION else _with_attributes(spec)
    return after


def _with_attributes(spec: Document) -> Object:
    attributes: list[Object] = [
        {"name": "specversion", "required": True},
        {"name": "id", "required": True},
        _attribute("type", spec.get("type"), required=True),
        _attribute("source", spec.get("source"), required=True),
    ]
    if spec.get("schema"):
        attributes.append(_attribute(_SCHEMA_ATTRIBUTE, spec["schema"], required=False))
    reference = spec.get("reference")
    if not reference and spec.get("broker"):
        reference = {
            "apiVersion": eventing.BROKER.api_version,
            "kind": eventing.BROKER.kind,
            "name": spec["broker"],
        }
    return _common(spec, reference) | {"attributes": attributes}


def _attribute(name: str, value: Any, *, required: bool) -> Object:
    attribute: Object = {"name": name, "required": required}
    return attribute | ({"value": value} if value else {})


def _flat(spec: Document) -> Object:
    values = {each.get("name"): each.get("value") for each in spec.get("attributes") or ()}
    fields = {"type": "type", "source": "source", "schema": _SCHEMA_ATTRIBUTE}
    flat = {field: values[name] for field, name in fields.items() if values.get(name)}
    return _common(spec, spec.get("reference")) | flat


def _common(spec: Document, reference: Document | None) -> Object:
    fields = {"reference": dict(reference) if reference else None, "description": spec.get("description")}
    return {field: value for field, value in fields.items() if value}


def of_event(event: Event, resource: Resource, taker: Document) -> Object:
    """The EventType of an event that this object took in (with the flag `eventtype-auto-create`)."""
    namespace = objects.namespace(taker)
    reference = {
        "apiVersion": resource.api_version,
        "kind": resource.kind,
        "name": objects.name(taker),
        "namespace": namespace,
    }
    spec = {
        "type": event.type,
        "source": event.source,
        "schema": event.dataschema,
        "reference": reference,
        "description": "Event Type auto-created by controller",
    }
    return {
        "apiVersion": eventing.EVENT_TYPE.api_version,
        "kind": eventing.EVENT_TYPE.kind,
        "metadata": {
            "name": name_for(event, objects.name(taker), namespace),
            "namespace": namespace,
            "ownerReferences": [
                {
                    "apiVersion": resource.api_version,
                    "kind": resource.kind,
                    "name": objects.name(taker),
                    "uid": objects.uid(taker),
                }
            ],
        },
        "spec": {field: value for field, value in spec.items() if value},
    }


def name_for(event: Event, name: str, namespace: str) -> str:
    """One name for all events of this type and source that the object takes in."""
    text = f"{event.type}{event.source}{namespace}{name}"
    digest = hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()
    plain = re.sub(r"[^a-z0-9.-]+", "", f"et-{name}-{digest}".lower())
    return plain[-_NAME_MAX:].strip("-.")
