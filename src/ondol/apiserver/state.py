"""`State`: the objects as they are now, read from the store by kind and shared as parsed documents.

What decides about requests (tokens, access, admission) reads here; writes go by `writing`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Final

from ondol.api.objects import Object, Resource
from ondol.apiserver import documents
from ondol.apiserver.documents import Views
from ondol.apiserver.served import Catalogue, Served
from ondol.base import errors
from ondol.store import Event, Record, Store

_SHARED_VIEWS_MAX: Final = 1024


class State:
    """The current objects of every kind that is served."""

    def __init__(self, store: Store, catalogue: Catalogue) -> None:
        self.store = store
        self.catalogue = catalogue
        self._views = Views()

    def record(self, served: Served, namespace: str, name: str) -> Record | None:
        """The stored bytes of an object, with their revision."""
        return self.store.get(served.bucket, served.key(namespace, name))

    def lookup(self, resource: Resource, namespace: str, name: str) -> Object | None:
        """The object as it is now, shared and read-only."""
        served = self.catalogue.of(resource)
        record = self.record(served, namespace, name)
        return self.document(served, record) if record is not None else None

    def document(self, served: Served, record: Record) -> Object:
        """A record as the served version, shared and read-only."""
        return self._views.of(record, served.conversion, served.as_served)

    def reader(self, served: Served, count: int) -> Callable[[Record], Object]:
        """How to read so many records: few of them for others too, many without pushing those out."""
        if count <= _SHARED_VIEWS_MAX:
            return lambda record: self.document(served, record)
        return lambda record: documents.parse(served.as_served(record.value))

    def records(self, resource: Resource, namespace: str = "") -> Iterable[Record]:
        """The stored bytes of all objects of a resource, in order of namespace and name."""
        served = self.catalogue.of(resource)
        return self.store.page(served.bucket, served.prefix(namespace)).records

    def list_objects(self, resource: Resource, namespace: str = "") -> Iterator[Object]:
        """All objects of a resource as they are now, shared and read-only."""
        served = self.catalogue.of(resource)
        for record in self.records(resource, namespace):
            yield self.document(served, record)

    def changes(self, resource: Resource) -> Changes:
        """Follows a resource, for what is derived from all of its objects."""
        return Changes(self.store, self.catalogue.of(resource).bucket)


class Changes:
    """What was written to one resource, asked for whenever it is needed.

    Nobody calls back and nothing is queued: it is a cursor into the history the store keeps anyway. So it
    sees every write that readers see, in the order they were made: also one whose request ended before it.
    """

    def __init__(self, store: Store, bucket: str) -> None:
        self._store = store
        self._bucket = bucket
        self._cursor = store.watch(bucket, after=store.revision)

    def take(self) -> list[Event] | None:
        """The changes since the last call, oldest first; None if some are forgotten: read everything anew."""
        try:
            return self._cursor.take()
        except errors.Expired:
            self._cursor = self._store.watch(self._bucket, after=self._store.revision)
            return None
