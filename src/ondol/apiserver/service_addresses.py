"""`ServiceAddresses`: which cluster IPs and node ports are taken, by stored Services and by writes under way.

There is no second book: the index is derived from the Services in the store and follows their changes, so it
is right after a restart, and a write that loses to another one leaves nothing in it.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from ondol.api import resources
from ondol.apiserver.reservations import Reservations
from ondol.apiserver.state import State
from ondol.store import Record


class _Port(msgspec.Struct):
    nodePort: int = 0  # noqa: N815 - as in the document


class _Spec(msgspec.Struct):
    clusterIP: str = ""  # noqa: N815 - likewise
    ports: list[_Port] | None = None
    healthCheckNodePort: int = 0  # noqa: N815 - likewise


class _Service(msgspec.Struct):
    """Of a Service, what is given out."""

    spec: _Spec


_decode: Final = msgspec.json.Decoder(_Service).decode


class ServiceAddresses:
    """Cluster IPs (texts) and node ports (numbers), each with the Services that have it."""

    def __init__(self, state: State, reservations: Reservations) -> None:
        self._state = state
        self._reservations = reservations
        self._changes = state.changes(resources.SERVICE)
        self._values: dict[str, tuple[str | int, ...]] = {}
        """By key of the Service."""
        self._holders: dict[Any, set[str]] = {}
        """Keys of Services, by value."""
        self._load()

    def is_taken(self, value: str | int, besides: str) -> bool:
        """Whether anybody has a value, or is about to, other than the Service of a key."""
        self._follow()
        holders = self._holders.get(value)
        return (holders is not None and not holders <= {besides}) or value in self._reservations

    def _follow(self) -> None:
        """Take over what was written since the last look."""
        changes = self._changes.take()
        if changes is None:
            self._load()
            return
        for change in changes:
            self._forget(change.record.name)
            if not change.deleted:
                self._add(change.record)

    def _load(self) -> None:
        self._values.clear()
        self._holders.clear()
        for record in self._state.records(resources.SERVICE):
            self._add(record)

    def _add(self, record: Record) -> None:
        spec = _decode(record.value).spec
        listed: tuple[str | int, ...] = (
            spec.clusterIP,
            spec.healthCheckNodePort,
            *(port.nodePort for port in spec.ports or ()),
        )
        values = tuple(value for value in listed if value)
        self._values[record.name] = values
        for value in values:
            self._holders.setdefault(value, set()).add(record.name)

    def _forget(self, key: str) -> None:
        for value in set(self._values.pop(key, ())):
            holders = self._holders[value]
            holders.discard(key)
            if not holders:
                del self._holders[value]
