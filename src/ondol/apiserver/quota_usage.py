"""`QuotaUsage`: what is used in namespaces that have quotas, by stored objects and by writes under way.

There is no second book: it is counted from the objects in the store, so it is right after a restart and after
deletes, whether or not the controller has reported yet. Namespaces without a quota cost one look.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final

from ondol.api import objects, quota, resources
from ondol.api.objects import Object
from ondol.api.quota import Use
from ondol.apiserver.reservations import Reservations
from ondol.apiserver.served import Served
from ondol.apiserver.state import State

_WEIGHED: Final = frozenset({resources.POD, resources.SERVICE, resources.PERSISTENT_VOLUME_CLAIM})
"""Kinds of which more is counted than how many there are."""
_PLACES_MAX: Final = 256
_NOTHING: Final = Use()


@dataclass(frozen=True, slots=True, eq=False)
class Claim:
    """What one write under way will add, once it is stored."""

    bucket: str
    key: str
    revision: int
    """Of the stored object that the write was decided on; 0 if it creates one."""
    namespace: str
    use: Use
    former: Use = _NOTHING


class QuotaUsage:
    """Counts for admission."""

    def __init__(self, state: State, reservations: Reservations) -> None:
        self._state = state
        self._reservations = reservations
        self._quotas = state.catalogue.of(resources.RESOURCE_QUOTA)
        self._uses: dict[tuple[str, str], dict[str, tuple[int, Use]]] = {}
        """By bucket and namespace, then by key: the revision that was looked at, and what it uses."""

    def quotas(self, namespace: str) -> Sequence[Object]:
        """The quotas of a namespace."""
        store, bucket = self._state.store, self._quotas.bucket
        if not store.count(bucket, self._quotas.prefix(namespace)):
            return ()
        return list(self._state.list_objects(resources.RESOURCE_QUOTA, namespace))

    def claim(self, served: Served, namespace: str, name: str, use: Use, former: Use = _NOTHING) -> Claim:
        """Of a write that is decided now."""
        key = served.key(namespace, name)
        return Claim(served.bucket, key, self._revision(served.bucket, key), namespace, use, former)

    def _revision(self, bucket: str, key: str) -> int:
        record = self._state.store.get(bucket, key)
        return record.revision if record is not None else 0

    def used(self, of: Object, served: Served, names: Collection[str], now: float) -> dict[str, int]:
        """What objects of a kind use of a quota under these names, those under way included."""
        namespace = objects.namespace(of)
        if served.resource in _WEIGHED:
            amounts = quota.total(of, self._stored(served, namespace, now), names)
        else:
            count = self._state.store.count(served.bucket, served.prefix(namespace))
            one = quota.of(served.resource, {}, now).amounts
            amounts = {name: one.get(name, 0) * count for name in names}
        for claim in self._reservations.of(Claim):
            if (claim.bucket, claim.namespace) != (served.bucket, namespace):
                continue
            # What is stored by now was counted above, whoever still waits for the answer.
            if self._revision(claim.bucket, claim.key) == claim.revision:
                _add(amounts, of, claim)
        return amounts

    def _stored(self, served: Served, namespace: str, now: float) -> list[Use]:
        place = (served.bucket, namespace)
        before, uses = self._uses.get(place, {}), {}
        for record in self._state.store.page(served.bucket, served.prefix(namespace)).records:
            entry = before.get(record.name)
            if entry is None or entry[0] != record.revision:
                obj = self._state.document(served, record)
                # Of an object under deletion it depends on the time, so that it is looked at each time.
                revision = 0 if objects.is_deleting(obj) else record.revision
                entry = (revision, quota.of(served.resource, obj, now))
            uses[record.name] = entry
        if len(self._uses) >= _PLACES_MAX:
            self._uses.clear()  # namespaces come and go; what is asked for again is looked at again
        self._uses[place] = uses
        return [use for _, use in uses.values()]


def _add(amounts: dict[str, int], of: Object, claim: Claim) -> None:
    for use, sign in ((claim.use, 1), (claim.former, -1)):
        if quota.is_about(of, use):
            for name in amounts:
                amounts[name] += sign * use.amounts.get(name, 0)
