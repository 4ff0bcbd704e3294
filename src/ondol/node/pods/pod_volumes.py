"""A pod's volumes, each by itself: resolved, begun, placed, brought up to date, and removed.

Before anything is made of a volume the record says so, with all that is needed to remove it: whatever was
begun is removed when the pod ends, also by a later agent that never sees the pod.
"""

from __future__ import annotations

from pathlib import Path

from ondol.api import objects
from ondol.node import pod_spec
from ondol.node.pods import env, lifecycle
from ondol.node.pods.model import Spec
from ondol.node.pods.tracked import TrackedPod
from ondol.node.volumes import registry
from ondol.node.volumes.lookup import ReadObjects, Reference
from ondol.node.volumes.volume import Elsewhere, Files, Inputs, Place, VolumeFailed, Waits


class PodVolumes:
    def __init__(self, tracked: TrackedPod) -> None:
        self._tracked = tracked
        self._placed: set[str] = set()
        """By this agent; what an earlier one placed is placed again, for it may have ended in the middle."""
        self.references: frozenset[Reference] = frozenset()
        """The objects that the volumes were made from."""

    @property
    def are_placed(self) -> bool:
        """Whether all are where containers can mount them."""
        record = self._tracked.record
        return all(record.volume(str(spec["name"])).is_placed for spec in _specs(self._tracked.pod))

    async def bring_up_to_date(self) -> None:
        """Make each volume, or have it follow; `VolumeFailed` says what some of them wait for."""
        tracked = self._tracked
        pod, specs = tracked.allocated, _specs(tracked.pod)
        if not specs:
            return
        host = tracked.host
        lookup = ReadObjects(objects.namespace(pod))
        facts = env.pod_facts(host.config, host.allocatable, tracked.record)
        try:
            inputs = Inputs(pod, lookup, facts, await host.sources.tokens(pod))
            waits = [wait for spec in specs if (wait := await self._follow(spec, inputs, lookup))]
        except BaseException:
            self.references |= lookup.references  # what was read until now may be what it failed for
            raise
        self.references = lookup.references
        if waits:
            raise VolumeFailed("; ".join(waits))

    async def _follow(self, spec: Spec, inputs: Inputs, lookup: ReadObjects) -> str:
        """What the volume waits for, or nothing once it is as it should be."""
        volume = registry.of(spec)
        plan = await lookup.resolved(lambda: volume.resolve(inputs), self._tracked.host.sources.read)
        if isinstance(plan, Waits):
            return plan.message
        await self._put(spec, plan)
        return ""

    async def _put(self, spec: Spec, plan: Files | Elsewhere) -> None:
        tracked, name = self._tracked, str(spec["name"])
        folder = await self._begin(spec, plan)
        group, revision = pod_spec.fs_group(tracked.pod), str(int(tracked.host.clock.now() * 1e6))
        files, type_ = (plan.content, "") if isinstance(plan, Files) else ({}, plan.type)
        if isinstance(plan, Elsewhere) and not plan.takes_group:
            group = None
        is_lenient = pod_spec.changes_group_on_mismatch(tracked.pod)
        at = Place(folder, group, revision, type_, only_on_mismatch=is_lenient)
        await tracked.host.machine.put_volume(tracked.pod, spec, at, files, is_refresh=name in self._placed)
        self._placed.add(name)
        if not tracked.record.volume(name).is_placed:
            tracked.keep(lifecycle.volume_placed(tracked.record, name))

    async def _begin(self, spec: Spec, plan: Files | Elsewhere) -> Path:
        """Where it is put. One that containers may have mounted stays where it is."""
        tracked, name = self._tracked, str(spec["name"])
        own = tracked.host.config.volume_dir(tracked.uid, name)
        folder = plan.folder if isinstance(plan, Elsewhere) else own
        begun = tracked.record.volumes.get(name)
        if begun is not None and begun.is_placed:
            return Path(begun.folder)
        if begun is None or begun.folder != str(folder):
            if begun is not None:
                await self._remove(name)
            tracked.keep(lifecycle.volume_begun(tracked.record, spec, str(folder)))
        tracked.ensure_saved()
        return folder

    async def remove(self) -> None:
        """Give back whatever was begun, of each volume once."""
        for name in list(self._tracked.record.volumes):
            await self._remove(name)

    async def _remove(self, name: str) -> None:
        tracked = self._tracked
        volume = tracked.record.volumes[name]
        await tracked.host.machine.remove_volume(tracked.uid, volume.spec, Path(volume.folder))
        self._placed.discard(name)
        tracked.keep(lifecycle.volume_removed(tracked.record, name))


def _specs(pod: Spec) -> list[Spec]:
    return list(objects.spec(pod).get("volumes") or ())
