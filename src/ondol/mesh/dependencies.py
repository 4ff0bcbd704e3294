"""The objects that a rule's verdict depends on: all that have a name it mentions (`changes.names`).

A verdict looks objects up by the names in the rule, as written or completed. So it stays valid for as long
as the same objects have these names, and the Gateways and DestinationRules, whose hosts may be wildcards,
are the same.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import Any

from ondol.mesh.model.kube import Service
from ondol.mesh.translate.world import Translation, World


class Dependencies:
    """A world and what was made of it, by the full names of hosts."""

    def __init__(self, world: World, translation: Translation) -> None:
        self.world = world
        self.translation = translation
        self._parts: dict[str, tuple[Any, ...]] = {}
        for service in translation.registry.everything():
            self._parts[service.host] = (*self._parts.get(service.host, ()), *self._behind(service))
        self._ids = {host: tuple(map(id, parts)) for host, parts in self._parts.items()}
        self._signatures: dict[tuple[str, ...], Hashable] = {}

    @property
    def cluster_domain(self) -> str:
        return self.translation.registry.cluster_domain

    def _behind(self, service: Service) -> tuple[Any, ...]:
        """A service, its endpoints and, where subsets may choose among them, their pods' labels."""
        registry = self.translation.registry
        views = registry.slices.get(service.key, ())
        if not self.world.destination_rules:
            return (service, *views)
        pods = sorted(registry.pods_behind(service.key))
        return (service, *views, *(registry.labels.get(pod) for pod in pods))

    def signature(self, names: tuple[str, ...]) -> Hashable:
        """Equal as long as the same stands under these names; it holds ids, of `parts`."""
        signature = self._signatures.get(names)
        if signature is None:
            at = self.translation.rules.at
            parts = [(self._ids.get(name), *(rule.origin for rule in at(name))) for name in names]
            signature = self._signatures[names] = tuple(parts)
        return signature

    def parts(self, names: Iterable[str]) -> list[Any]:
        """What must stay alive as long as a `signature` is in use."""
        return [self._parts.get(name) for name in names]
