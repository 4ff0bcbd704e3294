"""Names for the pods of DaemonSets: random, but kept until the pod is seen.

The answer to a create may be lost. Tried again under the same name it makes no second pod on the node, which
would have to be taken away again.
"""

from __future__ import annotations

import random
from typing import NamedTuple

from ondol.api import objects
from ondol.api.objects import Key, Object
from ondol.base import names
from ondol.sdk import Informer


class _Place(NamedTuple):
    uid: str
    node: str
    hashed: str


class Naming:
    """The names that were given and not seen yet."""

    def __init__(self, pods: Informer, rng: random.Random) -> None:
        self._pods = pods
        self._rng = rng
        self._unseen: dict[_Place, Key] = {}

    def name(self, daemon_set: Object, node: str, hashed: str) -> str:
        """The name of the next pod there."""
        place = _Place(objects.uid(daemon_set), node, hashed)
        key = self._unseen.get(place)
        if key is None:
            name = names.generate(f"{objects.name(daemon_set)}-", self._rng)
            key = self._unseen[place] = Key(objects.namespace(daemon_set), name)
        return key.name

    def settle(self, uid: str) -> None:
        """Forget the names of pods of this DaemonSet that are seen by now."""
        self._unseen = {
            place: key
            for place, key in self._unseen.items()
            if place.uid != uid or self._pods.lister.get(key) is None
        }

    def forget(self, uid: str) -> None:
        """The DaemonSet is gone."""
        self._unseen = {place: key for place, key in self._unseen.items() if place.uid != uid}
