"""Which resources there are to list, watch and delete: discovered once, then kept by the CRDs.

The garbage collector and the namespace controller reach every kind with it, custom ones included,
without asking for discovery again, unless other API servers come, go or do not answer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import anyio

from ondol.api import conditions, kinds, objects, resources
from ondol.api.objects import Object, Resource
from ondol.contracts.cluster import AUTOMANAGED_LABEL
from ondol.sdk import Manager

_NEEDED: Final = frozenset({"list", "watch", "delete"})


class Catalogue:
    """The collectable resources by group and plural, one version each."""

    def __init__(self, manager: Manager) -> None:
        self._client = manager.client
        self._crds = manager.informer(resources.CUSTOM_RESOURCE_DEFINITION)
        self._crds.add_handler(self._crd_changed)
        self._elsewhere = manager.informer(resources.API_SERVICE, label_selector=f"!{AUTOMANAGED_LABEL}")
        self._elsewhere.add_handler(self._elsewhere_changed)
        self._discovered: dict[str, Resource] = {}
        self._custom_names: set[str] = set()
        self.undiscovered: tuple[str, ...] = ()
        """Group versions of other servers that did not say what they serve when they were asked last."""
        self._loaded = False
        self._loading = anyio.Lock()
        self._listeners: list[Callable[[], None]] = []

    def on_change(self, listener: Callable[[], None]) -> None:
        """Call `listener` whenever a custom kind comes or goes."""
        self._listeners.append(listener)

    def _crd_changed(self, old: Object | None, new: Object | None) -> None:
        for crd in (old, new):
            if crd is not None:
                self._custom_names.add(objects.name(crd))
        before, after = (custom_resource(crd) if crd else None for crd in (old, new))
        if before != after:
            for listener in self._listeners:
                listener()

    def _elsewhere_changed(self, old: Object | None, new: Object | None) -> None:
        """Another server has come or gone, answers again, or no more."""
        if [_is_answering(each) for each in (old, new)] != [True, True]:
            self._loaded = False
            for listener in self._listeners:
                listener()

    async def load(self) -> None:
        """Ask the server for its resources, the first time this is called and when they may be others."""
        async with self._loading:
            if self._loaded:
                return
            self._loaded = True  # what changes from here on makes it ask again
            try:
                described = await self._client.describe()
            except BaseException:
                self._loaded = False
                raise
            discovered: dict[str, Resource] = {}
            for each in described:
                if each.verbs >= _NEEDED:  # the best version comes first
                    discovered.setdefault(each.resource.group_resource, each.resource)
            self._discovered, self.undiscovered = discovered, self._client.undiscovered
            self._loaded = self._loaded and not self.undiscovered

    def is_elsewhere(self, resource: Resource) -> bool:
        """Whether another server answers for it."""
        version = resource.group, resource.version
        specs = map(objects.spec, self._elsewhere.lister.list())
        return any((spec.get("group"), spec.get("version")) == version for spec in specs)

    def resources(self) -> list[Resource]:
        """Every resource whose objects can be collected, the server's own first."""
        own = [each for name, each in self._discovered.items() if name not in self._custom_names]
        custom = (custom_resource(crd) for crd in self._crds.lister.list())
        return own + [each for each in custom if each is not None]

    def find(self, api_version: str, kind: str) -> Resource | None:
        """The resource of an owner reference; any version of its group will do."""
        group = api_version.rpartition("/")[0]
        return next((each for each in self.resources() if (each.group, each.kind) == (group, kind)), None)


def _is_answering(service: Object | None) -> bool:
    return service is not None and conditions.is_true(service, "Available")


def custom_resource(crd: Mapping[str, Any]) -> Resource | None:
    """The resource a CRD serves, in its storage version if that is served; none until established."""
    if not conditions.is_true(crd, "Established"):
        return None
    spec = objects.spec(crd)
    served = kinds.served_versions(spec)
    if not served:
        return None
    version = next((each for each in served if each.get("storage")), served[0])
    names = spec.get("names") or {}
    return Resource(
        str(spec["group"]),
        str(version["name"]),
        str(names["plural"]),
        str(names["kind"]),
        namespaced=spec.get("scope") == "Namespaced",
    )
