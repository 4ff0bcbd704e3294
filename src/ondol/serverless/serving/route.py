"""Reconciles Routes: traffic targets become one VirtualService, revisions learn who points at them.

A roll-out goes on from the state that the VirtualService has, whoever wrote it: a restart changes nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final

from ondol.api import conditions, objects, resources
from ondol.api.objects import Key, Object
from ondol.base import clock, comma_list, errors
from ondol.contracts import mesh, serving
from ondol.sdk import Children, Controller, Manager, Result
from ondol.serverless.config import live
from ondol.serverless.config.live import LiveConfig
from ondol.serverless.serving import (
    children,
    documents,
    podspec,
    rollout,
    routing,
    verdicts,
    wellknown,
)
from ondol.serverless.serving.children import FIELD_MANAGER, RETRY_S, ChildProblem
from ondol.serverless.serving.defaults import TIMEOUT_S
from ondol.serverless.serving.reporting import Reporter
from ondol.serverless.serving.rollout import SECOND_NS, Rollout
from ondol.serverless.serving.routing import Target, Traffic
from ondol.serverless.serving.service import owner_key, owner_uid
from ondol.serverless.serving.verdicts import Verdict

_BY_CONFIGURATION: Final = "configuration"
_BY_REVISION: Final = "revision"
_BY_OWNER: Final = "owner"
_CONFIG_MAPS: Final = ("config-domain", "config-features", "config-network")


class RouteReconciler:
    """Resolves targets to ready revisions; while one is missing, the rules of before go on serving."""

    def __init__(self, manager: Manager, config: LiveConfig, *, mesh_reports: bool = True) -> None:
        """`mesh_reports`: whether the mesh says in a rule's status that it serves it."""
        self._manager = manager
        self._config = config
        self._mesh_reports = mesh_reports
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
        live.follow(controller, self._manager, _CONFIG_MAPS, self._routes.lister.list)
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
        moving = self._rollout(route, targets)
        traffic = routing.traffic(targets, moving, lambda name: self._timeout_s(key.namespace, name))
        try:
            ingress = await self._program(route, traffic, moving)
        except ChildProblem as error:
            result = Result(RETRY_S)
            ingress = Verdict("False", error.reason, str(error))
        if ingress.status == "True" and not moving.is_done:
            ingress = verdicts.ROLLING_OUT
        if moving.next_ns and result is None:
            result = Result(max(0.0, moving.next_ns / SECOND_NS - self._manager.clock.now()))
        await self._mark(key, traffic.revisions)
        await self._write(route, traffic.listed, assigned, ingress)
        return result

    def _rollout(self, route: Object, targets: Sequence[Target]) -> Rollout:
        """How far the newest revisions have come: a step on from where the VirtualService has them."""
        end = routing.goal(targets)
        duration_s = wellknown.rollout_s(objects.annotations(route), self._config().network.rollout_s)
        live_rules = self._virtual_services.lister.get(objects.key(route))
        if live_rules is None or not duration_s:
            return end
        before = rollout.decode(objects.annotations(live_rules).get(rollout.ANNOTATION))
        if before is None:
            return end
        now_ns = round(self._manager.clock.now() * SECOND_NS)
        gone = [name for name in before.revisions() if not self._has(route, name)]
        before = rollout.without(before, gone)
        if verdicts.ingress_verdict(live_rules, reported=self._mesh_reports).status == "True":
            before = rollout.observed(before, now_ns, duration_s)
        return rollout.step(end, before, now_ns)

    def _has(self, route: Object, revision: str) -> bool:
        return self._revisions.lister.get(Key(objects.namespace(route), revision)) is not None

    def _timeout_s(self, namespace: str, revision: str) -> int:
        obj = self._revisions.lister.get(Key(namespace, revision)) or {}
        return int(objects.spec(obj).get("timeoutSeconds") or TIMEOUT_S)

    def _is_guarded(self, namespace: str, revision: str) -> bool:
        return routing.is_guarded(self._revisions.lister.get(Key(namespace, revision)) or {})

    async def _write(
        self, route: Object, targets: Sequence[Target], assigned: Verdict, ingress: Verdict
    ) -> None:
        desired = verdicts.route_status(
            route,
            targets,
            assigned,
            ingress,
            naming=self._config().network.naming,
            now=self._manager.clock.now(),
        )
        await self._status.write(route, desired)

    async def _program(self, route: Object, traffic: Traffic, moving: Rollout) -> Verdict:
        """Make the names resolvable, then hand the mesh its rules; say whether it serves them."""
        namespace, config = objects.namespace(route), self._config()
        naming = config.network.naming
        family = self._children.of(route)
        for service_name in (naming.own_name(route, tag) for tag in ("", *traffic.tags)):
            live_service = self._services.lister.get(Key(namespace, service_name))
            desired_service = documents.placeholder_service(route, service_name, live_service)
            await children.apply(family, resources.SERVICE, desired_service, live_service)
        desired = routing.virtual_service(
            route,
            traffic,
            naming,
            by_header=podspec.TAG_HEADER in config.features,
            state=rollout.encode(moving),
            guarded=[each for each in traffic.revisions if self._is_guarded(namespace, each)],
        )
        live = self._virtual_services.lister.get(objects.key(desired))
        virtual_service = await children.apply(family, mesh.VIRTUAL_SERVICE, desired, live)
        # The Services of tags that are no more: nothing routes by their names by now.
        await family.prune(resources.SERVICE, self._services.lister.by_index(_BY_OWNER, objects.uid(route)))
        return verdicts.ingress_verdict(virtual_service, reported=self._mesh_reports)

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
            tag, followed = str(spec.get("tag") or ""), str(spec.get("configurationName") or "")
            targets.append(Target(objects.name(revision), percent, tag, latest, timeout_s, followed))
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

    async def _mark(self, route: Key, pointed_at: Collection[str]) -> None:
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
