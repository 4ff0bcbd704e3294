"""Reconciles aggregated cluster roles whenever a role they may select changes."""

from __future__ import annotations

from collections.abc import Iterable

from ondol.api import objects, resources
from ondol.api.objects import Key, Object
from ondol.controllers.aggregation.rules import aggregated_rules
from ondol.sdk import Controller, Manager, Result


def add_to(manager: Manager) -> None:
    manager.add(Reconciler(manager).controller())


class Reconciler:
    def __init__(self, manager: Manager) -> None:
        self._client = manager.client
        self._roles = manager.informer(resources.CLUSTER_ROLE)

    def controller(self) -> Controller:
        controller = Controller("clusterrole-aggregation", self.reconcile, concurrency=1)
        controller.watch(self._roles, self._aggregated)
        return controller

    def _aggregated(self, _role: Object) -> Iterable[Key]:
        """All aggregated roles: there are few, and looking costs nothing."""
        return [objects.key(each) for each in self._roles.lister.list() if each.get("aggregationRule")]

    async def reconcile(self, key: Key) -> Result | None:
        role = self._roles.lister.get(key)
        if role is None or not role.get("aggregationRule") or objects.is_deleting(role):
            return None
        desired = aggregated_rules(role, self._roles.lister.list())
        if desired != (role.get("rules") or []):
            metadata = {"uid": objects.uid(role), "resourceVersion": objects.resource_version(role)}
            patch = {"metadata": metadata, "rules": desired}
            await self._client.patch(resources.CLUSTER_ROLE, key.name, patch=patch)
        return None
