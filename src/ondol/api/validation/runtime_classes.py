"""Rules of RuntimeClasses."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from ondol.api.schema import causes
from ondol.api.validation import containers, fields, metadata, pods
from ondol.base.errors import Cause

_IDENTITY: Final = ("key", "operator", "value", "effect")


def runtime_class(obj: Mapping[str, Any]) -> Iterator[Cause]:
    yield from fields.label("handler", obj.get("handler") or "")
    fixed = (obj.get("overhead") or {}).get("podFixed") or {}
    yield from containers.resources({"limits": fixed}, "overhead")
    scheduling, path = obj.get("scheduling") or {}, "scheduling.tolerations"
    yield from metadata.label_pairs(scheduling.get("nodeSelector") or {}, "scheduling.nodeSelector")
    tolerations = scheduling.get("tolerations") or ()
    yield from pods.tolerations(tolerations, path)
    seen = set()
    for index, toleration in enumerate(tolerations):
        identity = tuple(toleration.get(field) or "" for field in _IDENTITY)
        if identity in seen:
            yield causes.duplicate(f"{path}[{index}]", toleration)
        seen.add(identity)


def runtime_class_update(new: Mapping[str, Any], old: Mapping[str, Any]) -> Iterator[Cause]:
    yield from fields.same("handler", new.get("handler"), old.get("handler"))
