"""A write as rules see it: the object, what it was, and what the ConfigMaps say at that time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from ondol.api import objects, resources
from ondol.api.objects import Object, Resource
from ondol.base.errors import Cause
from ondol.contracts import eventing
from ondol.eventing import wellknown
from ondol.eventing.configuration import Features, defaults, features

Document: TypeAlias = Mapping[str, Any]
Lookup: TypeAlias = Callable[[Resource, str, str], Object | None]


def _nothing(_resource: Resource, _namespace: str, _name: str) -> Object | None:
    return None


class Configuration:
    """Eventing's ConfigMaps as a server has them: `lookup` is set once there is one to ask.

    `controller` is the user as whom Eventing's controllers write; where it is not known, what is theirs
    alone to write is anybody's.
    """

    def __init__(self, lookup: Lookup = _nothing, *, controller: str = "") -> None:
        self.lookup = lookup
        self.controller = controller

    def _map(self, name: str) -> Object | None:
        return self.lookup(resources.CONFIG_MAP, eventing.NAMESPACE, name)

    @property
    def features(self) -> Features:
        return features.of(self._map(eventing.CONFIG_FEATURES))

    @property
    def brokers(self) -> defaults.BrokerDefaults:
        """The defaults of Brokers; none where the ConfigMap cannot be read."""
        try:
            return defaults.brokers(self._map(eventing.CONFIG_BROKER_DEFAULTS))
        except defaults.Unusable:
            return defaults.BrokerDefaults()

    @property
    def ping_defaults(self) -> Object | None:
        """The ConfigMap about PingSources."""
        return self._map(eventing.CONFIG_PING_DEFAULTS)

    def channel_template(self, namespace: str) -> Object | None:
        """The template of a channel that names none; None where the ConfigMap cannot be read."""
        try:
            return defaults.channel_template(self._map(eventing.CONFIG_CHANNEL_DEFAULTS), namespace)
        except defaults.Unusable:
            return None


@dataclass(frozen=True)
class Write:
    """An object as it is to be written, as it was (None on create), and what the ConfigMaps say."""

    new: Document
    old: Document | None
    configuration: Configuration
    user: str = ""

    @property
    def spec(self) -> Document:
        return objects.spec(self.new)

    @property
    def namespace(self) -> str:
        return objects.namespace(self.new)

    @property
    def features(self) -> Features:
        return self.configuration.features


Check: TypeAlias = Callable[[Write], Iterator[Cause]]
Fill: TypeAlias = Callable[[Object, Configuration], None]
Advise: TypeAlias = Callable[[Write], Iterator[str]]


def _fills_nothing(_new: Object, _configuration: Configuration) -> None:
    return


def _no_advice(_write: Write) -> Iterator[str]:
    return iter(())


@dataclass(frozen=True, slots=True)
class Rules:
    """The rules of one kind."""

    configuration: Configuration
    check: Check
    fill: Fill = _fills_nothing
    advise: Advise = _no_advice
    signs: bool = True
    """Whether who made the object and who changed it last is noted on it."""

    def default(self, new: Object, old: Document | None, user: str) -> None:
        """Fill in, in place, what Knative's webhook would; the object fits its schema."""
        self.fill(new, self.configuration)
        if self.signs and not objects.metadata(new).get("ownerReferences"):
            _sign(new, old, user)

    def judge(
        self, new: Document, old: Document | None, user: str = ""
    ) -> tuple[Sequence[Cause], Sequence[str]]:
        """Everything wrong with the object, and what of it has no effect; nothing of what is as it was."""
        if old is not None and _of_users(new) == _of_users(old):
            return (), ()
        write = Write(new, old, self.configuration, user)
        if problems := list(self.check(write)):
            return problems, ()
        before = set(self.advise(Write(old, None, self.configuration))) if old is not None else set()
        return (), [sentence for sentence in self.advise(write) if sentence not in before]


def _of_users(obj: Document) -> list[Any]:
    return [objects.spec(obj), obj.get("data"), objects.labels(obj), objects.annotations(obj)]


def _sign(new: Object, old: Document | None, user: str) -> None:
    """Who made the object and who changed its spec last; a write that leaves them out keeps them."""
    own = objects.annotations(new)
    if old is None:
        signed = {wellknown.CREATOR: user, wellknown.LAST_MODIFIER: user}
    else:
        before = objects.annotations(old)
        keys = (wellknown.CREATOR, wellknown.LAST_MODIFIER)
        signed = {key: before[key] for key in keys if key in before and key not in own}
        if objects.spec(new) != objects.spec(old):
            signed[wellknown.LAST_MODIFIER] = user
    if signed:
        new["metadata"]["annotations"] = {**own, **signed}
