"""Lists and objects in the representations `Table` and `PartialObjectMetadata`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final, Literal

from ondol.api import objects
from ondol.api.objects import Object
from ondol.api.tables.columns import Layout

IncludeObject = Literal["Metadata", "None", "Object"]

_GROUP: Final = "meta.k8s.io"
_LIST_METADATA: Final = ("resourceVersion", "continue", "remainingItemCount")
_OVER: Final = {
    "Succeeded": {
        "type": "Completed",
        "status": "True",
        "reason": "Succeeded",
        "message": "The pod is done.",
    },
    "Failed": {"type": "Completed", "status": "True", "reason": "Failed", "message": "The pod has failed."},
}


def table(
    items: Iterable[Mapping[str, Any]],
    layout: Layout,
    *,
    now: float,
    metadata: Mapping[str, Any] | None = None,
    include_object: IncludeObject = "Metadata",
    version: str = "v1",
    headers: bool = True,
) -> Object:
    """Objects as a Table.

    `metadata` is that of the list, or of the object for a single get. In a watch only the first
    event needs `headers`.
    """
    list_metadata = metadata or {}
    return {
        "kind": "Table",
        "apiVersion": f"{_GROUP}/{version}",
        "metadata": {
            key: list_metadata[key] for key in _LIST_METADATA if list_metadata.get(key) not in (None, "")
        },
        "columnDefinitions": [column.definition() for column in layout.columns] if headers else [],
        "rows": [_row(item, layout, now, include_object, version) for item in items],
    }


def _row(
    item: Mapping[str, Any], layout: Layout, now: float, include_object: IncludeObject, version: str
) -> Object:
    row: Object = {"cells": list(layout.cells(item, now))}
    if over := _conditions(item):
        row["conditions"] = [over]
    match include_object:
        case "Object":
            row["object"] = item
        case "Metadata":
            row["object"] = partial(item, version=version)
        case "None":
            row["object"] = None
    return row


def _conditions(item: Mapping[str, Any]) -> Object | None:
    """Pods that are over are marked, so that clients may leave them out."""
    is_pod = item.get("kind") == "Pod" and item.get("apiVersion") == "v1"
    return _OVER.get(str(objects.status(item).get("phase"))) if is_pod else None


def partial(obj: Mapping[str, Any], *, version: str = "v1") -> Object:
    """The object's metadata alone."""
    return {
        "kind": "PartialObjectMetadata",
        "apiVersion": f"{_GROUP}/{version}",
        "metadata": objects.metadata(obj),
    }


def partial_list(
    items: Iterable[Mapping[str, Any]], metadata: Mapping[str, Any], *, version: str = "v1"
) -> Object:
    """A list's items as their metadata alone."""
    return {
        "kind": "PartialObjectMetadataList",
        "apiVersion": f"{_GROUP}/{version}",
        "metadata": dict(metadata),
        "items": [partial(item, version=version) for item in items],
    }
