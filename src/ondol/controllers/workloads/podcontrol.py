"""The pods of a workload: made from its template, adopted or released, and removed, with events.

What a controller wrote is read back before the same object is reconciled again (see
`ondol.sdk.writes`): there is nothing to expect and nothing to count here.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final, TypeVar

import anyio

from ondol.api import objects, resources
from ondol.api.objects import Key, Object
from ondol.base import errors
from ondol.client import PatchType
from ondol.controllers.workloads.claims import Claims
from ondol.sdk import Controller, Informer, Manager, children
from ondol.sdk.recorder import EventType

BURST: Final = 500
"""How many pods one reconcile makes or removes at most."""
_FIRST_BATCH: Final = 4
Item = TypeVar("Item")


def pod_from_template(
    owner: Object,
    template: Mapping[str, Any],
    *,
    name: str = "",
    labels: Mapping[str, str] = MappingProxyType({}),
    annotations: Mapping[str, str] = MappingProxyType({}),
    finalizers: Sequence[str] = (),
) -> Object:
    """A pod of the template, controlled by the owner; without a name the server makes one of the owner's.

    `labels`, `annotations` and `finalizers` are the pod's beside the template's, and win over them. The pod
    is the caller's own: nothing of it is shared with the owner or the template, which informers keep.
    """
    metadata = template.get("metadata") or {}
    of_pod = {
        "labels": {**(metadata.get("labels") or {}), **labels},
        "annotations": {**(metadata.get("annotations") or {}), **annotations},
        "finalizers": list(dict.fromkeys([*(metadata.get("finalizers") or ()), *finalizers])),
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            **{field: value for field, value in of_pod.items() if value},
            **({"name": name} if name else {"generateName": f"{objects.name(owner)}-"}),
            "namespace": objects.namespace(owner),
            "ownerReferences": [objects.controller_reference(owner)],
        },
        "spec": copy.deepcopy(template.get("spec") or {}),
    }


class PodControl:
    """The pods of all owners of one kind; one for a controller, made before its manager runs."""

    def __init__(self, manager: Manager, owners: Informer, *, component: str) -> None:
        """`component` is the controller's name in events."""
        self._client = manager.client
        self._recorder = manager.recorder
        self._owners = owners
        self._component = component
        self.pods = manager.informer(resources.POD)
        self._claims = Claims(manager.client, owners, self.pods)

    def watch(self, controller: Controller) -> None:
        """Reconcile an owner on each change of its pods, and of orphans that it may adopt."""
        controller.watch(self.pods, self.owners_of)

    def owners_of(self, pod: Object) -> list[Key]:
        return list(self._claims.owners_of(pod))

    def owned(self, owner: Object) -> list[Object]:
        """The pods that name the owner as their controller, whatever their labels."""
        return self._claims.owned(owner)

    async def claim(self, owner: Object) -> list[Object]:
        """The pods that are the owner's now; orphans are adopted, strangers released."""
        return await self._claims.claim(owner)

    async def create(self, owner: Object, pods: Sequence[Object]) -> list[Object]:
        """Create pods in growing batches (4, 8, 16, …); those created.

        When the first are refused, few others were tried in vain: the first error is raised, after an
        event. None are created for an owner that changed or is gone, whose watch will tell, and no
        more where the namespace is going away. One that has a name is not made twice: where the owner's is
        there already, an earlier answer was lost.
        """
        created: list[Object] = []
        if not pods or not await children.is_current(self._client, self._owners.resource, owner):
            return created

        async def one(document: Object) -> None:
            try:
                pod = await self._client.create(resources.POD, document, objects.namespace(owner))
            except errors.AlreadyExists:
                if not objects.name(document):
                    raise
                created.append(await self._existing(owner, document))
                return
            created.append(pod)
            self._event(owner, "Normal", "SuccessfulCreate", f"Created pod: {objects.name(pod)}")

        for batch in batches(pods):
            try:
                await together([lambda pod=pod: one(pod) for pod in batch])  # type: ignore[misc] # defaults bind
            except errors.ApiError as error:
                if is_terminating(error):
                    return created
                self._event(owner, "Warning", "FailedCreate", f"Error creating: {error.message}")
                raise
        return created

    async def delete(self, owner: Object, pods: Sequence[Object]) -> None:
        """Delete exactly these pods, all at once; then the first error is raised."""
        await together([lambda pod=pod: self._delete(owner, pod) for pod in pods])  # type: ignore[misc] # defaults bind

    async def release(self, pods: Sequence[Object], finalizer: str) -> list[Object]:
        """Take the finalizer off these pods, all at once; those that have none any more, gone ones too.

        The first error is raised, when all were tried.
        """
        released: list[Object] = []

        async def one(pod: Object) -> None:
            patch = {"uid": objects.uid(pod), "$deleteFromPrimitiveList/finalizers": [finalizer]}
            with contextlib.suppress(errors.NotFound):
                await self._client.patch(
                    resources.POD,
                    objects.name(pod),
                    objects.namespace(pod),
                    patch={"metadata": patch},
                    patch_type=PatchType.STRATEGIC,
                )
            released.append(pod)

        await together([lambda pod=pod: one(pod) for pod in pods])  # type: ignore[misc] # defaults bind
        return released

    async def _existing(self, owner: Object, document: Object) -> Object:
        """The pod of the name, if it is the owner's; `AlreadyExists` if it is another's."""
        name = objects.name(document)
        live = await self._client.get(resources.POD, name, objects.namespace(owner))
        if not objects.is_controlled_by(live, owner):
            raise errors.AlreadyExists(f'pods "{name}" already exists')
        return live

    async def _delete(self, owner: Object, pod: Object) -> None:
        try:
            if await children.delete(self._client, resources.POD, pod):
                self._event(owner, "Normal", "SuccessfulDelete", f"Deleted pod: {objects.name(pod)}")
        except errors.ApiError as error:
            self._event(owner, "Warning", "FailedDelete", f"Error deleting: {error.message}")
            raise

    def _event(self, owner: Object, type: EventType, reason: str, message: str) -> None:
        self._recorder.event(owner, type, reason, message, component=self._component)


def is_terminating(error: errors.ApiError) -> bool:
    """Whether a create was refused because its namespace is going away, and its owner with it."""
    return any(cause.reason == "NamespaceTerminating" for cause in error.causes)


def batches(items: Sequence[Item]) -> Iterator[Sequence[Item]]:
    """In order, and ever larger ones (4, 8, 16, …): where the first fail, few others were tried in vain."""
    start, size = 0, _FIRST_BATCH
    while start < len(items):
        yield items[start : start + size]
        start, size = start + size, size * 2


async def together(calls: Sequence[Callable[[], Awaitable[None]]]) -> None:
    """Run all at once and to their end; then raise the first API error, if any."""
    failures: list[errors.ApiError] = []

    async def attempt(call: Callable[[], Awaitable[None]]) -> None:
        try:
            await call()
        except errors.ApiError as error:
            failures.append(error)

    async with anyio.create_task_group() as tasks:
        for call in calls:
            tasks.start_soon(attempt, call)
    if failures:
        raise failures[0]
