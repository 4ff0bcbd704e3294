"""Rules of StatefulSets, and of the revisions they and DaemonSets keep."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from ondol.api import objects
from ondol.api.schema import causes
from ondol.api.validation import claims, fields, pods, workloads
from ondol.base.errors import Cause

_MUTABLE: Final = (
    "replicas",
    "template",
    "updateStrategy",
    "minReadySeconds",
    "ordinals",
    "revisionHistoryLimit",
    "persistentVolumeClaimRetentionPolicy",
)
_FIXED: Final = (
    "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', "
    "'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden"
)


def stateful_set(obj: Mapping[str, Any]) -> Iterator[Cause]:
    spec = objects.spec(obj)
    policy = spec.get("podManagementPolicy") or ""
    if not policy:
        yield causes.required("spec.podManagementPolicy")
    elif policy not in ("OrderedReady", "Parallel"):
        yield causes.invalid("spec.podManagementPolicy", policy, "must be 'OrderedReady' or 'Parallel'")
    yield from _strategy(spec.get("updateStrategy") or {})
    yield from _retention(spec.get("persistentVolumeClaimRetentionPolicy"))
    for index, template in enumerate(spec.get("volumeClaimTemplates") or ()):
        yield from claims.claim_spec(objects.spec(template), f"spec.volumeClaimTemplates[{index}].spec")
    yield from fields.non_negative("spec.replicas", spec.get("replicas"))
    yield from fields.non_negative("spec.minReadySeconds", spec.get("minReadySeconds"))
    yield from fields.non_negative("spec.ordinals.start", (spec.get("ordinals") or {}).get("start"))
    if spec.get("serviceName"):
        yield from fields.label("spec.serviceName", spec["serviceName"])
    template = spec.get("template") or {}
    yield from workloads.selected(spec.get("selector"), template, "statefulset")
    yield from pods.template(_completed(spec), "spec.template")
    yield from workloads.staying(template, "StatefulSet")


def _strategy(strategy: Mapping[str, Any]) -> Iterator[Cause]:
    path, kind = "spec.updateStrategy", strategy.get("type") or ""
    rolling = strategy.get("rollingUpdate")
    if not kind:
        yield causes.required(path)
    elif kind == "OnDelete":
        if rolling is not None:
            detail = "only allowed for updateStrategy 'RollingUpdate'"
            yield causes.invalid(f"{path}.rollingUpdate", rolling, detail)
    elif kind != "RollingUpdate":
        yield causes.invalid(path, dict(strategy), "must be 'RollingUpdate' or 'OnDelete'")
    elif rolling is not None:
        yield from fields.non_negative(f"{path}.rollingUpdate.partition", rolling.get("partition"))


def _retention(policy: Mapping[str, Any] | None) -> Iterator[Cause]:
    if policy is None:
        return
    for field in ("whenDeleted", "whenScaled"):
        value = policy.get(field) or ""
        if value not in ("Retain", "Delete"):
            path = f"spec.persistentVolumeClaimRetentionPolicy.{field}"
            yield causes.not_supported(path, value, ("Retain", "Delete"))


def _completed(spec: Mapping[str, Any]) -> Mapping[str, Any]:
    """The template as its pods will be: with the volumes of its claims, and names that are their own."""
    template = spec.get("template") or {}
    pod = {k: v for k, v in objects.spec(template).items() if k not in ("subdomain", "hostname")}
    names = [objects.name(each) for each in spec.get("volumeClaimTemplates") or ()]
    if names:
        own = [{"name": name, "persistentVolumeClaim": {"claimName": name}} for name in dict.fromkeys(names)]
        others = [volume for volume in pod.get("volumes") or () if volume.get("name") not in names]
        pod["volumes"] = [*own, *others]
    return {**template, "spec": pod}


def stateful_set_update(new: Mapping[str, Any], old: Mapping[str, Any]) -> Iterator[Cause]:
    spec, was = objects.spec(new), objects.spec(old)
    changed = (field for field in spec.keys() | was.keys() if spec.get(field) != was.get(field))
    if not set(changed) <= set(_MUTABLE):
        yield causes.forbidden("spec", _FIXED)


def revision(obj: Mapping[str, Any]) -> Iterator[Cause]:
    yield from fields.non_negative("revision", obj.get("revision"))
    if obj.get("data") is None:
        yield causes.required("data", "data is mandatory")
    elif not isinstance(obj["data"], Mapping):
        yield causes.required("data", "data must be a valid JSON object")


def revision_update(new: Mapping[str, Any], old: Mapping[str, Any]) -> Iterator[Cause]:
    yield from fields.same("data", new.get("data"), old.get("data"))
