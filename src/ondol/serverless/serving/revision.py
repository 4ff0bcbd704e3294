"""Reconciles Revisions: a Deployment, a Service and a PodAutoscaler, and how they fare."""

from __future__ import annotations

from collections.abc import Sequence

from ondol.api import objects, resources
from ondol.api.objects import Key, Object
from ondol.base.errors import Cause
from ondol.contracts import serving
from ondol.sdk import Children, Controller, Manager, Result
from ondol.serverless.autoscaler.decide import Scaling
from ondol.serverless.config import live
from ondol.serverless.config.live import LiveConfig
from ondol.serverless.serving import children, documents, verdicts, wellknown
from ondol.serverless.serving.children import FIELD_MANAGER, RETRY_S, ChildProblem
from ondol.serverless.serving.reporting import Reporter
from ondol.serverless.serving.service import owner_key

_BY_REVISION = "revision"
_CONFIG_MAPS = ("config-autoscaler", "config-deployment", "config-observability")


class RevisionReconciler:
    """Puts a Revision's children in place; their number of replicas is the autoscaler's."""

    def __init__(self, manager: Manager, config: LiveConfig) -> None:
        self._manager = manager
        self._config = config
        self._children = Children(manager.client, field_manager=FIELD_MANAGER)
        self._status = Reporter(
            manager, serving.REVISION, ("ResourcesAvailable", "ContainerHealthy", "Active")
        )
        self._revisions = manager.informer(serving.REVISION)
        self._deployments = manager.informer(resources.DEPLOYMENT)
        self._services = manager.informer(resources.SERVICE)
        self._scalers = manager.informer(serving.POD_AUTOSCALER)
        self._pods = manager.informer(resources.POD)
        self._pods.add_index(_BY_REVISION, _revision_of)

    def controller(self) -> Controller:
        controller = Controller("knative-revision", self.reconcile, concurrency=4)
        controller.watch(self._revisions)
        controller.watch(self._deployments, owner_key)
        controller.watch(self._services, owner_key)
        controller.watch(self._scalers, owner_key)
        controller.watch(self._pods, lambda pod: [_key(text) for text in _revision_of(pod)])
        live.follow(controller, self._manager, _CONFIG_MAPS, self._revisions.lister.list)
        return controller

    async def reconcile(self, key: Key) -> Result | None:
        revision = self._revisions.lister.get(key)
        if revision is None:
            self._children.forget(key)
            return None
        if objects.is_deleting(revision):
            return None
        scaling, causes = wellknown.scaling(
            objects.annotations(revision),
            container_concurrency=int(objects.spec(revision).get("containerConcurrency") or 0),
            defaults=self._config().scaling,
        )
        if not objects.status(revision):
            self._warn(revision, causes)
        problem = None
        deployment, scaler = None, self._scalers.lister.get(key)
        try:
            deployment, scaler = await self._apply(revision, scaling)
        except ChildProblem as error:
            problem = verdicts.Verdict("False", error.reason, str(error))
        pods = self._pods.lister.by_index(_BY_REVISION, str(key))
        now = self._manager.clock.now()
        desired = verdicts.revision_status(
            revision, deployment, scaler, pods, problem=problem, config=self._config(), now=now
        )
        await self._status.write(revision, desired)
        return Result(RETRY_S) if problem is not None else None

    def _warn(self, revision: Object, causes: Sequence[Cause]) -> None:
        """Tell once, in events, which annotations do not hold, though a Service that has them is refused."""
        for cause in causes:
            self._manager.recorder.event(
                revision, "Warning", "InvalidAnnotation", f"{cause.field}: {cause.message}"
            )

    async def _apply(self, revision: Object, scaling: Scaling) -> tuple[Object, Object]:
        key, family = objects.key(revision), self._children.of(revision)
        limits = ("responseStartTimeoutSeconds", "idleTimeoutSeconds")
        is_counted = scaling.container_concurrency > 0 or scaling.burst_capacity != 0
        is_counted |= any(objects.spec(revision).get(each) for each in limits)
        service = documents.revision_service(revision, is_counted=is_counted)
        await children.apply(family, resources.SERVICE, service, self._services.lister.get(key))
        desired = documents.deployment(
            revision,
            progress_deadline_s=scaling.progress_deadline_s,
            runtime_class=self._config().deployment.runtime_class(objects.labels(revision)),
        )
        present = self._deployments.lister.get(objects.key(desired))
        if not scaling.initial_scale and not objects.spec(present or {}).get("replicas"):
            # Without a number it would be Kubernetes' one. With its first pod the autoscaler owns the number,
            # and keeps it; said at zero, it is what the server has.
            desired["spec"]["replicas"] = 0
        deployment = await children.apply(family, resources.DEPLOYMENT, desired, present)
        autoscaler = documents.pod_autoscaler(revision)
        scaler = await children.apply(
            family, serving.POD_AUTOSCALER, autoscaler, self._scalers.lister.get(key)
        )
        return deployment, scaler


def _revision_of(pod: Object) -> list[str]:
    name = objects.labels(pod).get(wellknown.REVISION_LABEL)
    return [str(Key(objects.namespace(pod), name))] if name else []


def _key(text: str) -> Key:
    namespace, _, name = text.partition("/")
    return Key(namespace, name)
