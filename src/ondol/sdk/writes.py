"""Read your writes: what a reconcile wrote, and whether the informers have seen it.

`TrackedClient` notes the resourceVersion of every write in the `Writes` of the reconcile it happens
in; the controller holds the key's next reconcile back until the informers concerned have caught up.
It costs an integer an informer: revisions only grow, so having seen a later one is having seen all.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable
from contextvars import ContextVar
from typing import Any, Final

from ondol.api import objects
from ondol.api.objects import Key, Object, Resource
from ondol.base import errors
from ondol.base.clock import Clock
from ondol.client import Client, PatchType
from ondol.client.transport import ConnectionLost, Transport
from ondol.sdk.informer import Informer

_LOOK_AGAIN_S: Final = (0.1, 0.5, 2.0)


class Writes:
    """The writes of one key that its next reconcile must be able to read."""

    def __init__(self) -> None:
        self._revisions: dict[Informer, int] = {}
        self._removed: list[tuple[Informer, Key, str]] = []

    def wrote(self, informer: Informer, obj: Object) -> None:
        version = objects.resource_version(obj)
        if version.isdigit():
            self._revisions[informer] = max(self._revisions.get(informer, 0), int(version))

    def removed(self, informer: Informer, key: Key, uid: str) -> None:
        self._removed.append((informer, key, uid))

    @property
    def seen(self) -> bool:
        """Whether every informer concerned has caught up; what was seen is forgotten."""
        self._revisions = {i: r for i, r in self._revisions.items() if i.revision < r}
        self._removed = [removal for removal in self._removed if _is_cached(*removal)]
        return not self._revisions and not self._removed

    def when_seen(self, then: Callable[[], None]) -> None:
        """Call `then` as each informer catches up; it looks at `seen` again itself."""
        for informer, revision in self._revisions.items():
            informer.when(lambda i=informer, r=revision: i.revision >= r, then)  # type: ignore[misc]  # defaults bind
        for removal in self._removed:
            removal[0].when(lambda r=removal: not _is_cached(*r), then)  # type: ignore[misc]  # defaults bind


def _is_cached(informer: Informer, key: Key, uid: str) -> bool:
    cached = informer.lister.get(key)
    return cached is not None and (not uid or objects.uid(cached) == uid)


CURRENT: ContextVar[Writes | None] = ContextVar("ondol_sdk_writes", default=None)
"""The writes of the reconcile that this task runs for."""


class TrackedClient(Client):
    """A client whose writes are noted for the reconcile they belong to."""

    def __init__(
        self,
        transport: Transport,
        informers: Callable[[], Iterable[Informer]],
        *,
        field_manager: str,
        user_agent: str,
        clock: Clock,
    ) -> None:
        super().__init__(transport, field_manager=field_manager, user_agent=user_agent, clock=clock)
        self._informers = informers

    async def create(self, resource: Resource, obj: Object, namespace: str = "", **options: Any) -> Object:
        try:
            created = await super().create(resource, obj, namespace, **options)
        except (ConnectionLost, errors.Timeout, errors.Internal):
            if not objects.name(obj):
                await self._look_for_unnamed(resource, obj, namespace or objects.namespace(obj))
            raise
        return self._noted(resource, created, options)

    async def _look_for_unnamed(self, resource: Resource, obj: Object, namespace: str) -> None:
        """A create without a name may have had its effect though no answer came, and would be repeated.

        So what there is of its kind and labels that the informers do not know yet is waited for, as if this
        reconcile had written it. Where even the look fails, again and again, the server is away altogether.
        """
        writes = CURRENT.get()
        informers = list(self._of(resource))
        if writes is None or not informers:
            return
        labels = ",".join(f"{name}={value}" for name, value in objects.labels(obj).items())
        for delay_s in (0.0, *_LOOK_AGAIN_S):
            await self.clock.sleep(delay_s)
            with contextlib.suppress(errors.ApiError):
                for live in (await self.list(resource, namespace, label_selector=labels)).items:
                    for informer in informers:
                        if informer.selection.includes(live) and not informer.lister.get(objects.key(live)):
                            writes.wrote(informer, live)
                return

    async def update(self, resource: Resource, obj: Object, **options: Any) -> Object:
        return self._noted(resource, await super().update(resource, obj, **options), options)

    async def patch(
        self,
        resource: Resource,
        name: str,
        namespace: str = "",
        *,
        patch: Any,
        patch_type: PatchType = PatchType.MERGE,
        **options: Any,
    ) -> Object:
        try:
            written = await super().patch(
                resource, name, namespace, patch=patch, patch_type=patch_type, **options
            )
        except errors.NotFound:
            self._missed(resource, Key(namespace, name))
            raise
        return self._noted(resource, written, options)

    async def delete(self, resource: Resource, name: str, namespace: str = "", **options: Any) -> Object:
        try:
            answer = await super().delete(resource, name, namespace, **options)
        except errors.NotFound:
            self._missed(resource, Key(namespace, name))
            raise
        if answer.get("kind") != "Status":
            return self._noted(resource, answer, options)
        writes = CURRENT.get()
        if writes is not None:
            key = Key(namespace, name)
            uid = str((answer.get("details") or {}).get("uid") or options.get("uid") or "")
            for informer in self._of(resource):
                if informer.lister.get(key) is not None:
                    writes.removed(informer, key, uid)
        return answer

    def _missed(self, resource: Resource, key: Key) -> None:
        """The object was gone already: the next reconcile must not see it in the cache either."""
        writes = CURRENT.get()
        for informer in self._of(resource) if writes is not None else ():
            cached = informer.lister.get(key)
            if cached is not None and writes is not None:
                writes.removed(informer, key, objects.uid(cached))

    def _noted(self, resource: Resource, written: Object, options: dict[str, Any]) -> Object:
        writes = CURRENT.get()
        if writes is None or options.get("dry_run") or options.get("subresource") not in (None, "", "status"):
            return written
        for informer in self._of(resource):
            if informer.selection.includes(written) or informer.lister.get(objects.key(written)) is not None:
                writes.wrote(informer, written)
        return written

    def _of(self, resource: Resource) -> Iterable[Informer]:
        name = (resource.group, resource.plural)
        return [i for i in self._informers() if (i.resource.group, i.resource.plural) == name]
