"""Rules of PersistentVolumeClaims and PersistentVolumes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from ondol.api import objects
from ondol.api.schema import causes
from ondol.api.validation import fields, workloads
from ondol.base import quantity
from ondol.base.errors import Cause

_MODES: Final = ("ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod")
_VOLUME_MODES: Final = ("Block", "Filesystem")
_RECLAIM: Final = ("Delete", "Recycle", "Retain")
CLASS_ANNOTATION: Final = "volume.beta.kubernetes.io/storage-class"
"""Where the storage class stood before it was a field; what stands there still counts."""
NOT_SOURCES: Final = frozenset(
    {
        "accessModes",
        "capacity",
        "claimRef",
        "mountOptions",
        "nodeAffinity",
        "persistentVolumeReclaimPolicy",
        "storageClassName",
        "volumeAttributesClassName",
        "volumeMode",
    }
)
"""Fields of a volume's spec that do not say what it is made of."""
_NEEDED: Final = (
    ("csi", "driver"),
    ("csi", "volumeHandle"),
    ("hostPath", "path"),
    ("local", "path"),
    ("nfs", "path"),
    ("nfs", "server"),
)
"""Fields of sources that say where the data is."""
_CLAIM_FIXED: Final = (
    "spec is immutable after creation except "
    "resources.requests and volumeAttributesClassName for bound claims"
)


def claim(obj: Mapping[str, Any]) -> Iterator[Cause]:
    yield from claim_spec(objects.spec(obj), "spec")


def claim_spec(spec: Mapping[str, Any], path: str) -> Iterator[Cause]:
    """Of a claim, or of a template for claims."""
    modes = spec.get("accessModes") or ()
    if not modes:
        yield causes.required(f"{path}.accessModes", "at least 1 access mode is required")
    if spec.get("selector") is not None:
        yield from workloads.label_selector(spec["selector"], f"{path}.selector")
    yield from _access_modes(modes, f"{path}.accessModes")
    size = ((spec.get("resources") or {}).get("requests") or {}).get("storage")
    if size is None:
        yield causes.required(f"{path}.resources[storage]")
    else:
        yield from _size(f"{path}.resources[storage]", size)
    for field in ("storageClassName", "volumeAttributesClassName"):
        if spec.get(field):
            yield from fields.subdomain(f"{path}.{field}", spec[field])
    if spec.get("volumeMode") is not None and spec["volumeMode"] not in _VOLUME_MODES:
        yield causes.not_supported(f"{path}.volumeMode", spec["volumeMode"], _VOLUME_MODES)
    yield from _sources(spec, path)


def _access_modes(modes: Iterable[str], path: str) -> Iterator[Cause]:
    for mode in modes:
        if mode not in _MODES:
            yield causes.not_supported(path, mode, _MODES)
    valid_modes = {mode for mode in modes if mode in _MODES}
    if "ReadWriteOncePod" in valid_modes and len(valid_modes) > 1:
        yield causes.forbidden(path, "may not use ReadWriteOncePod with other access modes")


def _size(path: str, size: Any) -> Iterator[Cause]:
    amount = quantity.parse(size)
    if amount <= 0:
        yield causes.invalid(path, size, "must be greater than zero")
    elif amount.denominator != 1:
        yield causes.invalid(path, size, "must be an integer")


def _sources(spec: Mapping[str, Any], path: str) -> Iterator[Cause]:
    source, ref = spec.get("dataSource"), spec.get("dataSourceRef")
    for field, data in (("dataSource", source), ("dataSourceRef", ref)):
        if data is not None:
            yield from _source(data, f"{path}.{field}")
    if ref is None or source is None:
        return
    if ref.get("namespace"):
        detail = "may not be specified when dataSourceRef.namespace is specified"
        yield causes.invalid(path, f"{path}.dataSource", detail)
    elif any(source.get(field) != ref.get(field) for field in ("apiGroup", "kind", "name")):
        yield causes.invalid(path, f"{path}.dataSource", "must match dataSourceRef")


def _source(data: Mapping[str, Any], path: str) -> Iterator[Cause]:
    for field in ("name", "kind"):
        if not data.get(field):
            yield causes.required(f"{path}.{field}")
    group = data.get("apiGroup") or ""
    if not group and data.get("kind") != "PersistentVolumeClaim":
        detail = "must be 'PersistentVolumeClaim' when referencing the default apiGroup"
        yield causes.invalid(path, data.get("kind") or "", detail)
    if group:
        yield from fields.subdomain(f"{path}.apiGroup", group)
    if data.get("namespace"):
        yield from fields.label(f"{path}.namespace", data["namespace"])


def claim_update(new: Mapping[str, Any], old: Mapping[str, Any]) -> Iterator[Cause]:
    """A claim is as it was asked for; only a bound one may grow, and the volume is named once."""
    spec, was = {**objects.spec(new)}, {**objects.spec(old)}
    annotation = (objects.annotations(obj).get(CLASS_ANNOTATION, "") for obj in (new, old))
    yield from fields.same(f"metadata.annotations.{CLASS_ANNOTATION}", *annotation)
    size, old_size = _request(spec), _request(was)
    if not was.get("volumeName"):
        _take(was, spec, "volumeName")
    earlier = objects.annotations(old).get(CLASS_ANNOTATION)
    if not was.get("storageClassName") and earlier in (None, spec.get("storageClassName")):
        _take(was, spec, "storageClassName")
    if objects.status(new).get("phase") == "Bound":
        _take(spec, was, "volumeAttributesClassName")
        spec["resources"] = _sized(spec.get("resources") or {}, old_size)
    if spec != was:
        yield causes.forbidden("spec", _CLAIM_FIXED)
    if size is not None and old_size is not None and quantity.parse(size) < quantity.parse(old_size):
        capacity = (objects.status(old).get("capacity") or {}).get("storage", "0")
        if quantity.parse(size) <= quantity.parse(capacity):
            detail = "field can not be less than status.capacity"
            yield causes.forbidden("spec.resources.requests.storage", detail)
    yield from fields.same("volumeMode", spec.get("volumeMode"), was.get("volumeMode"))


def _take(spec: Any, other: Mapping[str, Any], field: str) -> None:
    spec.pop(field, None)
    if field in other:
        spec[field] = other[field]


def _request(spec: Mapping[str, Any]) -> Any:
    return ((spec.get("resources") or {}).get("requests") or {}).get("storage")


def _sized(resources: Mapping[str, Any], size: Any) -> Mapping[str, Any]:
    return {**resources, "requests": {**(resources.get("requests") or {}), "storage": size}}


def volume(obj: Mapping[str, Any]) -> Iterator[Cause]:
    spec = objects.spec(obj)
    modes, capacity = spec.get("accessModes") or (), spec.get("capacity") or {}
    if not modes:
        yield causes.required("spec.accessModes")
    yield from _access_modes(modes, "spec.accessModes")
    if not capacity:
        yield causes.required("spec.capacity")
    if set(capacity) != {"storage"}:
        yield causes.not_supported("spec.capacity", dict(capacity) or None, ("storage",))
    for name, amount in capacity.items():
        if quantity.parse(amount) <= 0:
            yield causes.invalid(f"spec.capacity[{name}]", amount, "must be greater than zero")
    policy = spec.get("persistentVolumeReclaimPolicy")
    yield from fields.one_of("spec.persistentVolumeReclaimPolicy", policy, _RECLAIM)
    yield from _of_volume(spec)
    if spec.get("storageClassName"):
        yield from fields.subdomain("spec.storageClassName", spec["storageClassName"])
    yield from fields.one_of("spec.volumeMode", spec.get("volumeMode"), _VOLUME_MODES)
    yield from _affinity(spec)


def _of_volume(spec: Mapping[str, Any]) -> Iterator[Cause]:
    """What the volume is made of: exactly one thing."""
    sources = [field for field in spec if field not in NOT_SOURCES]
    if not sources:
        yield causes.required("spec", "must specify a volume type")
    for extra in sources[1:]:
        yield causes.forbidden(f"spec.{extra}", "may not specify more than 1 volume type")
    for source, field in _NEEDED:
        if spec.get(source) is not None and not spec[source].get(field):
            yield causes.required(f"spec.{source}.{field}")
    for source in ("hostPath", "local"):
        if ".." in str((spec.get(source) or {}).get("path") or "").split("/"):
            yield causes.invalid(f"spec.{source}.path", spec[source]["path"], "must not contain '..'")
    is_root = (spec.get("hostPath") or {}).get("path") == "/"
    if is_root and spec.get("persistentVolumeReclaimPolicy") == "Recycle":
        detail = "may not be 'recycle' for a hostPath mount of '/'"
        yield causes.forbidden("spec.persistentVolumeReclaimPolicy", detail)


def _affinity(spec: Mapping[str, Any]) -> Iterator[Cause]:
    affinity = spec.get("nodeAffinity")
    if affinity is None:
        if spec.get("local") is not None:
            yield causes.required("spec.nodeAffinity", "Local volume requires node affinity")
        return
    required = affinity.get("required")
    if required is None:
        detail = "must specify required node constraints"
        yield causes.required("spec.nodeAffinity.required", detail)
    elif not required.get("nodeSelectorTerms"):
        detail = "must have at least one node selector term"
        yield causes.required("spec.nodeAffinity.required.nodeSelectorTerms", detail)


def volume_update(new: Mapping[str, Any], old: Mapping[str, Any]) -> Iterator[Cause]:
    spec, was = objects.spec(new), objects.spec(old)
    if _volume_source(spec, was) != _volume_source(was, was):
        detail = "spec.persistentvolumesource is immutable after creation"
        yield causes.forbidden("spec.persistentvolumesource", detail)
    yield from fields.same("volumeMode", spec.get("volumeMode"), was.get("volumeMode"))
    if was.get("nodeAffinity") is not None:
        yield from fields.same("nodeAffinity", spec.get("nodeAffinity"), was["nodeAffinity"])
    field = "volumeAttributesClassName"
    if was.get(field) is not None and spec.get(field) is None:
        yield causes.forbidden(f"spec.{field}", "update from non-nil value to nil is forbidden")


def _volume_source(spec: Mapping[str, Any], was: Mapping[str, Any]) -> dict[str, Any]:
    """The source; a secret for growing it may still be named where there was none."""
    sources = {field: value for field, value in spec.items() if field not in NOT_SOURCES}
    csi = sources.get("csi")
    if csi is not None and "controllerExpandSecretRef" not in (was.get("csi") or {}):
        sources["csi"] = {k: v for k, v in csi.items() if k != "controllerExpandSecretRef"}
    return sources
