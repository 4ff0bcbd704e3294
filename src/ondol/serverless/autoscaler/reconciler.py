"""Reconciles PodAutoscalers: gathers the facts, asks for the plan, puts it in effect.

Runs in the process of the activator, whose held requests are part of the facts and whose ports
stand in the Services' endpoints while a revision has no pods.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from ondol.api import conditions, objects, resources
from ondol.api.objects import Key, Object
from ondol.base import clock, errors, log
from ondol.client import PatchType
from ondol.contracts import cluster, mesh, proxy, serving
from ondol.contracts.serving import HTTP_PORT
from ondol.sdk import Children, Controller, Manager, Result, children
from ondol.serverless.activator import coldstart, early
from ondol.serverless.activator.activator import Activator
from ondol.serverless.activator.limits import Limits
from ondol.serverless.activator.throttler import Endpoint
from ondol.serverless.autoscaler import hpa, scaler
from ondol.serverless.autoscaler.decide import Decider, Scaling
from ondol.serverless.autoscaler.metrics import Busyness, Counters, ProxyMetrics
from ondol.serverless.autoscaler.scaler import Facts, Mode, Plan
from ondol.serverless.config import live
from ondol.serverless.config.live import LiveConfig
from ondol.serverless.serving import wellknown
from ondol.serverless.serving.defaults import TIMEOUT_S
from ondol.serverless.serving.reporting import Reporter

FIELD_MANAGER: Final = "ondol-autoscaler"
_BY_REVISION: Final = "revision"
_TICK_S: Final = 1.0
_DRAIN_POLL_S: Final = 0.2
_SAMPLE_S: Final = 0.5
_CONFIG_MAPS: Final = ("config-autoscaler", "config-deployment")


@dataclass(slots=True)
class _Memory:
    """What must be remembered of a revision between reconciles; times are monotonic seconds."""

    scaling: Scaling
    decider: Decider
    observed_since_s: float
    busyness: Busyness = field(default_factory=Busyness)
    idle_since_s: float | None = None


class PodAutoscalerReconciler:
    """One controller over PodAutoscalers, their pods, and the proxy's counters."""

    def __init__(
        self, manager: Manager, activator: Activator, proxy: ProxyMetrics, config: LiveConfig
    ) -> None:
        self._manager = manager
        self._activator = activator
        self._proxy = proxy
        self._config = config
        self._memories: dict[Key, _Memory] = {}
        self._starting: set[str] = set()
        """The uids of pods that were never ready."""
        self._children = Children(manager.client, field_manager=FIELD_MANAGER)
        self._log = log.get("autoscaler")
        self._status = Reporter(
            manager,
            serving.POD_AUTOSCALER,
            ("Active", "ScaleTargetInitialized"),
            field_manager=FIELD_MANAGER,
        )
        self._scalers = manager.informer(serving.POD_AUTOSCALER)
        self._deployments = manager.informer(resources.DEPLOYMENT, label_selector=wellknown.REVISION_LABEL)
        self._pods = manager.informer(resources.POD, label_selector=wellknown.REVISION_LABEL)
        self._slices = manager.informer(resources.ENDPOINT_SLICE, label_selector=wellknown.REVISION_LABEL)
        self._horizontal = manager.informer(
            resources.HORIZONTAL_POD_AUTOSCALER, label_selector=wellknown.REVISION_LABEL
        )
        self._pods.add_index(_BY_REVISION, lambda pod: [str(k) for k in _revision_key(pod)])
        self._pods.add_handler(self._observe)
        self._controller = Controller("pod-autoscaler", self.reconcile, concurrency=8)

    def controller(self) -> Controller:
        self._controller.watch(self._scalers)
        self._controller.watch(self._pods, _revision_key)
        self._controller.watch(self._deployments, _revision_key)
        self._controller.watch(self._slices, _revision_key)
        self._controller.watch(self._horizontal, _revision_key)
        live.follow(self._controller, self._manager, _CONFIG_MAPS, self._scalers.lister.list)
        return self._controller

    def _observe(self, before: Object | None, pod: Object | None) -> None:
        """How far a pod is, for who waits for it and for the traces of that."""
        current = pod or before or {}
        self._note_starting(before, pod)
        for key in _revision_key(current):
            if pod is not None:
                self._activator.starts.observe(key, pod, self._now_ns())
            starting = [each for each in self._of(key) if objects.uid(each) in self._starting]
            questions = (early.question(each, _user_port(each)) for each in starting)
            self._activator.set_endpoints(key, self._ready(key))  # first: who is ready is expected no more
            self._activator.expect(key, [asked for asked in questions if asked is not None])

    def _note_starting(self, before: Object | None, pod: Object | None) -> None:
        """A pod starts until it is ready once: one that was seen without an address was never."""
        current = pod or before or {}
        uid = objects.uid(current)
        if before is None and pod is not None and not objects.status(pod).get("podIP"):
            self._starting.add(uid)
        elif pod is None or conditions.is_true(pod, "Ready"):
            self._starting.discard(uid)

    def _of(self, key: Key) -> Iterable[Object]:
        return self._pods.lister.by_index(_BY_REVISION, str(key))

    def _now_ns(self) -> int:
        return int(self._manager.clock.now() * 1_000_000_000)

    def poke(self, revision: Key) -> None:
        """A request waits: decide now."""
        self._controller.enqueue(revision)

    async def sample(self) -> None:
        """Read the proxy's counters while any revision runs; revisions at zero cost nothing."""
        self._activator.drop_unclaimed(objects.key(each) for each in self._scalers.lister.list())
        while True:
            await self._manager.clock.sleep(_SAMPLE_S)
            busy = [k for k in self._memories if self._ready(k) or self._activator.demand(k)]
            if not busy:
                continue
            try:
                counters = await self._proxy.counters()
            except OSError as error:
                self._log.debug("proxy_not_answering", error=str(error))
                continue
            now_s = self._manager.clock.monotonic()
            for key in [k for k in busy if k in self._memories]:  # it may have been deleted meanwhile
                self._record(
                    key, counters.get(proxy.revision_cluster(key.name, key.namespace, HTTP_PORT)), now_s
                )

    def _record(self, key: Key, counters: Counters | None, now_s: float) -> None:
        memory = self._memories[key]
        measured = memory.busyness.sample(now_s, counters or Counters())
        if measured is None:
            return
        concurrency, rate = measured
        demand = float(self._activator.demand(key))
        memory.decider.record(now_s, rate if memory.scaling.metric == "rps" else max(concurrency, demand))

    async def reconcile(self, key: Key) -> Result | None:
        autoscaler = self._scalers.lister.get(key)
        if self._activator.is_retired and not self._activator.demand(key):
            return None
        if autoscaler is None or objects.is_deleting(autoscaler):
            self._activator.close(key)
            self._memories.pop(key, None)
            self._children.forget(key)
            return None
        deployment = self._deployments.lister.get(
            Key(key.namespace, str(objects.spec(autoscaler)["scaleTargetRef"]["name"]))
        )
        port = await self._listen(key, autoscaler)
        ready = self._ready(key)
        self._activator.set_endpoints(key, ready)
        if deployment is None:
            return None  # its creation brings us back
        memory = self._memory(key, autoscaler, len(ready))
        if self._activator.demand(key):
            memory.decider.record(self._manager.clock.monotonic(), float(self._activator.demand(key)))
        initialized = _initialized(autoscaler) or len(ready) >= scaler.initial_replicas(
            memory.scaling, reachable=_reachable(autoscaler)
        )
        facts = await self._facts(key, autoscaler, deployment, memory, len(ready), initialized=initialized)
        is_hpa = hpa.is_asked_for(memory.scaling)
        plan = hpa.plan(facts) if is_hpa else scaler.plan(facts)
        if self._activator.is_retired:
            await self._wake(key, deployment, facts, plan)
            return _requeue(plan, facts)
        memory.idle_since_s = (memory.idle_since_s or self._manager.clock.monotonic()) if plan.idle else None
        await self._point_endpoints(key, autoscaler, plan.mode, ready, port)
        if plan.replicas != facts.replicas:
            await self._scale(key, deployment, facts, plan)
        desired = await self._delegate(key, autoscaler, memory.scaling, is_asked_for=is_hpa)
        await self._write(autoscaler, facts, plan, initialized=initialized, desired=desired)
        return _requeue(plan, facts) if not is_hpa or facts.demand else None

    async def _delegate(
        self, key: Key, autoscaler: Object, scaling: Scaling, *, is_asked_for: bool
    ) -> int | None:
        """Have a HorizontalPodAutoscaler scale the revision; how many that wants, once it says."""
        if not is_asked_for:
            live = self._horizontal.lister.get(key)
            if live is not None and objects.is_controlled_by(live, autoscaler):
                await children.delete(self._manager.client, resources.HORIZONTAL_POD_AUTOSCALER, live)
            return None
        document = hpa.document(autoscaler, scaling, reachable=_reachable(autoscaler))
        live = self._horizontal.lister.get(key)
        written = await self._children.of(autoscaler).apply(
            resources.HORIZONTAL_POD_AUTOSCALER, document, live
        )
        number = objects.status(written).get("desiredReplicas")
        return int(number) if number else None

    async def _wake(self, key: Key, deployment: Object, facts: Facts, plan: Plan) -> None:
        """Of a retired activator: pods for what it still holds. All else is its successor's to decide."""
        if facts.demand and plan.replicas > facts.replicas:
            await self._scale(key, deployment, facts, plan)

    def _ready(self, key: Key) -> list[Endpoint]:
        """The pods of the revision that may get requests."""
        endpoints = []
        for pod in self._of(key):
            address = objects.status(pod).get("podIP")
            if address and conditions.is_true(pod, "Ready") and not objects.is_deleting(pod):
                endpoints.append(Endpoint(str(address), _user_port(pod)))
        return sorted(endpoints)

    async def _listen(self, key: Key, autoscaler: Object) -> int:
        spec = objects.spec(autoscaler)
        return await self._activator.listen(
            key,
            concurrency=int(spec.get("containerConcurrency") or 0),
            limits=Limits(
                total_s=float(spec.get("timeoutSeconds") or TIMEOUT_S),
                response_start_s=_shorter(spec, "responseStartTimeoutSeconds"),
                idle_s=_shorter(spec, "idleTimeoutSeconds"),
            ),
            port=_port_in_use(self._slices.lister.get(key), self._activator.address),
        )

    def _memory(self, key: Key, autoscaler: Object, ready: int) -> _Memory:
        scaling, _ = wellknown.scaling(
            objects.annotations(autoscaler),
            container_concurrency=int(objects.spec(autoscaler).get("containerConcurrency") or 0),
            defaults=self._config().scaling,
        )
        memory = self._memories.get(key)
        if memory is None or memory.scaling != scaling:
            now_s = self._manager.clock.monotonic()
            memory = _Memory(scaling, Decider(scaling, now_s=now_s, ready=ready), observed_since_s=now_s)
            self._memories[key] = memory
        return memory

    async def _facts(
        self,
        key: Key,
        autoscaler: Object,
        deployment: Object,
        memory: _Memory,
        ready: int,
        *,
        initialized: bool,
    ) -> Facts:
        now_s = self._manager.clock.monotonic()
        reachable = _reachable(autoscaler)
        idle_s = None if memory.idle_since_s is None else now_s - memory.idle_since_s
        spec = objects.spec(autoscaler)
        created = clock.parse_rfc3339(str(objects.metadata(autoscaler)["creationTimestamp"]))
        if not ready and not self._activator.demand(key):
            memory.observed_since_s = now_s  # a window is one during which requests could be answered
        return Facts(
            scaling=memory.scaling,
            replicas=int(objects.spec(deployment).get("replicas") or 0),
            ready=ready,
            demand=self._activator.demand(key),
            decision=memory.decider.decide(now_s, ready, reachable=reachable),
            observed_s=now_s - memory.observed_since_s,
            timed=bool(_shorter(spec, "responseStartTimeoutSeconds") or _shorter(spec, "idleTimeoutSeconds")),
            initialized=initialized,
            reachable=reachable,
            quiet=memory.decider.quiet(now_s),
            idle_s=idle_s,
            drained=idle_s is not None and await self._asks_activator(key),
            age_s=self._manager.clock.now() - created,
        )

    async def _asks_activator(self, key: Key) -> bool:
        """Whether the proxy would send the revision's requests to the activator, and only there."""
        try:
            hosts = await self._proxy.hosts(proxy.revision_cluster(key.name, key.namespace, HTTP_PORT))
        except OSError:
            return False
        return bool(hosts) and all(host.startswith(f"{self._activator.address}:") for host in hosts)

    async def _point_endpoints(
        self, key: Key, autoscaler: Object, mode: Mode, ready: Sequence[Endpoint], port: int
    ) -> None:
        """Put the pods or the activator into the revision's Service."""
        serving = list(ready) if mode == "Serve" and ready else [Endpoint(self._activator.address, port)]
        desired = endpoint_slice(
            autoscaler, serving, stands_for_pods=serving[0].host == self._activator.address
        )
        live = self._slices.lister.get(key)
        if live is not None and _same_endpoints(live, desired):
            return
        await self._children.of(autoscaler).apply(resources.ENDPOINT_SLICE, desired, live)

    async def _scale(self, key: Key, deployment: Object, facts: Facts, plan: Plan) -> None:
        self._activator.starts.mark(key, coldstart.DECISION, self._now_ns())
        self._log.info(
            "scaled",
            revision=str(key),
            from_replicas=facts.replicas,
            to_replicas=plan.replicas,
            demand=facts.demand,
        )
        try:
            await self._manager.client.patch(
                resources.DEPLOYMENT,
                objects.name(deployment),
                key.namespace,
                patch={"spec": {"replicas": plan.replicas}},
                patch_type=PatchType.MERGE,
                subresource="scale",
                field_manager=FIELD_MANAGER,
            )
        except errors.NotFound:
            return
        self._activator.starts.mark(key, coldstart.SCALE, self._now_ns())

    async def _write(
        self, autoscaler: Object, facts: Facts, plan: Plan, *, initialized: bool, desired: int | None = None
    ) -> None:
        now = self._manager.clock.now()
        listed = conditions.set(
            conditions.of(autoscaler),
            "Active",
            plan.active,
            reason=plan.reason,
            message=plan.message,
            now=now,
        )
        scaled: conditions.Status = "True" if initialized else "Unknown"
        listed = conditions.set(listed, "ScaleTargetInitialized", scaled, now=now)
        listed = conditions.ready_from(listed, ("Active",), now=now)
        status = {
            "observedGeneration": objects.generation(autoscaler),
            "desiredScale": plan.replicas if desired is None else desired,
            "actualScale": facts.ready,
            "mode": plan.mode,
            "conditions": listed,
        }
        # To rest and to wake are no news, least of all a warning.
        announce = plan.reason == scaler.TIMED_OUT
        await self._status.write(autoscaler, status, announce=announce)


def endpoint_slice(
    autoscaler: Mapping[str, Any], serving: Sequence[Endpoint], *, stands_for_pods: bool = False
) -> Object:
    """The EndpointSlice of the revision's Service; all endpoints share one port.

    `stands_for_pods`: they are the activator, which hands on to the pods what it gets.
    """
    name = objects.name(autoscaler)
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": name,
            "namespace": objects.namespace(autoscaler),
            "labels": {
                cluster.SERVICE_NAME_LABEL: name,
                "endpointslice.kubernetes.io/managed-by": "autoscaler.ondol.dev",
                wellknown.REVISION_LABEL: name,
                **({mesh.CARRIES_TLS: "true"} if stands_for_pods else {}),
            },
            "ownerReferences": [objects.controller_reference(autoscaler)],
        },
        "addressType": "IPv4",
        "ports": [{"name": _port_name(autoscaler), "port": serving[0].port, "protocol": "TCP"}],
        "endpoints": [
            {"addresses": [e.host], "conditions": {"ready": True, "serving": True, "terminating": False}}
            for e in serving
        ],
    }


def _port_name(autoscaler: Mapping[str, Any]) -> str:
    return "http2" if objects.spec(autoscaler).get("protocolType") == "h2c" else "http"


def _same_endpoints(live: Mapping[str, Any], desired: Mapping[str, Any]) -> bool:
    def essence(obj: Mapping[str, Any]) -> object:
        ports = [(p.get("name"), p.get("port")) for p in obj.get("ports") or ()]
        stands = mesh.CARRIES_TLS in objects.labels(obj)
        return ports, stands, sorted(e["addresses"][0] for e in obj.get("endpoints") or ())

    return essence(live) == essence(desired)


def _port_in_use(present: Mapping[str, Any] | None, address: str) -> int:
    """The port the activator had before a restart, so that the proxy's endpoints stay right."""
    if present is None or [e["addresses"] for e in present.get("endpoints") or ()] != [[address]]:
        return 0
    return int(present["ports"][0]["port"])


def _shorter(spec: Mapping[str, Any], field: str) -> float:
    """A time that is less than the whole request may take; 0 where it says nothing more."""
    limit_s = float(spec.get(field) or 0)
    return limit_s if limit_s < float(spec.get("timeoutSeconds") or TIMEOUT_S) else 0.0


def _reachable(autoscaler: Mapping[str, Any]) -> bool:
    return objects.spec(autoscaler).get("reachability") != "Unreachable"


def _initialized(autoscaler: Mapping[str, Any]) -> bool:
    return conditions.is_true(autoscaler, "ScaleTargetInitialized")


def _requeue(plan: Plan, facts: Facts) -> Result | None:
    """At zero only events matter; otherwise time does too."""
    if plan.idle and plan.replicas:
        return Result(_DRAIN_POLL_S)
    if plan.replicas or facts.replicas or facts.demand:
        return Result(_TICK_S)
    return None


def _revision_key(obj: Object) -> list[Key]:
    name = objects.labels(obj).get(wellknown.REVISION_LABEL)
    return [Key(objects.namespace(obj), name)] if name else []


def _user_port(pod: Mapping[str, Any]) -> int:
    for container in objects.spec(pod).get("containers") or ():
        for port in container.get("ports") or ():
            if port.get("name") == "user-port":
                return int(port["containerPort"])
    return HTTP_PORT
