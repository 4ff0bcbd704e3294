"""`Core`: the parts every handler works with, built once."""

from __future__ import annotations

import random
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from typing import Final

from ondol.api.objects import Object, Resource
from ondol.apiserver import documents
from ondol.apiserver.auth.identity import User
from ondol.apiserver.auth.rbac import Authorizer
from ondol.apiserver.auth.tokens import Tokens
from ondol.apiserver.config import ApiConfig
from ondol.apiserver.documents import Frames, Views
from ondol.apiserver.heavy import Heavy
from ondol.apiserver.metrics import Metrics
from ondol.apiserver.openapi import Documents
from ondol.apiserver.ports import KindRules, NodeProxy
from ondol.apiserver.served import Catalogue, Served
from ondol.apiserver.strategies.base import Context
from ondol.apiserver.turns import Turns
from ondol.base.clock import Clock
from ondol.store import Record, Store

_SHARED_VIEWS_MAX: Final = 1024


class Core:
    """Store, kinds, clock, randomness and configuration."""

    def __init__(self, config: ApiConfig, store: Store, clock: Clock, rng: random.Random) -> None:
        self.config = config
        self.store = store
        self.clock = clock
        self.rng = rng
        self._audit_ids = random.Random(rng.getrandbits(64))  # noqa: S311 - no secret
        self.catalogue = Catalogue()
        self.openapi = Documents(self.catalogue, f"v1.{config.kubernetes_minor}.0")
        self.views = Views()
        self.frames = Frames()
        self.metrics = Metrics()
        self.turns = Turns()
        self.heavy = Heavy()
        self.node_proxy: NodeProxy | None = None
        self.rules: Mapping[str, KindRules] = {}
        """Rules of custom kinds, by group and resource."""
        self.tokens: Tokens | None = None
        self.rbac: Authorizer | None = None
        """The authorizer, if it is the one that decides by the RBAC objects kept here."""
        self.held_addresses: set[str | int] = set()
        """Service addresses and node ports of writes under way."""
        self.on_change: dict[str, list[Callable[[], None]]] = {}
        """Whom to tell when an object of a bucket was written."""
        self.ready = False
        """Whether the server has what it needs to answer."""

    def lookup(self, resource: Resource, namespace: str, name: str) -> Object | None:
        """The object as it is now, shared and read-only."""
        served = self.catalogue.of(resource)
        record = self.record(served, namespace, name)
        return self.document(served, record) if record is not None else None

    def document(self, served: Served, record: Record) -> Object:
        """A record as the served version, shared and read-only."""
        return self.views.of(record, served.conversion, served.shown)

    def reader(self, served: Served, count: int) -> Callable[[Record], Object]:
        """How to read so many records: few of them for others too, many without pushing those out."""
        if count <= _SHARED_VIEWS_MAX:
            return lambda record: self.document(served, record)
        return lambda record: documents.parse(served.shown(record.value))

    def list_objects(self, resource: Resource, namespace: str = "") -> Iterator[Object]:
        """All objects of a resource as they are now, shared and read-only."""
        served = self.catalogue.of(resource)
        for record in self.store.page(served.bucket, served.prefix(namespace)).records:
            yield self.document(served, record)

    def record(self, served: Served, namespace: str, name: str) -> Record | None:
        return self.store.get(served.bucket, served.key(namespace, name))

    def context(
        self, user: User, warn: Callable[[str], None], held: ExitStack, *, dry_run: bool = False
    ) -> Context:
        return Context(user, self.clock.now(), dry_run, self.lookup, warn, held)

    def changed(self, served: Served) -> None:
        """Told of each write, for what is derived from the objects of a kind."""
        for notice in self.on_change.get(served.bucket, ()):
            notice()

    def new_audit_id(self) -> str:
        """In the form of a uid, but not worth the system's randomness: it tells answers apart in the log."""
        digits = f"{self._audit_ids.getrandbits(128):032x}"
        return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-a{digits[17:20]}-{digits[20:]}"

    def new_uid(self) -> str:
        return str(uuid.UUID(int=self.rng.getrandbits(128), version=4))
