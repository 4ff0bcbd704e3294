"""The mesh's controller: watches objects, translates them, serves the result, and writes what came of it.

A change is translated at once; those that follow within milliseconds are gathered for the next time.
Envoy's answers become conditions: `mesh.ondol.dev/Programmed` on pods, `Accepted`, `Programmed` and
`PassedAnalysis` on Istio objects.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, Final

from ondol.api import conditions, objects, pods, resources
from ondol.api.objects import Key, Object, Resource
from ondol.base import errors, log
from ondol.base.memo import Memo
from ondol.base.signal import Signal
from ondol.client import PatchType
from ondol.contracts import mesh
from ondol.mesh import addresses, definitions, persistence, securing, server
from ondol.mesh import conditions as written
from ondol.mesh.acceptance import Acceptance
from ondol.mesh.analysis import Analyst
from ondol.mesh.config import MeshConfig
from ondol.mesh.dependencies import Dependencies
from ondol.mesh.gateway_api import feed as gateway_api
from ondol.mesh.ingress.feed import Feed
from ondol.mesh.kinds import KINDS
from ondol.mesh.kinds.kind import Finding, Kinds, Progress, no_findings
from ondol.mesh.secret_feed import SecretFeed
from ondol.mesh.securing import Security
from ondol.mesh.translate import credentials, origination, registry
from ondol.mesh.translate.translator import Translator, port_problem, roots
from ondol.mesh.translate.world import Translation, World
from ondol.mesh.xds import types
from ondol.mesh.xds.types import Outcome, Rejected
from ondol.sdk import Controller, Manager, Result, generation_changed
from ondol.sdk.status import Writer

_PLAIN: Final = {
    "Namespace": resources.NAMESPACE,
    "Service": resources.SERVICE,
    "EndpointSlice": resources.ENDPOINT_SLICE,
}
_NODE: Final = "Node"
_FIELD_MANAGER: Final = "ondol-mesh"
_RETRY_S: Final = 0.5
_KEEP_S: Final = 5.0
_RETRY_BROKEN_S: Final = 5.0
"""After an error of which no object is known to be the cause."""
_RETRY_REFUSED_S: Final = 1.0
_RETRY_ALL_S: Final = 30.0
"""How often all is sent again that was refused and for which no object is to blame."""


class Mesh:
    """Holds the one translator, the served snapshot and how each object stands."""

    def __init__(self, manager: Manager, config: MeshConfig, kinds: Kinds = KINDS) -> None:
        self._manager = manager
        self._config = config
        self._kinds = kinds
        self._translator = Translator(config, kinds)
        self._acceptance = Acceptance(
            partial(port_problem, config), kinds, roots(config), config.cluster_domain
        )
        self._translation = Translation()
        self._analyst = Analyst(kinds)
        self._findings: dict[types.Origin, list[Finding]] = {}
        self._refused_pods: dict[Key, str] = {}
        self._running: Mapping[types.Origin, bool] = {}
        self._evaded: frozenset[types.Origin] = frozenset()
        self._conditions = Memo()
        self._addresses: addresses.Addresses = {}
        self._selects_pods = False
        """Whether a ServiceEntry may have pods for its endpoints."""
        self._changed = Signal()
        self._log = log.get("mesh")
        self._persisted = persistence.load(config.state_file)
        self._acceptance.restore(self._persisted)
        self.hub = server.Hub(self._observe, self._disconnected, clock=manager.clock)
        self._informers = {name: manager.informer(resource) for name, resource in _PLAIN.items()}
        for informer in self._informers.values():
            informer.add_handler(self._on_change)
        self._informers[_NODE] = manager.informer(resources.NODE)
        self._informers[_NODE].add_handler(self._on_node)
        for name, kind in kinds.items():
            self._informers[name] = manager.informer(kind.resource, optional=True)
            self._informers[name].add_handler(self._on_rule)
        self._ingress = Feed(manager, config, self._changed.set)
        self._gateway_api = gateway_api.Feed(manager, config, self._changed.set)
        self.security = Security(manager, self._changed.set, config.ingress_namespace)
        self._secrets = SecretFeed(manager, self._changed.set)
        self._pods = manager.informer(resources.POD)
        self._pods.add_handler(self._on_pod)
        self._pod_writer = self._writer(resources.POD, *written.OF_PODS)
        self._rule_writers = {
            name: self._writer(kind.resource, *written.OF_RULES) for name, kind in kinds.items()
        }
        self._pod_status = Controller("mesh-pods", self._write_pod)
        manager.add(self._pod_status)
        self._rule_status = {
            name: self._status_controller(name, kind.resource) for name, kind in kinds.items()
        }

    def _writer(self, resource: Resource, *own: str) -> Writer:
        return Writer(self._manager.client, resource, field_manager=_FIELD_MANAGER, conditions=own)

    def _status_controller(self, kind: str, resource: Resource) -> Controller:
        async def reconcile(key: Key) -> Result | None:
            return await self._write_rule(kind, key)

        controller = Controller(f"mesh-{resource.plural}", reconcile)
        controller.watch(self._informers[kind], predicate=generation_changed)
        self._manager.add(controller)
        return controller

    # Objects in

    def _on_change(self, _old: Object | None, _new: Object | None) -> None:
        self._changed.set()

    def _on_node(self, old: Object | None, new: Object | None) -> None:
        """Nodes tell every few seconds that they live; where they are hardly ever changes."""
        if _labels(old) != _labels(new):
            self._changed.set()

    def _on_rule(self, old: Object | None, new: Object | None) -> None:
        if generation_changed(old, new) or _is_dry_run(old) is not _is_dry_run(
            new
        ):  # no condition written here
            self._changed.set()

    def _on_pod(self, old: Object | None, new: Object | None) -> None:
        is_other = _pod_matters(old) != _pod_matters(new)
        if is_other or (self._selects_pods and _pod_serves(old) != _pod_serves(new)):
            self._changed.set()

    async def run(self) -> None:
        """Translate and publish after each change, forever.

        After a translation changes gather for as long as it took: a large mesh, in which each takes longer,
        is translated less often, and half of the time is left for the others in this process.
        """
        clock = self._manager.clock
        while True:
            self._changed.clear()
            began = clock.monotonic()
            is_over = self._has_translated()
            await clock.sleep(max(self._config.debounce_s, clock.monotonic() - began))
            with clock.move_on_after(math.inf if is_over else _RETRY_BROKEN_S):
                await self._changed.wait()

    def _has_translated(self) -> bool:
        """Translate; what cannot be is tried again later, and what was served before goes on.

        Objects of any namespace may be behind an error that nobody thought of. To end by it would take
        every other change with it, and the next process would meet the same objects.
        """
        try:
            self._translate()
        except Exception as error:  # noqa: BLE001 - whatever it is
            self._log.exception("translation_broken", error=str(error))
            self._translator = Translator(self._config, self._kinds)  # the other may hold half of something
            return False
        return True

    def _translate(self) -> None:
        started = self._manager.clock.monotonic()
        world = self._world()
        try:
            translation = self._translator.translate(world)
        except registry.Failed as failed:
            self._log.error("translation_failed", object=str(failed.origin), why=str(failed))
            parts = (self._acceptance, self._ingress, self._gateway_api)
            if not any(part.refuse(failed.origin, str(failed)) for part in parts):
                raise
            self._changed.set()
            return
        dependencies = Dependencies(world, translation)
        missing = self._missing(dependencies)
        if missing is None:
            self._changed.set()  # before anything of it is published
            return
        self._translation = translation
        self._findings = {}
        for finding in dict.fromkeys([*missing, *self._analyst.findings(dependencies)]):
            self._findings.setdefault(finding.origin, []).append(finding)
        self.hub.publish(self._translation.snapshot)
        self._queue_statuses()
        took = self._manager.clock.monotonic() - started
        self._log.debug("translated", pods=len(self._translation.pods), took_ms=round(took * 1000, 1))

    def _missing(self, dependencies: Dependencies) -> list[Finding] | None:
        """What rules name and does not exist; None if what is served changes, as versions wait for it."""
        missing: list[Finding] = []
        is_changed = False
        for name, kind in self._kinds.items():
            if kind.missing is not no_findings:
                findings = self._analyst.missing(name, self._acceptance.candidates(name), dependencies)
                is_changed |= self._acceptance.wait_for(name, {f.origin: f.message for f in findings})
                missing += findings
        return None if is_changed else missing

    def _world(self) -> World:
        def documents(kind: str) -> list[Object]:
            return self._informers[kind].lister.list()

        services = documents("Service")
        rules = {name: self._acceptance.admit(name, documents(name)) for name in self._kinds}
        namespaces = documents("Namespace")
        named = [
            *(
                key
                for gateway in rules["Gateway"]
                for server in gateway.spec.servers
                for key in credentials.named(gateway.namespace, server.tls)
            ),
            *(key for rule in rules["DestinationRule"] for key in origination.looked_at(rule)),
        ]
        contents = self._secrets.named([*self._ingress.secrets(), *self._gateway_api.secrets(), *named])
        expansion = self._ingress.expand(services, contents)
        generated = self._gateway_api.expand(services, namespaces, contents)
        entries = rules.get(mesh.SERVICE_ENTRY.kind, [])
        self._selects_pods = any(entry.spec.workload_selector is not None for entry in entries)
        if mesh.SERVICE_ENTRY.kind in self._kinds:
            domain = self._config.cluster_domain
            self._addresses = addresses.allocated(documents(mesh.SERVICE_ENTRY.kind), domain, self._addresses)
        world = World(
            namespaces=namespaces,
            pods=self._pods.lister.list(),
            services=services,
            endpoint_slices=documents("EndpointSlice"),
            rules=generated.beside(expansion.beside(rules)),
            terminations=expansion.terminations,
            credentials=contents,
            nodes=documents(_NODE),
            addresses=self._addresses,
        )
        return self.security.completed(world, self._translation)

    # Answers out

    def _observe(self, outcomes: Sequence[Outcome]) -> None:
        for outcome in outcomes:
            if isinstance(outcome, Rejected):
                self._log.warning("proxy_refused", resource=outcome.resource.name, why=outcome.message)
                self._note_pod(outcome)
        parts = (self._acceptance, self._ingress, self._gateway_api)
        must_translate = [part.observe(outcomes) for part in parts]
        if any(must_translate):
            self._changed.set()
        self._try_next()
        self._queue_statuses()

    def _try_next(self) -> None:
        """Give the next suspect its try, unless what is served is about to change for another reason."""
        steady = self.hub.settled and not self._changed.is_set
        if steady and (
            self._acceptance.next_trial(self._translation.snapshot)
            or self._ingress.next_trial()
            or self._gateway_api.next_trial()
        ):
            self._changed.set()

    async def retry_refused(self) -> None:
        """Try refused rules again and again: the cause may lie outside them and have ended."""
        clock = self._manager.clock
        everything_at = clock.monotonic() + _RETRY_ALL_S
        while True:
            wait_s = self._acceptance.retry(clock.monotonic())
            self._try_next()
            if clock.monotonic() >= everything_at:
                everything_at = clock.monotonic() + _RETRY_ALL_S
                for type_url in types.MAKE_ORDER:
                    self.hub.retry(type_url)
            await clock.sleep(min(wait_s or _RETRY_REFUSED_S, _RETRY_REFUSED_S))

    def _note_pod(self, outcome: Rejected) -> None:
        for origin in outcome.resource.origins:
            if origin.kind == "Pod":
                self._refused_pods[Key(origin.namespace, origin.name)] = outcome.message

    def _disconnected(self) -> None:
        self._acceptance.disconnected()

    def _queue_statuses(self) -> None:
        """Queue every object whose conditions no longer say how it stands."""
        for pod in self._pods.lister.list():
            if self._pod_condition(pod) is not None:
                self._pod_status.enqueue(objects.key(pod))
        self._ingress.tell(self._findings, self._reached)
        self._gateway_api.tell(self._findings, self._reached)
        if self.hub.busy:
            return  # rules stand on many resources: what is half sent says nothing yet
        self._running = self._acceptance.running(self._translation.snapshot)
        self._evaded = securing.evaded(self._pods.lister.list(), self._translation)
        if (persisted := self._acceptance.export()) != self._persisted:
            persistence.save(self._config.state_file, persisted)
            self._persisted = persisted
        for kind, controller in self._rule_status.items():
            for obj in self._informers[kind].lister.list():
                if self._desired_status(kind, obj) is not None:
                    controller.enqueue(objects.key(obj))
        self._conditions.sweep()

    def _reached(self, port: str) -> bool:
        """Whether the proxy listens at a port of the ingress."""
        return self._acceptance.runs(types.LISTENER, port)

    def _pod_condition(self, pod: Object) -> list[Object] | None:
        """The condition to write, or None when it is there or it is too early."""
        now = self._manager.clock.now()
        key = objects.key(pod)
        plan = self._translation.pods.get(key)
        if plan is None:
            lost = conditions.is_true(pod, mesh.POD_PROGRAMMED) and not _has_sandbox(pod)
            return written.of_pod(pod, "NoSandbox", now=now) if lost else None
        if all(self._acceptance.runs(types.LISTENER, name) for name in plan.listeners):
            self._refused_pods.pop(key, None)
            parts = {types.ROUTES: plan.tables, types.EXTENSION: plan.filters}
            ready = all(self._acceptance.runs(url, name) for url, names in parts.items() for name in names)
            is_written = conditions.is_true(pod, mesh.POD_PROGRAMMED) and (
                not plan.arrivals or conditions.is_true(pod, mesh.POD_GUARDED)
            )
            if ready and not is_written:
                return written.of_pod(pod, "Programmed", now=now, is_guarded=bool(plan.arrivals))
            return None
        refused = self._refused_pods.get(key, "")
        if refused and (conditions.get(pod, mesh.POD_PROGRAMMED) or {}).get("message") != refused:
            return written.of_pod(pod, "RejectedByProxy", refused, now=now)
        return None

    async def _write_pod(self, key: Key) -> Result | None:
        pod = self._pods.lister.get(key)
        if pod is None:
            self._refused_pods.pop(key, None)
            return None
        desired = self._pod_condition(pod)
        if desired is not None:
            await self._pod_writer.write(pod, {"conditions": desired})
        if key in self._refused_pods:
            self.hub.retry(types.LISTENER)
            return Result(requeue_after_s=_RETRY_REFUSED_S)
        return None

    def _desired_status(self, kind: str, obj: Object) -> Object | None:
        """What its status should say, or None when it says it already or it is too early."""
        listed = self._rule_conditions(kind, obj)
        if kind != mesh.SERVICE_ENTRY.kind:
            return None if listed is None else {"conditions": listed}
        own = addresses.status(self._addresses.get((kind, *objects.key(obj)), {}))
        if listed is None and (self.hub.busy or own == objects.status(obj).get("addresses")):
            return None
        return {"conditions": listed or conditions.of(obj), "addresses": own}

    def _rule_conditions(self, kind: str, obj: Object) -> list[Object] | None:
        """The conditions to write, or None when they are there already or it is too early."""
        if self.hub.busy or not self._acceptance.has_version(kind, obj):
            return None
        origin = self._acceptance.origin(kind, obj)
        refusal, progress = self._acceptance.refusal(kind, obj), self._progress(origin)
        findings = tuple(self._findings.get(origin, ()))

        def compare() -> list[Object] | None:
            now = self._manager.clock.now()
            desired = written.of_rule(
                obj,
                refusal=refusal,
                progress=progress,
                findings=findings,
                now=now,
                words=self._kinds[kind].progress,
            )
            return None if desired == list(conditions.of(obj)) else desired

        return self._conditions.get((id(obj), refusal, progress, findings), compare, obj)

    def _progress(self, origin: types.Origin) -> Progress:
        if not self.hub.settled:
            return Progress.UNKNOWN
        ran = self._running.get(origin)
        if ran is None:
            return Progress.UNUSED
        in_force = Progress.EVADED if origin in self._evaded else Progress.RUNNING
        return in_force if ran else Progress.PENDING

    async def _write_rule(self, kind: str, key: Key) -> Result | None:
        obj = self._informers[kind].lister.get(key)
        desired = self._desired_status(kind, obj) if obj is not None else None
        if obj is None or desired is None:
            return None
        await self._rule_writers[kind].write(obj, desired)
        for reason, message in written.warnings(conditions.of(obj), desired["conditions"]):
            self._manager.recorder.event(obj, "Warning", reason, message)
        return None

    # What the mesh makes itself

    async def make_ingress_class(self) -> None:
        """Create the class of Ingresses once, and those of Gateways."""
        await self._persist(self._ingress.make_class)
        await self._persist(self._gateway_api.make_classes)

    async def make_default_gateway(self) -> None:
        """Create the Gateway for the ingress port once; whoever deletes or changes it is left alone.

        That it was made is a mark of its namespace, which outlives this process as it outlives the Gateway.
        """
        namespace = self._config.ingress_namespace
        desired = definitions.default_gateway(namespace)
        mark = {"metadata": {"annotations": {definitions.DEFAULT_GATEWAY_MARK: "true"}}}
        client = self._manager.client

        async def make() -> None:
            home = await client.get(resources.NAMESPACE, namespace)
            if definitions.DEFAULT_GATEWAY_MARK in objects.annotations(home):
                return
            with suppress(errors.AlreadyExists):
                await client.create(mesh.GATEWAY, desired, namespace)
            await client.patch(resources.NAMESPACE, namespace, patch=mark, patch_type=PatchType.MERGE)

        await self._persist(make)

    async def keep_ingress_service(self) -> None:
        """Have the Service of the ingress, with its namespace, for as long as this runs."""
        service = definitions.ingress_service(self._config.ingress_port, self._config.ingress_tls_port)
        key = objects.key(service)
        while True:
            await self._persist(lambda: self._make_ingress_service(service))
            await self._manager.clock.sleep(_KEEP_S)
            while self._informers["Service"].lister.get(key) is not None:
                await self._manager.clock.sleep(_KEEP_S)

    async def _make_ingress_service(self, service: Object) -> None:
        client, key = self._manager.client, objects.key(service)
        namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": key.namespace}}
        with suppress(errors.AlreadyExists):
            await client.create(resources.NAMESPACE, namespace)
        applied = await client.apply(resources.SERVICE, service, field_manager=_FIELD_MANAGER)
        status = definitions.ingress_status(self._config.ingress_address)
        await Writer(client, resources.SERVICE, field_manager=_FIELD_MANAGER).write(applied, status)

    async def _persist(self, make: Callable[[], Awaitable[None]]) -> None:
        """Until it is done: the kind or the namespace may not be there while the platform starts."""
        while True:
            try:
                return await make()
            except errors.ApiError as error:
                self._log.info("own_object_waits", why=error.message)
                await self._manager.clock.sleep(_RETRY_S)


def _is_dry_run(obj: Object | None) -> bool:
    return obj is not None and registry.is_dry_run(obj)


def _labels(obj: Object | None) -> Mapping[str, str] | None:
    return objects.labels(obj) if obj is not None else None


def _has_sandbox(pod: Object) -> bool:
    return pods.is_terminal(pod) or conditions.is_true(pod, mesh.SANDBOX_READY)


def _pod_matters(pod: Object | None) -> tuple[Any, ...] | None:
    """What of a pod the translation looks at; all else may change without one."""
    if pod is None:
        return None
    return (
        objects.uid(pod),
        objects.labels(pod),
        pods.is_terminal(pod),
        conditions.is_true(pod, mesh.SANDBOX_READY),
        conditions.is_true(pod, mesh.POD_ARRIVALS_TURNED),
    )


def _pod_serves(pod: Object | None) -> tuple[Any, ...] | None:
    """What of a pod counts where a ServiceEntry selects it."""
    if pod is None:
        return None
    leaves = objects.metadata(pod).get("deletionTimestamp") is not None
    return (objects.status(pod).get("podIP"), conditions.is_true(pod, "Ready"), leaves)


def add_to(manager: Manager, config: MeshConfig, kinds: Kinds = KINDS) -> Mesh:
    """Add the mesh to a manager: its informers, its status controllers and the xDS server."""
    controller = Mesh(manager, config, kinds)

    async def serve() -> None:
        await server.serve(controller.hub, config.xds_address)

    manager.add_runnable(serve, "mesh-xds")
    manager.add_runnable(controller.run, "mesh-translate")
    manager.add_runnable(controller.retry_refused, "mesh-retry")
    manager.add_runnable(controller.security.run, "mesh-identity")
    manager.add_runnable(controller.security.close, "mesh-guarding")
    manager.add_runnable(controller.make_default_gateway, "mesh-default-gateway")
    manager.add_runnable(controller.make_ingress_class, "mesh-ingress-class")
    manager.add_runnable(controller.keep_ingress_service, "mesh-ingress-service")
    return controller
