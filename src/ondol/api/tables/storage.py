"""The columns of PersistentVolumeClaims and PersistentVolumes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from ondol.api import objects
from ondol.api.tables import columns
from ondol.api.tables.columns import AGE, NAME, Cell, Document, Layout, string, wide
from ondol.api.validation.claims import CLASS_ANNOTATION
from ondol.base import quantity

_UNSET: Final = "<unset>"
_MODES: Final = {
    "ReadWriteOnce": "RWO",
    "ReadOnlyMany": "ROX",
    "ReadWriteMany": "RWX",
    "ReadWriteOncePod": "RWOP",
}


def _modes(modes: Iterable[str] | None) -> str:
    return ",".join(short for mode, short in _MODES.items() if mode in (modes or ()))


def _phase(obj: Document) -> str:
    return "Terminating" if objects.is_deleting(obj) else str(objects.status(obj).get("phase") or "")


def _class(obj: Document) -> str:
    """What stood in the annotation before there was a field still counts first."""
    return objects.annotations(obj).get(CLASS_ANNOTATION) or objects.spec(obj).get("storageClassName") or ""


def _amount(amounts: Document | None) -> str:
    return quantity.canonical((amounts or {}).get("storage") or "0")


def _claim(obj: Document, now: float) -> Sequence[Cell]:
    spec, status = objects.spec(obj), objects.status(obj)
    is_bound = bool(spec.get("volumeName"))
    return (
        objects.name(obj),
        _phase(obj),
        spec.get("volumeName") or "",
        _amount(status.get("capacity")) if is_bound else "",
        _modes(status.get("accessModes")) if is_bound else "",
        _class(obj),
        spec.get("volumeAttributesClassName") or _UNSET,
        columns.age_of(obj, now),
        spec.get("volumeMode") or _UNSET,
    )


def _volume(obj: Document, now: float) -> Sequence[Cell]:
    spec = objects.spec(obj)
    claim = spec.get("claimRef")
    return (
        objects.name(obj),
        _amount(spec.get("capacity")),
        _modes(spec.get("accessModes")),
        spec.get("persistentVolumeReclaimPolicy") or "",
        _phase(obj),
        f"{claim.get('namespace') or ''}/{claim.get('name') or ''}" if claim is not None else "",
        _class(obj),
        spec.get("volumeAttributesClassName") or _UNSET,
        objects.status(obj).get("reason") or "",
        columns.age_of(obj, now),
        spec.get("volumeMode") or _UNSET,
    )


CLAIM: Final = Layout(
    (
        NAME,
        string("Status"),
        string("Volume"),
        string("Capacity"),
        string("Access Modes"),
        string("StorageClass"),
        string("VolumeAttributesClass"),
        AGE,
        wide("VolumeMode"),
    ),
    _claim,
)
VOLUME: Final = Layout(
    (
        NAME,
        string("Capacity"),
        string("Access Modes"),
        string("Reclaim Policy"),
        string("Status"),
        string("Claim"),
        string("StorageClass"),
        string("VolumeAttributesClass"),
        string("Reason"),
        AGE,
        wide("VolumeMode"),
    ),
    _volume,
)
