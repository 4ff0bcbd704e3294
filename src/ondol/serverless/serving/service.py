"""Reconciles Knative Services: a Configuration and a Route, and their readiness."""

from __future__ import annotations

from ondol.api import objects
from ondol.api.objects import Key
from ondol.contracts import serving
from ondol.sdk import Children, Controller, Manager, Result
from ondol.serverless.serving import children, documents, verdicts
from ondol.serverless.serving.children import FIELD_MANAGER, RETRY_S, ChildProblem
from ondol.serverless.serving.reporting import Reporter


class ServiceReconciler:
    """Level-based: reads the listers, applies two children, writes one status."""

    def __init__(self, manager: Manager) -> None:
        self._manager = manager
        self._children = Children(manager.client, field_manager=FIELD_MANAGER)
        self._status = Reporter(manager, serving.SERVICE, ("ConfigurationsReady", "RoutesReady"))
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
            self._children.forget(key)
            return None
        if objects.is_deleting(service):
            return None
        configuration, route = self._configurations.lister.get(key), self._routes.lister.get(key)
        problem = None
        family = self._children.of(service)
        try:
            configuration = await children.apply(
                family, serving.CONFIGURATION, documents.configuration(service), configuration
            )
            route = await children.apply(family, serving.ROUTE, documents.route(service), route)
        except ChildProblem as error:
            problem = verdicts.Verdict("False", error.reason, str(error))
        now = self._manager.clock.now()
        desired = verdicts.service_status(service, configuration, route, problem=problem, now=now)
        await self._status.write(service, desired)
        return Result(RETRY_S) if problem is not None else None


def owner_key(obj: objects.Object) -> list[Key]:
    """The key of the Serving object that controls this one."""
    owner = objects.controller_of(obj)
    if owner is None or owner.get("apiVersion") != documents.API_VERSION:
        return []
    return [Key(objects.namespace(obj), str(owner["name"]))]


def owner_uid(obj: objects.Object) -> list[str]:
    """For an index of children by their controller."""
    owner = objects.controller_of(obj)
    return [str(owner["uid"])] if owner is not None else []
