"""The configuration as the ConfigMaps have it now, wherever they are read from."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final

from ondol.api import objects, resources
from ondol.api.objects import Key, Object
from ondol.sdk import Controller, Manager, Result
from ondol.sdk.informer import Informer
from ondol.serverless.config import values
from ondol.serverless.config.values import NAMES, NAMESPACE, ServingConfig

Lookup = Callable[[str], Object | None]
_INVALID: Final = "InvalidConfiguration"


class LiveConfig:
    """Reads the maps by `lookup` whenever it is asked, and parses those that changed since.

    A map that cannot be read counts as it was when it could. `lookup` may be set later, when there is a
    server or a cache to ask; until then the base holds.
    """

    def __init__(self, base: ServingConfig, lookup: Lookup = lambda _: None) -> None:
        self.base = base
        self.lookup = lookup
        self._versions: tuple[str | None, ...] = ()
        self._good: dict[str, dict[str, str]] = {}
        self._current = base

    def __call__(self) -> ServingConfig:
        maps = [self.lookup(name) for name in NAMES]
        versions = tuple(objects.resource_version(each) if each is not None else None for each in maps)
        if versions != self._versions:
            self._read(maps)
            self._versions = versions
        return self._current

    def _read(self, maps: Iterable[Object | None]) -> None:
        for name, obj in zip(NAMES, maps, strict=True):
            if obj is None:
                self._good.pop(name, None)
                continue
            data = dict(obj.get("data") or {})
            try:
                values.parse(self.base, name, data)
            except ValueError:
                continue  # `ConfigReconciler` tells of it
            self._good[name] = data
        self._current = values.merged(self.base, self._good)


def informer(manager: Manager) -> Informer:
    """The informer of the namespace's ConfigMaps, shared by all who follow them."""
    return manager.informer(resources.CONFIG_MAP, namespace=NAMESPACE)


def of(manager: Manager, base: ServingConfig) -> LiveConfig:
    """The configuration in a process of controllers."""
    lister = informer(manager).lister
    return LiveConfig(base, lambda name: lister.get(Key(NAMESPACE, name)))


def follow(
    controller: Controller, manager: Manager, names: Iterable[str], keys: Callable[[], Iterable[Any]]
) -> None:
    """Reconcile all these objects when one of these maps changes."""
    followed = frozenset(names)

    def concerned(config_map: Object) -> list[Key]:
        return [objects.key(obj) for obj in keys()] if objects.name(config_map) in followed else []

    controller.watch(informer(manager), concerned)


class ConfigReconciler:
    """Tells, in an event, of a map that cannot be read: what it said before goes on to hold."""

    def __init__(self, manager: Manager, base: ServingConfig) -> None:
        self._manager = manager
        self._base = base
        self._maps = informer(manager)

    def controller(self) -> Controller:
        controller = Controller("knative-config", self.reconcile, concurrency=1)
        controller.watch(self._maps)
        return controller

    async def reconcile(self, key: Key) -> Result | None:
        obj = self._maps.lister.get(key)
        if obj is None or key.name not in NAMES:
            return None
        try:
            values.parse(self._base, key.name, obj.get("data") or {})
        except ValueError as error:
            self._manager.recorder.event(obj, "Warning", _INVALID, f"{error}; what held before goes on")
        return None
