"""Reconciles Knative Services: a Configuration and a Route, and what they say."""

from __future__ import annotations

from ondol.api import objects
from ondol.api.objects import Key
from ondol.contracts import serving
from ondol.sdk import Controller, Manager, Result
from ondol.serverless.serving import resources, status
from ondol.serverless.serving.children import AGAIN_S, ChildProblem, Children
from ondol.serverless.serving.writing import write_status


class ServiceReconciler:
    """Level-based: reads the listers, applies two children, writes one status."""

    def __init__(self, manager: Manager) -> None:
        self._manager = manager
        self._children = Children(manager.client)
        self._services = manager.informer(serving.SERVICE)
        self._configurations = manager.informer(serving.CONFIGURATION)
        self._routes = manager.informer(serving.ROUTE)

    def controller(self) -> Controller:
        controller = Controller("knative-service", self.reconcile)
        controller.watch(self._services)
        controller.watch(self._configurations, owner_key)
        controller.watch(self._routes, owner_key)
        return controller

    async def reconcile(self, key: Key) -> Result | None:
        service = self._services.lister.get(key)
        if service is None:
            self._children.forget(serving.CONFIGURATION, key)
            self._children.forget(serving.ROUTE, key)
            return None
        if objects.is_deleting(service):
            return None
        configuration, route = self._configurations.lister.get(key), self._routes.lister.get(key)
        problem = None
        try:
            wish = resources.configuration(service)
            configuration = await self._children.apply(serving.CONFIGURATION, wish, configuration)
            route = await self._children.apply(serving.ROUTE, resources.route(service), route)
        except ChildProblem as error:
            problem = status.Verdict("False", error.reason, str(error))
        now = self._manager.clock.now()
        wanted = status.service(service, configuration, route, problem=problem, now=now)
        await write_status(self._manager, serving.SERVICE, service, wanted)
        return Result(AGAIN_S) if problem is not None else None


def owner_key(obj: objects.Object) -> list[Key]:
    """The key of the Serving object that controls this one."""
    owner = objects.controller_of(obj)
    if owner is None or owner.get("apiVersion") != resources.API_VERSION:
        return []
    return [Key(objects.namespace(obj), str(owner["name"]))]


def owner_uid(obj: objects.Object) -> list[str]:
    """For an index of children by their controller."""
    owner = objects.controller_of(obj)
    return [str(owner["uid"])] if owner is not None else []
