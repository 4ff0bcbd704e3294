"""Reconciles Revisions: a Deployment, a Service and a PodAutoscaler, and how they fare."""

from __future__ import annotations

from collections.abc import Sequence

from ondol.api import objects
from ondol.api import resources as kinds
from ondol.api.objects import Key, Object
from ondol.base.errors import Cause
from ondol.contracts import serving
from ondol.sdk import Controller, Manager, Result
from ondol.serverless.serving import metadata as words
from ondol.serverless.serving import resources, status
from ondol.serverless.serving.children import AGAIN_S, ChildProblem, Children
from ondol.serverless.serving.service import owner_key
from ondol.serverless.serving.writing import write_status

_BY_REVISION = "revision"


class RevisionReconciler:
    """Puts a Revision's children in place; their number of replicas is the autoscaler's."""

    def __init__(self, manager: Manager) -> None:
        self._manager = manager
        self._children = Children(manager.client)
        self._revisions = manager.informer(serving.REVISION)
        self._deployments = manager.informer(kinds.DEPLOYMENT)
        self._services = manager.informer(kinds.SERVICE)
        self._scalers = manager.informer(serving.POD_AUTOSCALER)
        self._pods = manager.informer(kinds.POD)
        self._pods.add_index(_BY_REVISION, _revision_of)

    def controller(self) -> Controller:
        controller = Controller("knative-revision", self.reconcile, concurrency=4)
        controller.watch(self._revisions)
        controller.watch(self._deployments, owner_key)
        controller.watch(self._services, owner_key)
        controller.watch(self._scalers, owner_key)
        controller.watch(self._pods, lambda pod: [_key(text) for text in _revision_of(pod)])
        return controller

    async def reconcile(self, key: Key) -> Result | None:
        revision = self._revisions.lister.get(key)
        if revision is None:
            self._forget(key)
            return None
        if objects.is_deleting(revision):
            return None
        scaling, causes = words.scaling(
            objects.annotations(revision),
            container_concurrency=int(objects.spec(revision).get("containerConcurrency") or 0),
        )
        if not objects.status(revision):
            self._tell(revision, causes)
        problem = None
        deployment, scaler = None, self._scalers.lister.get(key)
        try:
            deployment, scaler = await self._apply(revision, scaling.progress_deadline_s)
        except ChildProblem as error:
            problem = status.Verdict("False", error.reason, str(error))
        pods = self._pods.lister.by_index(_BY_REVISION, str(key))
        now = self._manager.clock.now()
        wanted = status.revision(revision, deployment, scaler, pods, problem=problem, now=now)
        await write_status(self._manager, serving.REVISION, revision, wanted)
        return Result(AGAIN_S) if problem is not None else None

    def _tell(self, revision: Object, causes: Sequence[Cause]) -> None:
        """Say once which annotations do not hold, though a Service that has them is refused."""
        for cause in causes:
            self._manager.recorder.event(
                revision, "Warning", "InvalidAnnotation", f"{cause.field}: {cause.message}"
            )

    async def _apply(self, revision: Object, progress_deadline_s: float) -> tuple[Object, Object]:
        key = objects.key(revision)
        await self._children.apply(
            kinds.SERVICE, resources.revision_service(revision), self._services.lister.get(key)
        )
        wanted = resources.deployment(revision, progress_deadline_s=progress_deadline_s)
        deployment = await self._children.apply(
            kinds.DEPLOYMENT, wanted, self._deployments.lister.get(objects.key(wanted))
        )
        scaler = await self._children.apply(
            serving.POD_AUTOSCALER, resources.pod_autoscaler(revision), self._scalers.lister.get(key)
        )
        return deployment, scaler

    def _forget(self, key: Key) -> None:
        self._children.forget(kinds.SERVICE, key)
        self._children.forget(serving.POD_AUTOSCALER, key)
        self._children.forget(kinds.DEPLOYMENT, Key(key.namespace, resources.deployment_name(key.name)))


def _revision_of(pod: Object) -> list[str]:
    name = objects.labels(pod).get(words.REVISION_LABEL)
    return [str(Key(objects.namespace(pod), name))] if name else []


def _key(text: str) -> Key:
    namespace, _, name = text.partition("/")
    return Key(namespace, name)
