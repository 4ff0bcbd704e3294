"""A mesh pod's gate: its containers start only once its proxy listens in the sandbox it has now."""

from __future__ import annotations

from ondol.api import conditions, objects
from ondol.contracts import mesh
from ondol.node.pods.tracked import TrackedPod


class MeshGate:
    def __init__(self, tracked: TrackedPod) -> None:
        self._tracked = tracked
        self._is_in_mesh: bool | None = None

    async def is_in_mesh(self) -> bool:
        """As it was when it was asked first: a pod does not change sides."""
        if self._is_in_mesh is None:
            host, pod = self._tracked.host, self._tracked.pod
            self._is_in_mesh = host.config.mesh_enabled and mesh.in_mesh(
                pod, await host.sources.namespace(objects.namespace(pod))
            )
        return self._is_in_mesh

    async def is_open(self) -> bool:
        """Whether containers may start."""
        if not await self.is_in_mesh():
            return True
        record = self._tracked.record
        is_guarded = record.guarded_at is not None or not self._is_guarded()
        return record.has_sandbox and self._is_programmed() and is_guarded

    async def is_guard_asked(self) -> bool:
        """Whether what arrives at the pod is to be turned to the proxy, which listens for it."""
        return await self.is_in_mesh() and self._is_programmed() and self._is_guarded()

    async def is_proxy_gone(self) -> bool:
        """Whether a sandbox may be made: the mesh has seen that the former one is gone.

        Else its listener would stay in the dead namespace, and the condition that says it is there
        would let the containers start.
        """
        return not (await self.is_in_mesh() and self._is_programmed())

    def _is_programmed(self) -> bool:
        return conditions.is_true(self._tracked.pod, mesh.POD_PROGRAMMED)

    def _is_guarded(self) -> bool:
        return conditions.is_true(self._tracked.pod, mesh.POD_GUARDED)

    async def warn_if_closed(self) -> None:
        """Say it once, after a while, if the gate is still shut."""
        await self._tracked.host.clock.sleep(self._tracked.host.config.mesh_patience_s)
        if not self._tracked.is_over and not await self.is_open():
            message = "The mesh has not programmed this pod's proxy yet; its containers wait for it"
            self._tracked.event("Warning", "MeshNotProgrammed", message)
