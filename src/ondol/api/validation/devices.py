"""Rules of devices: what there is of them, in which classes, and who claims them.

The expressions that select devices are for who evaluates them to compile.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, Final

from ondol.api import labels, objects
from ondol.api.schema import causes
from ondol.api.validation import fields, metadata, storage
from ondol.base.errors import Cause

_LISTED_MAX: Final = 32
_CHOICES_MAX: Final = 8
_DEVICES_MAX: Final = 128
_TAINTS_MAX: Final = 4
_RESERVED_MAX: Final = 256
_POOL_NAME_MAX: Final = 253
_TEXT_MAX: Final = 64
_EXPRESSION_BYTES: Final = 10 * 1024
_EFFECTS: Final = ("NoExecute", "NoSchedule", "None")
_VALUES: Final = ("bool", "int", "string", "version")
_IDENTIFIER: Final = r"(?:0|[1-9]\d*|\d*[a-zA-Z-][0-9a-zA-Z-]*)"
_SEMVER: Final = re.compile(
    r"(?:0|[1-9]\d*)\.(?:0|[1-9]\d*)\.(?:0|[1-9]\d*)"
    rf"(?:-{_IDENTIFIER}(?:\.{_IDENTIFIER})*)?(?:\+[0-9a-zA-Z-]+(?:\.[0-9a-zA-Z-]+)*)?",
    re.ASCII,
)
_ONE_KIND: Final = "exactly one of `exactly` or `firstAvailable` is required"
_ONE_PLACE: Final = (
    "exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required"
)
_REFERENCE: Final = (
    "must be the name of a request in the claim or the name of a request and a subrequest separated by '/'"
)


def claim(obj: Mapping[str, Any]) -> Iterator[Cause]:
    yield from _claim_spec(objects.spec(obj), "spec")


def claim_template(obj: Mapping[str, Any]) -> Iterator[Cause]:
    template = objects.spec(obj)
    own = template.get("metadata") or {}
    yield from metadata.label_pairs(own.get("labels") or {}, "spec.metadata.labels")
    yield from metadata.annotation_pairs(own.get("annotations") or {}, "spec.metadata.annotations")
    yield from _claim_spec(template.get("spec") or {}, "spec.spec")


def fixed_spec(new: Mapping[str, Any], old: Mapping[str, Any]) -> Iterator[Cause]:
    """What is claimed stays what it was."""
    yield from fields.same("spec", objects.spec(new), objects.spec(old))


def _claim_spec(spec: Mapping[str, Any], path: str) -> Iterator[Cause]:
    devices, path = spec.get("devices") or {}, f"{path}.devices"
    requests = devices.get("requests") or ()
    references = _request_names(requests)
    for index, request in enumerate(requests):
        yield from _request(request, f"{path}.requests[{index}]")
    yield from _bounded(requests, _LISTED_MAX, f"{path}.requests", "name")
    constraints = devices.get("constraints") or ()
    for index, constraint in enumerate(constraints):
        item = f"{path}.constraints[{index}]"
        yield from _references(constraint.get("requests") or (), references, f"{item}.requests")
        yield from _attribute(constraint.get("matchAttribute"), f"{item}.matchAttribute")
    yield from _bounded(constraints, _LISTED_MAX, f"{path}.constraints")
    configurations = devices.get("config") or ()
    for index, each in enumerate(configurations):
        item = f"{path}.config[{index}]"
        yield from _references(each.get("requests") or (), references, f"{item}.requests")
        yield from _configuration(each, item)
    yield from _bounded(configurations, _LISTED_MAX, f"{path}.config")


def _request_names(requests: Sequence[Mapping[str, Any]]) -> set[str]:
    """Of requests, and of the choices in them."""
    listed = set()
    for request in requests:
        name = request.get("name") or ""
        listed |= {name, *(f"{name}/{each.get('name')}" for each in request.get("firstAvailable") or ())}
    return listed


def _bounded(items: Sequence[Any], most: int, path: str, field: str = "") -> Iterator[Cause]:
    if len(items) > most:
        yield causes.too_many(path, len(items), most)
    if field:
        yield from fields.unique(path, ((i, each.get(field) or "") for i, each in enumerate(items)), field)


def _request(request: Mapping[str, Any], path: str) -> Iterator[Cause]:
    yield from fields.label(f"{path}.name", request.get("name") or "")
    exactly, choices = request.get("exactly"), request.get("firstAvailable") or ()
    if exactly is not None:
        yield from _wish(exactly, f"{path}.exactly")
    for index, choice in enumerate(choices):
        yield from fields.label(f"{path}.firstAvailable[{index}].name", choice.get("name") or "")
        yield from _wish(choice, f"{path}.firstAvailable[{index}]")
    yield from _bounded(choices, _CHOICES_MAX, f"{path}.firstAvailable", "name")
    if exactly is None and not choices:
        yield causes.required(path, _ONE_KIND)
    elif exactly is not None and choices:
        yield causes.invalid(path, None, f"{_ONE_KIND}, but multiple fields are set")


def _wish(request: Mapping[str, Any], path: str) -> Iterator[Cause]:
    """Which devices, and how many of them."""
    name, mode, count = (
        request.get("deviceClassName") or "",
        request.get("allocationMode"),
        request.get("count"),
    )
    if not name:
        yield causes.required(f"{path}.deviceClassName")
    else:
        yield from fields.subdomain(f"{path}.deviceClassName", name)
    yield from _selectors(request.get("selectors") or (), f"{path}.selectors")
    if mode == "All" and count:
        detail = f"must not be specified when allocationMode is '{mode}'"
        yield causes.invalid(f"{path}.count", count, detail)
    elif mode == "ExactCount" and (count or 0) <= 0:
        yield causes.invalid(f"{path}.count", count or 0, "must be greater than zero")
    elif mode not in ("All", "ExactCount"):
        yield causes.not_supported(f"{path}.allocationMode", mode or "", ("All", "ExactCount"))
    for index, toleration in enumerate(request.get("tolerations") or ()):
        yield from _toleration(toleration, f"{path}.tolerations[{index}]")


def _toleration(toleration: Mapping[str, Any], path: str) -> Iterator[Cause]:
    operator, value = toleration.get("operator") or "", toleration.get("value") or ""
    if toleration.get("key"):
        yield from fields.qualified(f"{path}.key", toleration["key"])
    yield from fields.one_of(f"{path}.operator", operator, ("Equal", "Exists"), required=True)
    if operator == "Exists" and value:
        yield causes.invalid(f"{path}.value", value, "must be empty for operator `Exists`")
    elif operator == "Equal":
        yield from _label_value(f"{path}.value", value)
    yield from fields.one_of(f"{path}.effect", toleration.get("effect"), _EFFECTS)


def _label_value(path: str, value: str) -> Iterator[Cause]:
    yield from (causes.invalid(path, value, detail) for detail in labels.label_value_problems(value))


def _selectors(selectors: Sequence[Mapping[str, Any]], path: str) -> Iterator[Cause]:
    for index, selector in enumerate(selectors):
        expression = (selector.get("cel") or {}).get("expression") or ""
        if selector.get("cel") is None:
            yield causes.required(f"{path}[{index}].cel")
        elif len(expression.encode()) > _EXPRESSION_BYTES:
            yield causes.too_long(f"{path}[{index}].cel.expression", _EXPRESSION_BYTES)
    yield from _bounded(selectors, _LISTED_MAX, path)


def _references(listed: Sequence[str], references: Collection[str], path: str) -> Iterator[Cause]:
    for index, name in enumerate(listed):
        if name not in references:
            yield causes.invalid(f"{path}[{index}]", name, _REFERENCE)
    yield from fields.unique(path, enumerate(listed))


def _attribute(name: str | None, path: str) -> Iterator[Cause]:
    if not name:
        yield causes.required(path)
    elif "/" not in name:
        yield causes.invalid(path, name, "must include a domain")


def _configuration(each: Mapping[str, Any], path: str) -> Iterator[Cause]:
    opaque = each.get("opaque")
    if opaque is None:
        yield causes.required(f"{path}.opaque")
        return
    yield from storage.driver_name(f"{path}.opaque.driver", opaque.get("driver") or "")
    if opaque.get("parameters") is None:
        yield causes.required(f"{path}.opaque.parameters")


def device_class(obj: Mapping[str, Any]) -> Iterator[Cause]:
    spec = objects.spec(obj)
    yield from _selectors(spec.get("selectors") or (), "spec.selectors")
    configurations = spec.get("config") or ()
    for index, each in enumerate(configurations):
        yield from _configuration(each, f"spec.config[{index}]")
    yield from _bounded(configurations, _LISTED_MAX, "spec.config")


def resource_slice(obj: Mapping[str, Any]) -> Iterator[Cause]:
    spec = objects.spec(obj)
    yield from storage.driver_name("spec.driver", spec.get("driver") or "")
    yield from _pool(spec.get("pool") or {}, "spec.pool")
    yield from _place(spec)
    devices = spec.get("devices") or ()
    for index, device in enumerate(devices):
        yield from _device(device, f"spec.devices[{index}]")
    yield from _bounded(devices, _DEVICES_MAX, "spec.devices", "name")


def _pool(pool: Mapping[str, Any], path: str) -> Iterator[Cause]:
    name = pool.get("name") or ""
    if not name:
        yield causes.required(f"{path}.name")
    if len(name) > _POOL_NAME_MAX:
        yield causes.too_long(f"{path}.name", _POOL_NAME_MAX)
    for part in name.split("/") if name else ():
        yield from fields.subdomain(f"{path}.name", part)
    if (pool.get("resourceSliceCount") or 0) <= 0:
        count = pool.get("resourceSliceCount") or 0
        yield causes.invalid(f"{path}.resourceSliceCount", count, "must be greater than zero")
    if (pool.get("generation") or 0) < 0:
        detail = "must be greater than or equal to zero"
        yield causes.invalid(f"{path}.generation", pool["generation"], detail)


def _place(spec: Mapping[str, Any]) -> Iterator[Cause]:
    """On which nodes the devices are, said in one way."""
    node, selector = spec.get("nodeName"), spec.get("nodeSelector")
    chosen = ["`nodeName`"] if node else []
    if node == "":
        detail = "must be either unset or set to a non-empty string"
        yield causes.invalid("spec.nodeName", node, detail)
    elif node:
        yield from fields.subdomain("spec.nodeName", node)
    if selector is not None:
        chosen.append("`nodeSelector`")
        terms = selector.get("nodeSelectorTerms") or ()
        if len(terms) != 1:
            detail = "must have exactly one node selector term"
            yield causes.invalid("spec.nodeSelector.nodeSelectorTerms", list(terms), detail)
    for field in ("allNodes", "perDeviceNodeSelection"):
        if spec.get(field):
            chosen.append(f"`{field}`")
        elif spec.get(field) is not None:
            yield causes.invalid(f"spec.{field}", False, "must be either unset or set to true")
    if not chosen:
        yield causes.required("spec", _ONE_PLACE)
    elif len(chosen) > 1:
        value = f"{{{', '.join(chosen)}}}"
        yield causes.invalid("spec", value, f"{_ONE_PLACE}, but multiple fields are set")


def _device(device: Mapping[str, Any], path: str) -> Iterator[Cause]:
    yield from fields.label(f"{path}.name", device.get("name") or "")
    attributes, taints = device.get("attributes") or {}, device.get("taints") or ()
    total = len(attributes) + len(device.get("capacity") or {})
    if total > _LISTED_MAX:
        detail = f"the total number of attributes and capacities must not exceed {_LISTED_MAX}"
        yield causes.invalid(path, total, detail)
    for name, attribute in attributes.items():
        yield from _value(attribute, f"{path}.attributes[{name}]")
    for index, taint in enumerate(taints):
        yield from _taint(taint, f"{path}.taints[{index}]")
    yield from _bounded(taints, _TAINTS_MAX, f"{path}.taints")


def _value(attribute: Mapping[str, Any], path: str) -> Iterator[Cause]:
    present = [field for field in _VALUES if attribute.get(field) is not None]
    for field in present:
        value = attribute[field]
        if field == "version" and not _SEMVER.fullmatch(value):
            detail = "must be a string compatible with semver.org spec 2.0.0"
            yield causes.invalid(f"{path}.{field}", value, detail)
        if isinstance(value, str) and len(value) > _TEXT_MAX:
            yield causes.too_long(f"{path}.{field}", _TEXT_MAX)
    if not present:
        yield causes.required(path, "exactly one value must be specified")
    elif len(present) > 1:
        yield causes.invalid(path, dict(attribute), "exactly one value must be specified")


def _taint(taint: Mapping[str, Any], path: str) -> Iterator[Cause]:
    yield from fields.qualified(f"{path}.key", taint.get("key") or "")
    yield from _label_value(f"{path}.value", taint.get("value") or "")
    yield from fields.one_of(f"{path}.effect", taint.get("effect"), _EFFECTS, required=True)


def resource_slice_update(new: Mapping[str, Any], old: Mapping[str, Any]) -> Iterator[Cause]:
    """Whose devices these are stays, and on which node."""
    spec, was = objects.spec(new), objects.spec(old)
    pool, pool_was = spec.get("pool") or {}, was.get("pool") or {}
    yield from fields.same("spec.pool.name", pool.get("name"), pool_was.get("name"))
    for field in ("driver", "nodeName"):
        yield from fields.same(f"spec.{field}", spec.get(field), was.get(field))


def claim_status(new: Mapping[str, Any], old: Mapping[str, Any]) -> Iterator[Cause]:
    """Of what was given to a claim: only what is given is in use, and it does not change meanwhile."""
    status, was, path = objects.status(new), objects.status(old), "status.reservedFor"
    consumers = status.get("reservedFor") or ()
    for index, consumer in enumerate(consumers):
        for field in ("resource", "name", "uid"):
            if not consumer.get(field):
                yield causes.required(f"{path}[{index}].{field}")
    yield from _bounded(consumers, _RESERVED_MAX, path, "uid")
    allocation = status.get("allocation")
    if consumers and allocation is None:
        yield causes.forbidden(path, "may not be specified when `allocated` is not set")
    elif objects.is_deleting(new) and any(c not in (was.get("reservedFor") or ()) for c in consumers):
        detail = "new entries may not be added while `deallocationRequested` or `deletionTimestamp` are set"
        yield causes.forbidden(path, detail)
    if allocation is not None and was.get("allocation") is not None:
        yield from fields.same("status.allocation", allocation, was["allocation"])
