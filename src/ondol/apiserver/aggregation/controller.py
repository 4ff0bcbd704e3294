"""Follows the APIServices: which versions are elsewhere, and a keeper for each of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import anyio
import anyio.abc

from ondol.api import resources
from ondol.api.objects import Object
from ondol.apiserver import documents
from ondol.apiserver.aggregation import remotes
from ondol.apiserver.aggregation.remotes import Remote
from ondol.apiserver.core import Core
from ondol.base import errors, log
from ondol.store import Event, Record

if TYPE_CHECKING:
    from ondol.apiserver.aggregation.keeper import Keeper

_ELSEWHERE: Final = b'"service":'


class Controller:
    """Keeps `core.remotes` in step with the APIServices in the store."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._served = core.catalogue.of(resources.API_SERVICE)
        self._kept: dict[Remote, tuple[Keeper, anyio.CancelScope]] = {}
        """By what a keeper works with."""

    def load(self) -> None:
        """What is elsewhere now. Of all others not more is read than that they are not."""
        listed = [
            each
            for record in self._core.state.records(resources.API_SERVICE)
            if _ELSEWHERE in record.value and (each := remotes.remote(self._read(record))) is not None
        ]
        if listed or self._core.remotes.is_used:
            self._core.remotes.replace(listed)

    def _read(self, record: Record) -> Object:
        return self._core.document(self._served, record)

    async def run(self) -> None:
        """Handle every change, for ever."""
        store = self._core.store
        cursor = store.watch(self._served.bucket, after=store.revision)
        self._kept.clear()
        self.load()
        async with anyio.create_task_group() as group:
            following: anyio.CancelScope | None = None
            while True:
                self._keep(group)
                if self._kept and following is None:
                    following = anyio.CancelScope()
                    group.start_soon(self._follow, following)
                elif not self._kept and following is not None:
                    following.cancel()
                    following = None
                await cursor.changed()
                try:
                    events = cursor.take()
                except errors.Expired:
                    events, cursor = [], store.watch(self._served.bucket, after=store.revision)
                self.load()
                await self._came_back(events)

    async def _came_back(self, events: list[Event]) -> None:
        """An APIService that no longer names a Service is this server's own again, and so available."""
        from ondol.apiserver.aggregation import availability, keeper  # noqa: PLC0415 - few servers need them

        for event in events:
            was = event.previous is not None and _ELSEWHERE in event.previous.value
            if was and not event.deleted and _ELSEWHERE not in event.record.value:
                await keeper.write(self._core, event.record.name, availability.LOCAL)

    def _keep(self, group: anyio.abc.TaskGroup) -> None:
        desired = {each._replace(is_available=False) for each in self._core.remotes}
        for gone in self._kept.keys() - desired:
            self._kept.pop(gone)[1].cancel()
        for new in desired - self._kept.keys():
            from ondol.apiserver.aggregation.keeper import Keeper  # noqa: PLC0415 - few servers need it

            scope = anyio.CancelScope()
            keeper = Keeper(self._core, new)
            self._kept[new] = keeper, scope
            group.start_soon(_run, keeper, scope)

    async def _follow(self, scope: anyio.CancelScope) -> None:
        """Wake the keepers of Services that have changed, or whose endpoints have."""
        with scope:
            async with anyio.create_task_group() as group:
                for resource in (resources.SERVICE, resources.ENDPOINT_SLICE):
                    group.start_soon(self._wake, self._core.catalogue.of(resource).bucket)

    async def _wake(self, bucket: str) -> None:
        store = self._core.store
        cursor = store.watch(bucket, after=store.revision)
        while True:
            await cursor.changed()
            try:
                changed = [event.record for event in cursor.take()]
            except errors.Expired:
                changed, cursor = None, store.watch(bucket, after=store.revision)
            for remote, (keeper, _) in list(self._kept.items()):
                if changed is None or any(_may_concern(remote, record) for record in changed):
                    keeper.wake()


def _may_concern(remote: Remote, record: Record) -> bool:
    """Of a Service, or a slice: its label is text in it."""
    return record.name.startswith(f"{remote.namespace}/") and documents.dump(remote.service) in record.value


async def _run(keeper: Keeper, scope: anyio.CancelScope) -> None:
    with scope:
        while True:
            try:
                await keeper.run()
            except Exception as error:  # noqa: BLE001 - one that fails must not end the others
                log.get("apiserver").error("keeper_failed", api_service=keeper.name, exc_info=error)
                await keeper.pause()
