"""Does what is planned for the pods and claims of StatefulSets, with events in Kubernetes' words."""

from __future__ import annotations

import itertools
from collections.abc import Awaitable, Callable, Sequence

from ondol.api import objects, resources
from ondol.api.objects import Object
from ondol.base import errors
from ondol.controllers.workloads.podcontrol import BURST, batches, is_terminating, together
from ondol.controllers.workloads.statefulset import plan
from ondol.controllers.workloads.statefulset.plan import Action
from ondol.sdk import Manager, children
from ondol.sdk.recorder import EventType


class SetPods:
    """The writes of one controller."""

    def __init__(self, manager: Manager, *, component: str) -> None:
        self._client = manager.client
        self._recorder = manager.recorder
        self._component = component

    async def carry_out(self, stateful_set: Object, actions: Sequence[Action]) -> list[Object]:
        """Do it in order, and what is of one kind together; the pods deleted. The first error is raised.

        Pods are not made for a set that changed or is gone, whose watch will tell, nor where the namespace is
        going away.
        """
        deleted: list[Object] = []
        makes = any(isinstance(action, plan.Create | plan.AddClaims) for action in actions)
        if makes and not await children.is_current(self._client, resources.STATEFUL_SET, stateful_set):
            return deleted
        for _, group in itertools.groupby(actions, type):
            for batch in batches(list(group)[:BURST]):
                try:
                    await together([self._call(stateful_set, action) for action in batch])
                except errors.ApiError as error:
                    if is_terminating(error):
                        return deleted
                    raise
                deleted += [action.pod for action in batch if isinstance(action, plan.Delete)]
        return deleted

    def _call(self, stateful_set: Object, action: Action) -> Callable[[], Awaitable[None]]:
        async def call() -> None:
            match action:
                case plan.Create(pod):
                    await self._create(stateful_set, pod)
                case plan.Delete(pod):
                    await self._delete(stateful_set, pod)
                case plan.Correct(pod, patch):
                    await self._correct(stateful_set, pod, patch)
                case plan.AddClaims(pod, claims):
                    for claim in claims:
                        await self._add_claim(stateful_set, pod, claim)
                case plan.Own(pod, claim, references):
                    await self._own(stateful_set, pod, claim, list(references))
                case plan.Tell(reason, message):
                    self._event(stateful_set, "Warning", reason, message)

        return call

    async def _create(self, stateful_set: Object, pod: Object) -> None:
        try:
            await self._client.create(resources.POD, pod, objects.namespace(stateful_set))
        except errors.ApiError as error:
            if await self._is_own(stateful_set, pod, error):
                return  # an earlier answer was lost
            if not is_terminating(error):
                self._tell(stateful_set, "Create", pod, error)
            raise
        self._tell(stateful_set, "Create", pod)

    async def _is_own(self, stateful_set: Object, pod: Object, error: errors.ApiError) -> bool:
        if not isinstance(error, errors.AlreadyExists):
            return False
        live = await self._client.get(resources.POD, objects.name(pod), objects.namespace(stateful_set))
        return objects.is_controlled_by(live, stateful_set)

    async def _delete(self, stateful_set: Object, pod: Object) -> None:
        try:
            if await children.delete(self._client, resources.POD, pod):
                self._tell(stateful_set, "Delete", pod)
        except errors.ApiError as error:
            self._tell(stateful_set, "Delete", pod, error)
            raise

    async def _correct(self, stateful_set: Object, pod: Object, patch: Object) -> None:
        try:
            await self._patch(resources.POD, pod, patch)
        except errors.NotFound:
            return
        except errors.ApiError as error:
            self._tell(stateful_set, "Update", pod, error)
            raise
        self._tell(stateful_set, "Update", pod)

    async def _add_claim(self, stateful_set: Object, pod: Object, claim: Object) -> None:
        name, owner = objects.name(claim), objects.name(stateful_set)
        try:
            await self._client.create(
                resources.PERSISTENT_VOLUME_CLAIM, claim, objects.namespace(stateful_set)
            )
        except errors.AlreadyExists:
            raise  # not in the cache yet: whether it can be used is seen then
        except errors.ApiError as error:
            if not is_terminating(error):
                text = f"for Pod {objects.name(pod)} in StatefulSet {owner} failed error: {error.message}"
                self._event(stateful_set, "Warning", "FailedCreate", f"Create Claim {name} {text}")
                refused = errors.ApiError(f"failed to create PVC {name}: {error.message}")
                self._tell(stateful_set, "Create", pod, refused)
            raise
        text = f"Create Claim {name} Pod {objects.name(pod)} in StatefulSet {owner} success"
        self._event(stateful_set, "Normal", "SuccessfulCreate", text)

    async def _own(self, stateful_set: Object, pod: Object, claim: Object, references: list[Object]) -> None:
        patch = {"metadata": {"ownerReferences": references}}
        try:
            await self._patch(resources.PERSISTENT_VOLUME_CLAIM, claim, patch)
        except errors.NotFound:
            return
        except errors.ApiError as error:
            name = objects.name(claim)
            text = f"could not update claim {name} for delete policy ownerRefs: {error.message}"
            self._tell(stateful_set, "Update", pod, errors.ApiError(text))
            raise

    async def _patch(self, resource: objects.Resource, obj: Object, patch: Object) -> None:
        """Exactly the version that was looked at; a change since is a Conflict."""
        metadata = {"uid": objects.uid(obj), "resourceVersion": objects.resource_version(obj)}
        await self._client.patch(
            resource,
            objects.name(obj),
            objects.namespace(obj),
            patch={**patch, "metadata": {**metadata, **(patch.get("metadata") or {})}},
        )

    def _tell(
        self, stateful_set: Object, verb: str, pod: Object, error: errors.ApiError | None = None
    ) -> None:
        text = f"{verb} Pod {objects.name(pod)} in StatefulSet {objects.name(stateful_set)}"
        if error is None:
            self._event(stateful_set, "Normal", f"Successful{verb}", f"{text} successful")
        else:
            self._event(stateful_set, "Warning", f"Failed{verb}", f"{text} failed error: {error.message}")

    def _event(self, stateful_set: Object, type: EventType, reason: str, message: str) -> None:
        self._recorder.event(stateful_set, type, reason, message, component=self._component)
