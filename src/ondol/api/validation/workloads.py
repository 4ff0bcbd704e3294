"""Rules of Deployments, ReplicaSets and their scale."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from ondol.api import labels
from ondol.api.schema import causes
from ondol.api.validation import fields, pods
from ondol.base.errors import Cause


def deployment(obj: Mapping[str, Any]) -> Iterator[Cause]:
    spec = obj.get("spec") or {}
    yield from _replicated(spec, "deployment")
    yield from fields.non_negative("spec.revisionHistoryLimit", spec.get("revisionHistoryLimit"))
    deadline, ready = spec.get("progressDeadlineSeconds"), spec.get("minReadySeconds") or 0
    yield from fields.non_negative("spec.progressDeadlineSeconds", deadline)
    if deadline is not None and deadline <= ready:
        yield causes.invalid("spec.progressDeadlineSeconds", deadline, "must be greater than minReadySeconds")
    yield from _strategy(spec.get("strategy") or {})


def replica_set(obj: Mapping[str, Any]) -> Iterator[Cause]:
    yield from _replicated(obj.get("spec") or {}, "replicaset")


def immutable_selector(new: Mapping[str, Any], old: Mapping[str, Any]) -> Iterator[Cause]:
    """A selector may not change: the workload would no longer select its existing pods."""
    selector = (new.get("spec") or {}).get("selector")
    yield from fields.same("spec.selector", selector, (old.get("spec") or {}).get("selector"))


def _replicated(spec: Mapping[str, Any], word: str) -> Iterator[Cause]:
    yield from fields.non_negative("spec.replicas", spec.get("replicas"))
    yield from fields.non_negative("spec.minReadySeconds", spec.get("minReadySeconds"))
    template = spec.get("template") or {}
    yield from selected(spec.get("selector"), template, word)
    yield from pods.template(template, "spec.template")
    yield from staying(template, "ReplicaSet")


def replication_controller(obj: Mapping[str, Any]) -> Iterator[Cause]:
    spec = obj.get("spec") or {}
    yield from fields.non_negative("spec.minReadySeconds", spec.get("minReadySeconds"))
    selector, template = spec.get("selector") or {}, spec.get("template")
    if not selector:
        yield causes.required("spec.selector")
    yield from fields.non_negative("spec.replicas", spec.get("replicas"))
    if template is None:
        yield causes.required("spec.template")
        return
    labelled = (template.get("metadata") or {}).get("labels") or {}
    if any(labelled.get(key) != value for key, value in selector.items()):
        yield causes.invalid("spec.template.metadata.labels", labelled or None, _MISMATCH)
    yield from pods.template(template, "spec.template")
    yield from staying(template, "ReplicationController")


def staying(template: Mapping[str, Any], kind: str) -> Iterator[Cause]:
    """Pods that are to stay are always started again and have no deadline; `kind` is who says so."""
    policy = (template.get("spec") or {}).get("restartPolicy")
    if policy in ("Never", "OnFailure"):
        yield causes.not_supported("spec.template.spec.restartPolicy", policy, ("Always",))
    if (template.get("spec") or {}).get("activeDeadlineSeconds") is not None:
        detail = f"activeDeadlineSeconds in {kind} is not Supported"
        yield causes.forbidden("spec.template.spec.activeDeadlineSeconds", detail)


_MISMATCH: Final = "`selector` does not match template `labels`"


def selected(
    selector: Any, template: Mapping[str, Any], word: str, *, required: bool = True
) -> Iterator[Cause]:
    """A selector that selects something, and the pods of the template with it."""
    labelled = (template.get("metadata") or {}).get("labels") or {}
    if selector is None:
        if required:
            yield causes.required("spec.selector")
        yield causes.invalid("spec.template.metadata.labels", labelled or None, _MISMATCH)
        return
    if not selector.get("matchLabels") and not selector.get("matchExpressions"):
        yield causes.invalid("spec.selector", selector, f"empty selector is invalid for {word}")
        return
    problems = list(label_selector(selector, "spec.selector"))
    yield from problems
    if not problems and not labels.from_document(selector).matches(labelled):
        yield causes.invalid("spec.template.metadata.labels", labelled or None, _MISMATCH)


def label_selector(selector: Mapping[str, Any], path: str) -> Iterator[Cause]:
    """The form of matchLabels and matchExpressions."""
    for key, value in (selector.get("matchLabels") or {}).items():
        for detail in (*labels.label_key_problems(key), *labels.label_value_problems(value)):
            yield causes.invalid(f"{path}.matchLabels", key, detail)
    for index, expression in enumerate(selector.get("matchExpressions") or ()):
        item_path = f"{path}.matchExpressions[{index}]"
        operator, values = expression.get("operator") or "", expression.get("values") or ()
        if operator in ("In", "NotIn") and not values:
            yield causes.required(
                f"{item_path}.values", "must be specified when `operator` is 'In' or 'NotIn'"
            )
        elif operator in ("Exists", "DoesNotExist") and values:
            detail = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'"
            yield causes.forbidden(f"{item_path}.values", detail)
        elif operator not in ("In", "NotIn", "Exists", "DoesNotExist"):
            yield causes.invalid(f"{item_path}.operator", operator, "not a valid selector operator")
        for detail in labels.label_key_problems(expression.get("key") or ""):
            yield causes.invalid(f"{item_path}.key", expression.get("key") or "", detail)


def _strategy(strategy: Mapping[str, Any]) -> Iterator[Cause]:
    path = "spec.strategy"
    kind, rolling = strategy.get("type") or "", strategy.get("rollingUpdate")
    if kind == "Recreate":
        if rolling is not None:
            detail = "may not be specified when strategy `type` is 'Recreate'"
            yield causes.forbidden(f"{path}.rollingUpdate", detail)
        return
    if kind != "RollingUpdate":
        yield causes.not_supported(path, kind, ("Recreate", "RollingUpdate"))
        return
    unavailable, surge = (rolling or {}).get("maxUnavailable"), (rolling or {}).get("maxSurge")
    yield from fields.int_or_percent(f"{path}.rollingUpdate.maxUnavailable", unavailable)
    yield from fields.int_or_percent(f"{path}.rollingUpdate.maxSurge", surge)
    if fields.is_zero(unavailable) and fields.is_zero(surge):
        detail = "may not be 0 when `maxSurge` is 0"
        yield causes.invalid(f"{path}.rollingUpdate.maxUnavailable", unavailable, detail)
    yield from fields.at_most_100_percent(f"{path}.rollingUpdate.maxUnavailable", unavailable)


def scale(obj: Mapping[str, Any]) -> Iterator[Cause]:
    yield from fields.non_negative("spec.replicas", (obj.get("spec") or {}).get("replicas"))
