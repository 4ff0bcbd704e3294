"""`ephemeral`: the volume of a claim that was made for the pod and goes with it."""

from __future__ import annotations

from typing import Final

from ondol.api import volumes
from ondol.node.volumes.persistent_volume_claim import ClaimVolume
from ondol.node.volumes.volume import Kind, Spec, VolumeFailed


class EphemeralVolume(ClaimVolume):
    def claim_name(self, pod: Spec) -> str:
        return volumes.own_claim_name(pod, {"name": self.name})

    def require(self, claim: Spec, pod: Spec) -> None:
        """Refuse also one of that name that is somebody else's."""
        if not volumes.is_for_pod(claim, pod):
            raise VolumeFailed(volumes.not_for_pod(claim, pod))
        super().require(claim, pod)


KIND: Final[Kind] = EphemeralVolume
