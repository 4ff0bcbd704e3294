"""Reconciles Routes: traffic targets become one VirtualService, revisions learn who points at them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from ondol.api import conditions, objects, resources
from ondol.api.objects import Key, Object
from ondol.base import clock, comma_list, errors
from ondol.contracts import mesh, serving
from ondol.sdk import Children, Controller, Manager, Result
from ondol.serverless.serving import children, documents, verdicts, wellknown
from ondol.serverless.serving.children import FIELD_MANAGER, RETRY_S, ChildProblem
from ondol.serverless.serving.defaults import TIMEOUT_S
from ondol.serverless.serving.documents import Target
from ondol.serverless.serving.reporting import Reporter
from ondol.serverless.serving.service import owner_key, owner_uid
from ondol.serverless.serving.verdicts import Verdict

_BY_CONFIGURATION: Final = "configuration"
_BY_REVISION: Final = "revision"
_BY_OWNER: Final = "owner"


@dataclass(frozen=True, slots=True)
class RouteConfig:
    """How routes are published: the domain, the gateway's port, whether the mesh reports on its rules."""

    domain: str = "localhost"
    public_port: int = 80
    mesh_reports: bool = True


class RouteReconciler:
    """Resolves targets to ready revisions; while one is missing, the rules of before go on serving."""

    def __init__(self, manager: Manager, config: RouteConfig) -> None:
        self._manager = manager
        self._config = config
        self._children = Children(manager.client, field_manager=FIELD_MANAGER)
        self._status = Reporter(manager, serving.ROUTE, ("AllTrafficAssigned", "IngressReady"))
        self._routes = manager.informer(serving.ROUTE)
        self._configurations = manager.informer(serving.CONFIGURATION)
        self._revisions = manager.informer(serving.REVISION)
        self._services = manager.informer(resources.SERVICE)
        self._virtual_services = manager.informer(mesh.VIRTUAL_SERVICE)
        self._services.add_index(_BY_OWNER, owner_uid)
        self._routes.add_index(_BY_CONFIGURATION, lambda route: _mentioned(route, "configurationName"))
        self._routes.add_index(_BY_REVISION, lambda route: _mentioned(route, "revisionName"))

    def controller(self) -> Controller:
        controller = Controller("knative-route", self.reconcile)
        controller.watch(self._routes)
        controller.watch(self._configurations, lambda c: self._routes_of(_BY_CONFIGURATION, c))
        controller.watch(self._revisions, lambda r: self._routes_of(_BY_REVISION, r))
        controller.watch(self._services, owner_key)
        controller.watch(self._virtual_services, owner_key)
        return controller

    def _routes_of(self, index: str, obj: Object) -> list[Key]:
        return [objects.key(r) for r in self._routes.lister.by_index(index, str(objects.key(obj)))]

    async def reconcile(self, key: Key) -> Result | None:
        route = self._routes.lister.get(key)
        if route is None:
            self._children.forget(key)
            await self._mark(key, ())
            return None
        if objects.is_deleting(route):
            return None
        targets, assigned = self._resolve(route)
        if assigned.status != "True":
            await self._write(route, self._present(route), assigned, Verdict("Unknown"))
            return None
        result = None
        try:
            ingress = await self._program(route, targets)
        except ChildProblem as error:
            result = Result(RETRY_S)
            ingress = Verdict("False", error.reason, str(error))
        await self._mark(key, {target.revision for target in targets})
        await self._write(route, targets, assigned, ingress)
        return result

    async def _write(
        self, route: Object, targets: Sequence[Target], assigned: Verdict, ingress: Verdict
    ) -> None:
        desired = verdicts.route_status(
            route,
            targets,
            assigned,
            ingress,
            domain=self._config.domain,
            public_port=self._config.public_port,
            local_only=objects.labels(route).get(wellknown.VISIBILITY) == wellknown.CLUSTER_LOCAL,
            now=self._manager.clock.now(),
        )
        await self._status.write(route, desired)

    async def _program(self, route: Object, targets: Sequence[Target]) -> Verdict:
        """Make the names resolvable, then hand the mesh its rules; say whether it serves them."""
        namespace, name = objects.namespace(route), objects.name(route)
        family = self._children.of(route)
        own = [name, *(documents.tag_name(t.tag, name) for t in targets if t.tag)]
        for service_name in own:
            await children.apply(
                family,
                resources.SERVICE,
                documents.placeholder_service(route, service_name),
                self._services.lister.get(Key(namespace, service_name)),
            )
        desired = documents.virtual_service(route, targets, self._config.domain)
        live = self._virtual_services.lister.get(objects.key(desired))
        virtual_service = await children.apply(family, mesh.VIRTUAL_SERVICE, desired, live)
        # The Services of tags that are no more: nothing routes by their names by now.
        await family.prune(resources.SERVICE, self._services.lister.by_index(_BY_OWNER, objects.uid(route)))
        return verdicts.ingress_verdict(virtual_service, reported=self._config.mesh_reports)

    def _present(self, route: Object) -> list[Target]:
        """What the status says is served now."""
        return [
            Target(
                revision=str(t.get("revisionName") or ""),
                percent=int(t.get("percent") or 0),
                tag=str(t.get("tag") or ""),
                latest=bool(t.get("latestRevision")),
            )
            for t in objects.status(route).get("traffic") or ()
        ]

    def _resolve(self, route: Object) -> tuple[list[Target], Verdict]:
        """Every target with the revision it means, or why not all of them can be served."""
        targets = []
        total = 0
        for spec in objects.spec(route).get("traffic") or ():
            revision, problem = self._revision_for(route, spec)
            if problem is not None:
                return [], problem
            percent = int(spec.get("percent") or 0)
            total += percent
            latest = bool(spec.get("configurationName"))
            timeout_s = int(objects.spec(revision).get("timeoutSeconds") or TIMEOUT_S)
            tag = str(spec.get("tag") or "")
            targets.append(Target(objects.name(revision), percent, tag, latest, timeout_s))
        tags = [target.tag for target in targets if target.tag]
        if twice := next((tag for tag in tags if tags.count(tag) > 1), ""):
            return [], Verdict("False", "InvalidTraffic", f'the tag "{twice}" is given twice')
        if total != 100:
            return [], Verdict("False", "InvalidTraffic", f"the percentages add up to {total}, not 100")
        return targets, verdicts.OK

    def _revision_for(self, route: Object, spec: Mapping[str, Any]) -> tuple[Object, Verdict | None]:
        namespace = objects.namespace(route)
        if name := spec.get("revisionName"):
            return self._ready(Key(namespace, str(name)))
        name = str(spec.get("configurationName") or "")
        configuration = self._configurations.lister.get(Key(namespace, name))
        if configuration is None:
            message = f'Configuration "{name}" referenced in traffic not found.'
            return {}, Verdict("False", "ConfigurationMissing", message)
        latest = objects.status(configuration).get("latestReadyRevisionName")
        if not latest:
            ready = conditions.get(configuration, verdicts.READY) or {}
            if ready.get("status") == "False":
                message = f'Configuration "{name}" does not have any ready Revision.'
                return {}, Verdict("False", "RevisionMissing", message)
            message = f'Configuration "{name}" is waiting for a Revision to become ready.'
            return {}, Verdict("Unknown", "RevisionMissing", message)
        return self._ready(Key(namespace, str(latest)))

    def _ready(self, key: Key) -> tuple[Object, Verdict | None]:
        revision = self._revisions.lister.get(key)
        if revision is None:
            message = f'Revision "{key.name}" referenced in traffic not found.'
            return {}, Verdict("False", "RevisionMissing", message)
        if not conditions.is_true(revision, verdicts.READY):
            failed = conditions.is_false(revision, verdicts.READY)
            message = f'Revision "{key.name}" is not ready.'
            return {}, Verdict("False" if failed else "Unknown", "RevisionMissing", message)
        return revision, None

    async def _mark(self, route: Key, pointed_at: set[str] | tuple[()]) -> None:
        """Tell each revision whether this route points at it: `active`, or `reserve` when it ceased to."""
        for revision in self._revisions.lister.list(route.namespace):
            before = set(comma_list.items(objects.annotations(revision).get(wellknown.ROUTES_ANNOTATION, "")))
            after = before | {route.name} if objects.name(revision) in pointed_at else before - {route.name}
            if after != before:
                await self._write_routes(revision, after)

    async def _write_routes(self, revision: Object, routes: set[str]) -> None:
        state = "active" if routes else "reserve"
        modified = clock.rfc3339(self._manager.clock.now())
        patch = {
            "metadata": {
                "labels": {wellknown.ROUTING_STATE_LABEL: state},
                "annotations": {
                    wellknown.ROUTES_ANNOTATION: ",".join(sorted(routes)) or None,
                    wellknown.ROUTING_STATE_MODIFIED: modified,
                },
            }
        }
        try:
            await self._manager.client.patch(
                serving.REVISION, objects.name(revision), objects.namespace(revision), patch=patch
            )
        except errors.NotFound:
            return


def _mentioned(route: Object, field: str) -> list[str]:
    namespace = objects.namespace(route)
    targets = objects.spec(route).get("traffic") or ()
    return [str(Key(namespace, target[field])) for target in targets if target.get(field)]
