"""Eventing's ConfigMaps as controllers read them: from a cache, with word when one changes."""

from __future__ import annotations

from collections.abc import Callable

from ondol.api import objects, resources
from ondol.api.objects import Key, Object
from ondol.contracts import eventing
from ondol.eventing.configuration import features, trust
from ondol.eventing.configuration.features import Features
from ondol.sdk import Controller, Informer, Manager


class Live:
    """One for each manager; nothing here writes."""

    def __init__(self, manager: Manager, *, ca_certs: str = "") -> None:
        """`ca_certs` certify the data plane's addresses, where it serves TLS."""
        self._ca_certs = ca_certs
        self._maps = manager.informer(resources.CONFIG_MAP, namespace=eventing.NAMESPACE)
        self._seen: Object | None = None
        self._features = Features(ca_certs=ca_certs)
        self._bundles: tuple[tuple[str, ...], str] = ((), "")

    @property
    def config_maps(self) -> Informer:
        """The ConfigMaps of Eventing's namespace."""
        return self._maps

    @property
    def features(self) -> Features:
        """The flags as they are now."""
        current = self.config_map(eventing.CONFIG_FEATURES)
        if current is not self._seen:
            self._seen, self._features = current, features.of(current, self._ca_certs)
        return self._features

    @property
    def trusted(self) -> str:
        """The certificates (PEM) of the bundles of trust as they are now; empty without any."""
        bundles = [each for each in self._maps.lister.list() if trust.is_bundle(each)]
        versions = tuple(sorted(objects.resource_version(each) for each in bundles))
        if versions != self._bundles[0]:
            self._bundles = versions, trust.combined(bundles)
        return self._bundles[1]

    def config_map(self, name: str) -> Object | None:
        return self._maps.lister.get(Key(eventing.NAMESPACE, name))

    def watch(self, controller: Controller, informer: Informer, name: str = eventing.CONFIG_FEATURES) -> None:
        """Reconcile every object of this informer when the ConfigMap changes."""

        def keys(config_map: Object) -> list[Key]:
            if objects.name(config_map) != name:
                return []
            return [objects.key(obj) for obj in informer.lister.list()]

        controller.watch(self._maps, keys, predicate=_data_changed)

    def watch_trust(self, controller: Controller, informer: Informer) -> None:
        """Reconcile every object of this informer when a bundle of trust comes, changes or goes."""

        def keys(config_map: Object) -> list[Key]:
            if not trust.is_bundle(config_map):
                return []
            return [objects.key(obj) for obj in informer.lister.list()]

        controller.watch(self._maps, keys)

    def on_change(self, then: Callable[[], None]) -> None:
        """Call `then` whenever a ConfigMap's data changes."""
        self._maps.add_handler(lambda old, new: then() if _data_changed(old, new) else None)


def _data_changed(old: Object | None, new: Object | None) -> bool:
    return (old or {}).get("data") != (new or {}).get("data")
