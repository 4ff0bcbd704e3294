"""Rules of storage classes, of attachments, and of what CSI drivers say of themselves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from ondol.api import objects
from ondol.api.schema import causes
from ondol.api.validation import fields, webhooks, workloads
from ondol.base import names, quantity
from ondol.base.errors import Cause

_PARAMETERS_MAX: Final = 512
_PARAMETERS_BYTES: Final = 256 * 1024
_DRIVER_NAME_MAX: Final = 63
_NODE_ID_MAX: Final = 256
_PERIOD_MIN_S: Final = 10
_TOKEN_MIN_S: Final = 600
_ONE_SOURCE: Final = "must specify exactly one of inlineVolumeSpec and persistentVolumeName"


def storage_class(obj: Mapping[str, Any]) -> Iterator[Cause]:
    yield from _provisioner("provisioner", obj.get("provisioner") or "")
    yield from _parameters(obj.get("parameters") or {})
    yield from fields.one_of("reclaimPolicy", obj.get("reclaimPolicy"), ("Delete", "Retain"))
    modes = ("Immediate", "WaitForFirstConsumer")
    yield from webhooks.chosen("volumeBindingMode", obj.get("volumeBindingMode"), modes)
    seen: list[Any] = []
    for index, term in enumerate(obj.get("allowedTopologies") or ()):
        path = f"allowedTopologies[{index}].matchLabelExpressions"
        expressions = term.get("matchLabelExpressions") or ()
        for at, expression in enumerate(expressions):
            yield from _topology(expression, f"{path}[{at}]")
        yield from fields.unique(path, ((i, e.get("key") or "") for i, e in enumerate(expressions)), "key")
        meaning = {e.get("key") or "": set(e.get("values") or ()) for e in expressions}
        if meaning in seen:
            yield causes.duplicate(path, "")
        seen.append(meaning)


def _topology(expression: Mapping[str, Any], path: str) -> Iterator[Cause]:
    if not expression.get("values"):
        yield causes.required(f"{path}.values")
    yield from fields.unique(f"{path}.values", enumerate(expression.get("values") or ()))
    yield from fields.qualified(f"{path}.key", expression.get("key") or "")


def storage_class_update(new: Mapping[str, Any], old: Mapping[str, Any]) -> Iterator[Cause]:
    """What volumes were made by stays what it was."""
    yield from _unchanged(new, old, ("parameters", "provisioner", "reclaimPolicy"))
    mode, was = new.get("volumeBindingMode"), old.get("volumeBindingMode")
    yield from fields.same("volumeBindingMode", mode, was)


def _unchanged(new: Mapping[str, Any], old: Mapping[str, Any], immutable: tuple[str, ...]) -> Iterator[Cause]:
    for field in immutable:
        if (new.get(field) or {}) != (old.get(field) or {}):
            yield causes.forbidden(field, f"updates to {field} are forbidden.")


def attributes_class(obj: Mapping[str, Any]) -> Iterator[Cause]:
    yield from _provisioner("driverName", obj.get("driverName") or "")
    yield from _parameters(obj.get("parameters") or {})
    if not obj.get("parameters"):
        yield causes.required("parameters", "must contain at least one key/value pair")


def attributes_class_update(new: Mapping[str, Any], old: Mapping[str, Any]) -> Iterator[Cause]:
    yield from _unchanged(new, old, ("driverName", "parameters"))


def _provisioner(path: str, name: str) -> Iterator[Cause]:
    if not name:
        yield causes.required(path)
    else:
        yield from fields.qualified(path, name.lower())


def _parameters(parameters: Mapping[str, str]) -> Iterator[Cause]:
    if len(parameters) > _PARAMETERS_MAX:
        yield causes.too_long("parameters", _PARAMETERS_MAX)
        return
    if "" in parameters:
        yield causes.invalid("parameters", "", "field can not be empty.")
    if sum(len(key.encode()) + len(value.encode()) for key, value in parameters.items()) > _PARAMETERS_BYTES:
        yield causes.too_long("parameters", _PARAMETERS_BYTES)


def attachment(obj: Mapping[str, Any]) -> Iterator[Cause]:
    spec = objects.spec(obj)
    yield from driver_name("spec.attacher", spec.get("attacher") or "")
    source = spec.get("source") or {}
    name, inline = source.get("persistentVolumeName"), source.get("inlineVolumeSpec")
    if name is None and inline is None:
        yield causes.required("spec.source", _ONE_SOURCE)
    elif name is not None and inline is not None:
        yield causes.forbidden("spec.source", _ONE_SOURCE)
    elif name == "":
        detail = "must specify non empty persistentVolumeName"
        yield causes.required("spec.source.persistentVolumeName", detail)
    elif name is not None:
        yield from fields.subdomain("spec.source.persistentVolumeName", name)
    elif "csi" not in (inline or {}):
        detail = "must specify a volume type"
        yield causes.required("spec.source.inlineVolumeSpec", detail)
    yield from fields.subdomain("spec.nodeName", spec.get("nodeName") or "")


def attachment_update(new: Mapping[str, Any], old: Mapping[str, Any]) -> Iterator[Cause]:
    yield from fields.same("spec", objects.spec(new), objects.spec(old))


def driver_name(path: str, name: str) -> Iterator[Cause]:
    if not name:
        yield causes.required(path)
    if len(name) > _DRIVER_NAME_MAX:
        yield causes.too_long(path, _DRIVER_NAME_MAX)
    if not names.is_dns1123_subdomain(name.lower()):
        yield causes.invalid(path, name, fields.SUBDOMAIN)


def csi_node(obj: Mapping[str, Any]) -> Iterator[Cause]:
    drivers = objects.spec(obj).get("drivers") or ()
    for index, driver in enumerate(drivers):
        path, identity = f"spec.drivers[{index}]", driver.get("nodeID") or ""
        yield from driver_name(f"{path}.name", driver.get("name") or "")
        if not identity:
            yield causes.required(f"{path}.nodeID")
        if len(identity) > _NODE_ID_MAX:
            detail = f"must be {_NODE_ID_MAX} characters or less"
            yield causes.invalid(f"{path}.nodeID", identity, detail)
        count = (driver.get("allocatable") or {}).get("count")
        yield from fields.non_negative(f"{path}.allocatable.count", count)
        yield from _topology_keys(driver.get("topologyKeys") or (), path)
    yield from fields.unique(
        "spec.drivers", ((i, d.get("name") or "") for i, d in enumerate(drivers)), "name"
    )


def _topology_keys(keys: tuple[str, ...], path: str) -> Iterator[Cause]:
    for index, key in enumerate(keys):
        if not key:
            yield causes.required(path)
        if key in keys[:index]:
            yield causes.duplicate(path, key)
        yield from fields.qualified(path, key)


def csi_node_update(new: Mapping[str, Any], old: Mapping[str, Any]) -> Iterator[Cause]:
    """A driver of a node may come and go, and say anew how much it can take."""
    before = {driver.get("name"): driver for driver in objects.spec(old).get("drivers") or ()}
    for driver in objects.spec(new).get("drivers") or ():
        was = before.get(driver.get("name"))
        if was is not None and {**was, "allocatable": None} != {**driver, "allocatable": None}:
            yield causes.invalid("spec.drivers", driver, fields.IMMUTABLE)


def csi_driver(obj: Mapping[str, Any]) -> Iterator[Cause]:
    spec = objects.spec(obj)
    policies = ("File", "None", "ReadWriteOnceWithFSType")
    yield from webhooks.chosen("spec.fsGroupPolicy", spec.get("fsGroupPolicy"), policies)
    requests = spec.get("tokenRequests") or ()
    audiences = ((index, request.get("audience") or "") for index, request in enumerate(requests))
    yield from fields.unique("spec.tokenRequests", audiences, "audience")
    for index, request in enumerate(requests):
        seconds, path = request.get("expirationSeconds"), f"spec.tokenRequests[{index}].expirationSeconds"
        if seconds is not None and seconds < _TOKEN_MIN_S:
            yield causes.invalid(path, seconds, "may not specify a duration less than 10 minutes")
        if seconds is not None and seconds > 1 << 32:
            yield causes.invalid(path, seconds, "may not specify a duration larger than 2^32 seconds")
    for mode in spec.get("volumeLifecycleModes") or ():
        yield from webhooks.chosen("spec.volumeLifecycleModes", mode, ("Persistent", "Ephemeral"))
    period = spec.get("nodeAllocatableUpdatePeriodSeconds")
    if period is not None and period < _PERIOD_MIN_S:
        detail = f"must be greater than or equal to {_PERIOD_MIN_S} seconds"
        yield causes.invalid("spec.nodeAllocatableUpdatePeriodSeconds", period, detail)


def csi_driver_update(new: Mapping[str, Any], old: Mapping[str, Any]) -> Iterator[Cause]:
    """Kubernetes names the first of these fields otherwise than it is written."""
    spec, was = objects.spec(new), objects.spec(old)
    for field, named in (("attachRequired", "attachedRequired"), ("volumeLifecycleModes",) * 2):
        yield from fields.same(f"spec.{named}", spec.get(field), was.get(field))


def capacity(obj: Mapping[str, Any]) -> Iterator[Cause]:
    yield from workloads.label_selector(obj.get("nodeTopology") or {}, "nodeTopology")
    yield from fields.subdomain("storageClassName", obj.get("storageClassName") or "")
    amount = obj.get("capacity")
    if amount is not None and quantity.parse(amount) < 0:
        yield causes.invalid("capacity", amount, "must be greater than or equal to 0")


def capacity_update(new: Mapping[str, Any], old: Mapping[str, Any]) -> Iterator[Cause]:
    for field in ("nodeTopology", "storageClassName"):
        yield from fields.same(field, new.get(field), old.get(field))
