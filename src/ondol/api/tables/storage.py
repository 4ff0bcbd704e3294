"""The columns of claims and volumes, of their classes and of CSI drivers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from ondol.api import default_classes, objects
from ondol.api.tables import columns
from ondol.api.tables.columns import AGE, NAME, Cell, Column, Document, Layout, integer, string, wide
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


def _storage_class(obj: Document, now: float) -> Sequence[Cell]:
    is_default = default_classes.is_default(obj, default_classes.STORAGE)
    return (
        f"{objects.name(obj)} (default)" if is_default else objects.name(obj),
        obj.get("provisioner") or "",
        obj.get("reclaimPolicy") or "Delete",
        obj.get("volumeBindingMode") or "Immediate",
        bool(obj.get("allowVolumeExpansion")),
        columns.age_of(obj, now),
    )


def _attributes_class(obj: Document, now: float) -> Sequence[Cell]:
    return objects.name(obj), obj.get("driverName") or "", columns.age_of(obj, now)


def _attachment(obj: Document, now: float) -> Sequence[Cell]:
    spec = objects.spec(obj)
    return (
        objects.name(obj),
        spec.get("attacher") or "",
        (spec.get("source") or {}).get("persistentVolumeName") or "",
        spec.get("nodeName") or "",
        bool(objects.status(obj).get("attached")),
        columns.age_of(obj, now),
    )


def _csi_node(obj: Document, now: float) -> Sequence[Cell]:
    return objects.name(obj), len(objects.spec(obj).get("drivers") or ()), columns.age_of(obj, now)


def _csi_driver(obj: Document, now: float) -> Sequence[Cell]:
    spec = objects.spec(obj)
    requests = spec.get("tokenRequests")
    return (
        objects.name(obj),
        spec.get("attachRequired", True),
        bool(spec.get("podInfoOnMount")),
        bool(spec.get("storageCapacity")),
        _UNSET if requests is None else ",".join(request.get("audience") or "" for request in requests),
        bool(spec.get("requiresRepublish")),
        ",".join(spec.get("volumeLifecycleModes") or ()) or "<none>",
        columns.age_of(obj, now),
    )


def _capacity(obj: Document, _now: float) -> Sequence[Cell]:
    amount = obj.get("capacity")
    return (
        objects.name(obj),
        obj.get("storageClassName") or "",
        _UNSET if amount is None else quantity.canonical(amount),
    )


STORAGE_CLASS: Final = Layout(
    (
        NAME,
        string("Provisioner"),
        string("ReclaimPolicy"),
        string("VolumeBindingMode"),
        string("AllowVolumeExpansion"),
        AGE,
    ),
    _storage_class,
)
ATTRIBUTES_CLASS: Final = Layout((NAME, string("DriverName"), AGE), _attributes_class)
ATTACHMENT: Final = Layout(
    (
        NAME,
        Column("Attacher", format="name"),
        string("PV"),
        string("Node"),
        Column("Attached", "boolean"),
        AGE,
    ),
    _attachment,
)
CSI_NODE: Final = Layout((NAME, integer("Drivers"), AGE), _csi_node)
CSI_DRIVER: Final = Layout(
    (
        NAME,
        Column("AttachRequired", "boolean"),
        Column("PodInfoOnMount", "boolean"),
        Column("StorageCapacity", "boolean"),
        string("TokenRequests"),
        Column("RequiresRepublish", "boolean"),
        string("Modes"),
        AGE,
    ),
    _csi_driver,
)
CAPACITY: Final = Layout((NAME, string("StorageClassName"), string("Capacity")), _capacity)
