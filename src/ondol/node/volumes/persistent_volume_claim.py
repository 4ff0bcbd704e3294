"""`persistentVolumeClaim`: the PersistentVolume that a claim is bound to, a place of this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from ondol.api import objects, resources, volume_kinds, volumes
from ondol.node.volumes import group_ownership, host_path
from ondol.node.volumes.volume import (
    Elsewhere,
    Inputs,
    Kind,
    OwnFolder,
    Payload,
    Place,
    Plan,
    Spec,
    VolumeFailed,
    Waits,
)


class ClaimVolume(OwnFolder):
    """What is in it outlives the pod: it is the claim's."""

    @property
    def is_read_only(self) -> bool:  # type: ignore[override]  # of others it is the kind that says so
        return bool(self.source.get("readOnly"))

    def claim_name(self, pod: Spec) -> str:  # noqa: ARG002 - other claims are named after their pod
        return str(self.source["claimName"])

    def resolve(self, inputs: Inputs) -> Plan:
        name = self.claim_name(inputs.pod)
        try:
            return place_of(self._volume(name, inputs))
        except VolumeFailed as error:
            key = f"{objects.namespace(inputs.pod)}/{name}"
            return Waits(f"error processing PVC {key}: {error}")

    def _volume(self, name: str, inputs: Inputs) -> Spec:
        """The volume of the claim; `VolumeFailed` says why there is none yet."""
        claim = inputs.lookup.get(resources.PERSISTENT_VOLUME_CLAIM, name)
        if claim is None:
            missing = f'persistentvolumeclaims "{name}" not found'
            raise VolumeFailed(f"failed to fetch PVC from API server: {missing}")
        self.require(claim, inputs.pod)
        volume_name = volumes.volume_name(claim)
        volume = inputs.lookup.get(resources.PERSISTENT_VOLUME, volume_name)
        if volume is None:
            missing = f'persistentvolumes "{volume_name}" not found'
            raise VolumeFailed(f"failed to fetch PV {volume_name} from API server: {missing}")
        _require_bound(volume, claim)
        return volume

    def require(self, claim: Spec, pod: Spec) -> None:  # noqa: ARG002 - of others it is asked whose it is
        """Refuse a claim that no pod may begin with."""
        if objects.is_deleting(claim) and volumes.CLAIM_PROTECTION not in objects.finalizers(claim):
            raise VolumeFailed("PVC is being deleted")
        if volumes.phase(claim) != "Bound":
            raise VolumeFailed("PVC is not bound")
        if not volumes.volume_name(claim):
            raise VolumeFailed("PVC has empty pvc.Spec.VolumeName")

    def place(self, at: Place, files: Payload) -> None:  # noqa: ARG002 - it has none
        host_path.check(at.folder, at.type)
        if at.fs_group is not None and not self.is_read_only:
            group_ownership.give(at.folder, at.fs_group, only_on_mismatch=at.only_on_mismatch)

    def remove(self, folder: Path) -> None:
        """It is the claim's, not the pod's."""


def _require_bound(volume: Spec, claim: Spec) -> None:
    name, reference = objects.name(volume), volumes.claim_ref(volume)
    if reference is None:
        raise VolumeFailed(
            f"found PV object {name} but it has a nil pv.Spec.ClaimRef indicating it is not yet bound to the "
            "claim"
        )
    if reference.get("uid") != objects.uid(claim):
        raise VolumeFailed(
            f"found PV object {name} but its pv.Spec.ClaimRef.UID {reference.get('uid')} does not point to "
            f"claim.UID {objects.uid(claim)}"
        )


def place_of(volume: Spec) -> Elsewhere:
    """Where a PersistentVolume is on this machine; `VolumeFailed` for one that is nowhere here. Pure."""
    name, spec = objects.name(volume), objects.spec(volume)
    if volumes.volume_mode(volume) != "Filesystem":
        raise VolumeFailed(f"volume {name} has volumeMode Block, which is not supported on this node")
    if spec.get("mountOptions"):
        raise VolumeFailed(f"volume {name} has mountOptions: a place of the machine is mounted without any")
    if local := spec.get("local"):
        return Elsewhere(Path(local["path"]), "Directory", takes_group=True)
    if place := spec.get("hostPath"):
        return Elsewhere(Path(place["path"]), str(place.get("type") or ""))
    kinds = ", ".join(volume_kinds.PERSISTENT)
    raise VolumeFailed(f"volume {name} is none of the kinds that are supported on this node: {kinds}")


KIND: Final[Kind] = ClaimVolume
