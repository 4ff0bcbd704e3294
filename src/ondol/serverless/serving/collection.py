"""Removes old Revisions that no Route points at, by `config-gc`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from ondol.api import objects
from ondol.api.objects import Key, Object
from ondol.base import clock
from ondol.contracts import serving
from ondol.sdk import Controller, Manager, Result
from ondol.sdk.children import delete
from ondol.serverless.config import live
from ondol.serverless.config.live import LiveConfig
from ondol.serverless.config.values import Collection
from ondol.serverless.serving import wellknown
from ondol.serverless.serving.service import owner_key, owner_uid

_BY_CONFIGURATION: Final = "configuration"
_CONFIG_MAPS: Final = ("config-gc",)


class CollectionReconciler:
    """One Configuration's Revisions at a time; it comes back when the next of them is old enough."""

    def __init__(self, manager: Manager, config: LiveConfig) -> None:
        self._manager = manager
        self._config = config
        self._configurations = manager.informer(serving.CONFIGURATION)
        self._revisions = manager.informer(serving.REVISION)
        self._revisions.add_index(_BY_CONFIGURATION, owner_uid)

    def controller(self) -> Controller:
        controller = Controller("knative-gc", self.reconcile, concurrency=1)
        controller.watch(self._configurations)
        controller.watch(self._revisions, owner_key)
        live.follow(controller, self._manager, _CONFIG_MAPS, self._configurations.lister.list)
        return controller

    async def reconcile(self, key: Key) -> Result | None:
        configuration = self._configurations.lister.get(key)
        if configuration is None or objects.is_deleting(configuration):
            return None
        own = self._revisions.lister.by_index(_BY_CONFIGURATION, str(objects.uid(configuration)))
        settings, now = self._config().collection, self._manager.clock.now()
        for revision in surplus(own, configuration, settings, now=now):
            if await delete(self._manager.client, serving.REVISION, revision):
                text = f"Deleted Revision {objects.name(revision)}: it is old, and no Route points at it"
                self._manager.recorder.event(configuration, "Normal", "RevisionCollected", text)
        due = next_due(own, configuration, settings, now=now)
        return None if due is None else Result(due - now)


def surplus(
    revisions: Sequence[Object], configuration: Mapping[str, Any], settings: Collection, *, now: float
) -> list[Object]:
    """Those to delete, the longest idle first: what is too old beyond the least, then what is too many."""
    idle = _idle(revisions, configuration)
    if len(revisions) <= settings.least or len(idle) <= settings.least:
        return []
    stale = [each for each in idle if _stale_at(each, settings) <= now][: len(idle) - settings.least]
    names = {objects.name(each) for each in stale}
    rest = [each for each in idle if objects.name(each) not in names]
    if settings.most is None:
        return stale
    return [*stale, *rest[: max(0, len(rest) - settings.most)]]


def next_due(
    revisions: Sequence[Object], configuration: Mapping[str, Any], settings: Collection, *, now: float
) -> float | None:
    """When one of those that may go will be old enough; None if time alone changes nothing."""
    idle = _idle(revisions, configuration)
    if len(idle) <= settings.least:
        return None
    later = [due for due in (_stale_at(each, settings) for each in idle) if now < due < _NEVER]
    return min(later, default=None)


_NEVER: Final = float("inf")


def _idle(revisions: Sequence[Object], configuration: Mapping[str, Any]) -> list[Object]:
    """Those that nobody uses or keeps, the longest idle first."""
    newest = {
        objects.status(configuration).get(field)
        for field in ("latestReadyRevisionName", "latestCreatedRevisionName")
    }
    idle = [
        revision
        for revision in revisions
        if objects.name(revision) not in newest
        and objects.annotations(revision).get(wellknown.NO_GC, "").lower() != "true"
        and objects.labels(revision).get(wellknown.ROUTING_STATE_LABEL) == "reserve"
        and not objects.is_deleting(revision)
    ]
    return sorted(idle, key=lambda each: (_active_at(each), objects.name(each)))


def _created_at(revision: Mapping[str, Any]) -> float:
    return clock.parse_rfc3339(str(objects.metadata(revision)["creationTimestamp"]))


def _active_at(revision: Mapping[str, Any]) -> float:
    """When a Route last pointed at it: the time of its state, or what an older Knative wrote of it."""
    notes = objects.annotations(revision)
    modified, pinned = notes.get(wellknown.ROUTING_STATE_MODIFIED), notes.get(wellknown.LAST_PINNED, "")
    if modified:
        return clock.parse_rfc3339(modified)
    return float(pinned) if pinned.isdigit() else _created_at(revision)


def _stale_at(revision: Mapping[str, Any], settings: Collection) -> float:
    """From when on it is too old: once both times that are asked for have passed."""
    times = [
        since + after
        for since, after in (
            (_created_at(revision), settings.since_create_s),
            (_active_at(revision), settings.since_active_s),
        )
        if after is not None
    ]
    return max(times, default=_NEVER)
