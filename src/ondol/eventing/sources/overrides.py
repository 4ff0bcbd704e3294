"""`ceOverrides` of sources: extension attributes that are set on every event they send. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from ondol.api.schema import causes
from ondol.base.errors import Cause
from ondol.eventing.cloudevents import attributes as rules
from ondol.eventing.cloudevents.event import CORE, Event

_KEY: Final = re.compile(r"[A-Za-z0-9]+")
_PATH: Final = "spec.ceOverrides.extensions"


def extensions(spec: Mapping[str, Any]) -> dict[str, str]:
    """The attributes to set, by their names in lower case."""
    listed: Mapping[str, Any] = (spec.get("ceOverrides") or {}).get("extensions") or {}
    return {name.lower(): str(value) for name, value in listed.items()}


def applied(event: Event, spec: Mapping[str, Any]) -> Event:
    """The event with what the source overrides."""
    changes = extensions(spec)
    return event.with_attributes(changes) if changes else event


def as_variable(spec: Mapping[str, Any]) -> str:
    """The value of K_CE_OVERRIDES: JSON, or nothing where nothing is overridden."""
    overrides = spec.get("ceOverrides")
    return json.dumps(overrides, separators=(",", ":"), sort_keys=True) if overrides else ""


def problems(spec: Mapping[str, Any]) -> Iterator[Cause]:
    """What is wrong with the overrides, in Knative's words; core attributes cannot be overridden."""
    listed: Mapping[str, Any] = (spec.get("ceOverrides") or {}).get("extensions") or {}
    for name, value in sorted(listed.items()):
        path = f"{_PATH}[{name}]"
        if not _KEY.fullmatch(name):
            text = f"invalid key name {causes.quoted(name)}: keys are expected to be alphanumeric"
            yield Cause("FieldValueInvalid", text, path)
        elif name.lower() in CORE or name.lower() == rules.DATA:
            yield causes.forbidden(path, "an attribute of the specification is no extension")
        elif not isinstance(value, str):
            yield causes.type_invalid(path, value, "must be a string")
        elif reason := rules.value_problem(name, value):
            yield causes.invalid(path, value, reason)
