"""Rules of the kinds that run nothing: ConfigMaps, Secrets, Namespaces, Nodes, Leases, Events."""

from __future__ import annotations

import base64
import ipaddress
import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

from ondol.api.schema import causes
from ondol.api.validation import fields, metadata
from ondol.base.errors import Cause

_MAX_BYTES: Final = 1024 * 1024
_NEEDED: Final = {
    "kubernetes.io/dockercfg": (".dockercfg",),
    "kubernetes.io/dockerconfigjson": (".dockerconfigjson",),
    "kubernetes.io/ssh-auth": ("ssh-privatekey",),
    "kubernetes.io/tls": ("tls.crt", "tls.key"),
}
_JSON_KEYS: Final = (".dockercfg", ".dockerconfigjson")
_EFFECTS: Final = ("NoExecute", "NoSchedule", "PreferNoSchedule")


def config_map(obj: Mapping[str, Any]) -> Iterator[Cause]:
    data, binary = obj.get("data") or {}, obj.get("binaryData") or {}
    size = 0
    for key, text in data.items():
        yield from fields.key(f"data[{key}]", key)
        if key in binary:
            yield causes.invalid(f"data[{key}]", key, "duplicate of key present in binaryData")
        size += len(text.encode())
    for key, encoded in binary.items():
        yield from fields.key(f"binaryData[{key}]", key)
        size += len(encoded) * 3 // 4
    if size > _MAX_BYTES:
        yield causes.too_long("", _MAX_BYTES)


def _sealed(new: Mapping[str, Any], old: Mapping[str, Any], holds: tuple[str, ...]) -> Iterator[Cause]:
    """What `immutable: true` means, and that it cannot be taken back."""
    if not old.get("immutable"):
        return
    if not new.get("immutable"):
        yield causes.forbidden("immutable", "field is immutable when `immutable` is set")
    for field in holds:
        if (new.get(field) or {}) != (old.get(field) or {}):
            yield causes.forbidden(field, "field is immutable when `immutable` is set")


def config_map_update(new: Mapping[str, Any], old: Mapping[str, Any]) -> Iterator[Cause]:
    yield from _sealed(new, old, ("data", "binaryData"))


def secret(obj: Mapping[str, Any]) -> Iterator[Cause]:
    data = obj.get("data") or {}
    for key in data:
        yield from fields.key(f"data[{key}]", key)
    if sum(len(encoded) * 3 // 4 for encoded in data.values()) > _MAX_BYTES:
        yield causes.too_long("data", _MAX_BYTES)
    kind = obj.get("type") or ""
    for key in _NEEDED.get(kind, ()):
        if key not in data:
            yield causes.required(f"data[{key}]")
        elif key in _JSON_KEYS and not _is_json(data[key]):
            yield causes.invalid(f"data[{key}]", "<secret contents redacted>", "invalid JSON")
    if kind == "kubernetes.io/basic-auth" and not data.keys() & {"username", "password"}:
        yield causes.required("data[username]")
        yield causes.required("data[password]")
    if kind == "kubernetes.io/service-account-token":
        owner = ((obj.get("metadata") or {}).get("annotations") or {}).get(
            "kubernetes.io/service-account.name"
        )
        if not owner:
            yield causes.required("metadata.annotations[kubernetes.io/service-account.name]")


def _is_json(encoded: str) -> bool:
    try:
        json.loads(base64.b64decode(encoded))
    except ValueError:
        return False
    return True


def secret_update(new: Mapping[str, Any], old: Mapping[str, Any]) -> Iterator[Cause]:
    yield from fields.same("type", new.get("type"), old.get("type"))
    yield from _sealed(new, old, ("data",))


def namespace(obj: Mapping[str, Any]) -> Iterator[Cause]:
    for finalizer in (obj.get("spec") or {}).get("finalizers") or ():
        yield from metadata.finalizer_name("spec.finalizers", finalizer)


def node(obj: Mapping[str, Any]) -> Iterator[Cause]:
    spec = obj.get("spec") or {}
    for index, taint in enumerate(spec.get("taints") or ()):
        taint_path = f"spec.taints[{index}]"
        yield from metadata.label_pairs(
            {taint.get("key") or "": taint.get("value") or ""}, f"{taint_path}.key"
        )
        yield from fields.one_of(f"{taint_path}.effect", taint.get("effect"), _EFFECTS, required=True)
    yield from fields.unique(
        "spec.taints", ((i, (t.get("key"), t.get("effect"))) for i, t in enumerate(spec.get("taints") or ()))
    )
    for index, cidr in enumerate(spec.get("podCIDRs") or ()):
        try:
            ipaddress.ip_network(cidr)
        except ValueError:
            detail = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)"
            yield causes.invalid(f"spec.podCIDRs[{index}]", cidr, detail)


def node_update(new: Mapping[str, Any], old: Mapping[str, Any]) -> Iterator[Cause]:
    spec, old_spec = new.get("spec") or {}, old.get("spec") or {}
    for field in ("podCIDRs", "providerID"):
        if old_spec.get(field) and spec.get(field) != old_spec[field]:
            detail = 'node updates may not change podCIDR except from "" to valid'
            if field == "providerID":
                detail = 'node updates may not change providerID except from "" to valid'
            yield causes.forbidden(f"spec.{field}", detail)


def lease(obj: Mapping[str, Any]) -> Iterator[Cause]:
    spec = obj.get("spec") or {}
    duration = spec.get("leaseDurationSeconds")
    if duration is not None and duration <= 0:
        yield causes.invalid("spec.leaseDurationSeconds", duration, "must be greater than 0")
    yield from fields.non_negative("spec.leaseTransitions", spec.get("leaseTransitions"))
    if spec.get("preferredHolder") and not spec.get("strategy"):
        yield causes.forbidden("spec.preferredHolder", "may only be specified if `strategy` is defined")


def event(obj: Mapping[str, Any]) -> Iterator[Cause]:
    """An event must be in the namespace of the object it is about."""
    regarding = obj.get("involvedObject") or obj.get("regarding") or {}
    path = "involvedObject.namespace" if "involvedObject" in obj else "regarding.namespace"
    home = (obj.get("metadata") or {}).get("namespace") or ""
    place = regarding.get("namespace") or ""
    if place != home and not (not place and home in ("default", "kube-system")):
        yield causes.invalid(path, place, "does not match event.namespace")


def event_v1(obj: Mapping[str, Any]) -> Iterator[Cause]:
    """An event of events.k8s.io must name its reporter, an action and a reason."""
    yield from event(obj)
    if not obj.get("eventTime"):
        yield causes.required("eventTime")
    for field, limit in (
        ("reportingController", 0),
        ("reportingInstance", 128),
        ("action", 128),
        ("reason", 128),
    ):
        value = obj.get(field) or ""
        if not value:
            yield causes.required(field)
        elif limit and len(value) > limit:
            yield causes.invalid(field, value, f"can have at most {limit} characters")
    yield from fields.one_of("type", obj.get("type"), ("Normal", "Warning"), required=True)
    note = obj.get("note") or ""
    if len(note) > 1024:
        yield causes.invalid("note", note, "can have at most 1024 characters")
