"""The entries of `metadata.managedFields`: who owns which fields, in memory and on the wire.

`patch.apply` reads them into `Managers`, changes those, and writes them back; an entry whose set did
not change keeps its document, so that an unchanged object keeps its bytes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, NamedTuple, TypeAlias

from ondol.api.objects import Object
from ondol.api.patch import fieldset
from ondol.api.patch.fieldset import FieldSet

APPLY: Final = "Apply"
UPDATE: Final = "Update"
UPDATE_MANAGERS_MAX: Final = 10
ANCIENT: Final = "ancient-changes"


class ManagerId(NamedTuple):
    """What identifies an entry; an applier's has no API version, so that it keeps its entry under another."""

    name: str
    operation: str
    api_version: str
    subresource: str

    def __str__(self) -> str:
        """The manager as a conflict names it."""
        text = f'"{self.name}"'
        if self.subresource:
            text += f' with subresource "{self.subresource}"'
        return f"{text} using {self.api_version}" if self.operation == UPDATE else text


@dataclass(frozen=True, slots=True)
class Entry:
    """What one manager owns, and since when."""

    fields: FieldSet
    api_version: str
    time: str = ""
    document: Object | None = None
    """The wire form this entry was read from, as long as nothing of it changed."""

    def owning(self, fields: FieldSet) -> Entry:
        return self if fields is self.fields else replace(self, fields=fields, document=None)


Managers: TypeAlias = dict[ManagerId, Entry]


def identify(name: str, operation: str, api_version: str, subresource: str) -> ManagerId:
    version = "" if operation == APPLY else api_version
    return ManagerId(name or "unknown", operation, version, subresource)


def decode(documents: Iterable[Mapping[str, Any]], *, trusted: bool = False) -> Managers:
    """Read the entries of an object; `ValueError` if one is malformed.

    `trusted` entries were written by `encode` and are taken as they are.
    """
    managers: Managers = {}
    for index, document in enumerate(documents):
        if not trusted:
            _check(document, index)
        fields = document.get("fieldsV1") or {}
        api_version = document["apiVersion"]
        manager = identify(
            document.get("manager", ""), document["operation"], api_version, document.get("subresource", "")
        )
        managers[manager] = Entry(
            fields if trusted else fieldset.decode(fields),
            api_version,
            document.get("time") or "",
            dict(document) if not isinstance(document, dict) else document,
        )
    return managers


def _check(document: Mapping[str, Any], index: int) -> None:
    if document.get("operation") not in (APPLY, UPDATE):
        raise ValueError("operation must be `Apply` or `Update`")
    if not document.get("apiVersion"):
        raise ValueError("apiVersion must not be empty")
    if not document.get("fieldsType"):
        raise ValueError(f"missing fieldsType in managed fields entry {index}")
    if document["fieldsType"] != "FieldsV1":
        raise ValueError(f'invalid fieldsType "{document["fieldsType"]}" in managed fields entry {index}')


def encode(managers: Managers) -> list[Object]:
    """The wire form: appliers first, each group from the oldest to the newest."""
    ordered = sorted(managers.items(), key=_order)
    return [_document(manager, entry) for manager, entry in ordered]


def _order(item: tuple[ManagerId, Entry]) -> tuple[str, ...]:
    manager, entry = item
    return manager.operation, entry.time, manager.name, entry.api_version, manager.subresource


def _document(manager: ManagerId, entry: Entry) -> Object:
    if entry.document is not None:
        return entry.document
    document: Object = {
        "manager": manager.name,
        "operation": manager.operation,
        "apiVersion": entry.api_version,
        "time": entry.time,
        "fieldsType": "FieldsV1",
        "fieldsV1": fieldset.encode(entry.fields),
    }
    if not entry.time:
        del document["time"]
    if manager.subresource:
        document["subresource"] = manager.subresource
    return document


def capped(managers: Managers) -> Managers:
    """At most ten updaters: the oldest beyond that flow together, by API version."""
    updaters = [item for item in managers.items() if item[0].operation == UPDATE]
    surplus = len(updaters) - UPDATE_MANAGERS_MAX
    if surplus <= 0:
        return managers
    remaining = dict(managers)
    first: dict[str, ManagerId] = {}
    for manager, entry in sorted(updaters, key=lambda item: (item[1].time, item[0])):
        if surplus <= 0:
            break
        version = entry.api_version
        if version not in first:
            first[version] = manager
            continue
        bucket = identify(ANCIENT, UPDATE, version, "")
        earlier = remaining.pop(first[version], None) or remaining.get(bucket)
        del remaining[manager]
        first[version] = bucket
        merged = fieldset.union(entry.fields, earlier.fields if earlier else {})
        remaining[bucket] = Entry(merged, version, entry.time)
        surplus -= 1
    return remaining
