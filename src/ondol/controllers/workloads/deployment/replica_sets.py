"""The ReplicaSets of a Deployment: named after their template, with revisions as annotations. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import msgspec

from ondol.api import objects, pods
from ondol.api.objects import Object
from ondol.base import names
from ondol.controllers.workloads.deployment import rollout

HASH_LABEL: Final = "pod-template-hash"
REVISION: Final = "deployment.kubernetes.io/revision"
REVISION_HISTORY: Final = "deployment.kubernetes.io/revision-history"
DESIRED: Final = "deployment.kubernetes.io/desired-replicas"
MAXIMUM: Final = "deployment.kubernetes.io/max-replicas"
_NOT_COPIED: Final = (
    "kubectl.kubernetes.io/last-applied-configuration",
    REVISION,
    REVISION_HISTORY,
    DESIRED,
    MAXIMUM,
    "deprecated.deployment.rollback.to",
)
_HISTORY_CHARACTERS_MAX: Final = 2000
_NAME_MAX: Final = 253


def normal_template(template: Mapping[str, Any]) -> Any:
    """The template as it counts for identity: without the hash label, and empty fields are absent."""
    metadata = template.get("metadata") or {}
    labels = {key: value for key, value in (metadata.get("labels") or {}).items() if key != HASH_LABEL}
    return _without_empty({**template, "metadata": {**metadata, "labels": labels}})


def _without_empty(value: Any) -> Any:
    if isinstance(value, Mapping):
        pruned = {key: _without_empty(each) for key, each in value.items()}
        return {key: each for key, each in pruned.items() if each not in (None, {}, [])}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_without_empty(each) for each in value]
    return value


def template_hash(template: Mapping[str, Any], collisions: int) -> str:
    """Equal for equal templates; `collisions` gives a taken hash another one."""
    encoded = msgspec.json.encode(normal_template(template), order="deterministic")
    return names.stable_hash(encoded + (str(collisions).encode() if collisions else b""))


def same_template(replica_set: Mapping[str, Any], deployment: Mapping[str, Any]) -> bool:
    own = objects.spec(replica_set).get("template") or {}
    return bool(
        normal_template(own) == normal_template(objects.spec(deployment).get("template") or {}),
    )


def split(
    deployment: Mapping[str, Any], replica_sets: Iterable[Object]
) -> tuple[Object | None, list[Object]]:
    """The set that has the Deployment's template (the oldest, if several), and the others, oldest first."""
    ordered = sorted(replica_sets, key=lambda each: (pods.created_at(each), objects.name(each)))
    new = next((each for each in ordered if same_template(each, deployment)), None)
    return new, [each for each in ordered if each is not new]


def replica_set(deployment: Object, olds: Sequence[Object], terms: rollout.Terms) -> Object:
    """The set for the Deployment's template, sized for its first step."""
    spec = objects.spec(deployment)
    template = spec.get("template") or {}
    hashed = template_hash(template, int(objects.status(deployment).get("collisionCount") or 0))
    metadata = template.get("metadata") or {}
    labels = {**(metadata.get("labels") or {}), HASH_LABEL: hashed}
    selector = spec.get("selector") or {}
    size = rollout.initial_size(terms, [view(old) for old in olds])
    annotations = {**_copied(deployment), **size_annotations(terms), REVISION: str(next_revision(olds))}
    return {
        "apiVersion": "apps/v1",
        "kind": "ReplicaSet",
        "metadata": {
            "name": f"{objects.name(deployment)[: _NAME_MAX - 1 - len(hashed)]}-{hashed}",
            "namespace": objects.namespace(deployment),
            "labels": labels,
            "annotations": annotations,
            "ownerReferences": [objects.controller_reference(deployment)],
        },
        "spec": {
            "replicas": size,
            **({"minReadySeconds": spec["minReadySeconds"]} if spec.get("minReadySeconds") else {}),
            "selector": {
                **selector,
                "matchLabels": {**(selector.get("matchLabels") or {}), HASH_LABEL: hashed},
            },
            "template": {**template, "metadata": {**metadata, "labels": labels}},
        },
    }


def view(replica_set: Mapping[str, Any]) -> rollout.Set:
    return rollout.Set(
        objects.name(replica_set),
        replicas(replica_set),
        int(objects.status(replica_set).get("availableReplicas") or 0),
        pods.created_at(replica_set),
        number(objects.annotations(replica_set).get(MAXIMUM)),
        int(objects.status(replica_set).get("replicas") or 0),
    )


def replicas(obj: Mapping[str, Any]) -> int:
    count = objects.spec(obj).get("replicas")
    return 1 if count is None else int(count)


def number(text: str | None) -> int | None:
    """A count written in an annotation; none if it is absent or nonsense."""
    return int(text) if text and text.isdecimal() else None


def size_annotations(terms: rollout.Terms) -> dict[str, str]:
    return {DESIRED: str(terms.replicas), MAXIMUM: str(terms.max_total)}


def resized(replica_set: Object, size: int, terms: rollout.Terms) -> Object:
    """The patch that gives a set its size and notes what it was worked out from; empty if all is so."""
    patch: Object = {}
    annotations = objects.annotations(replica_set)
    sizes = {key: text for key, text in size_annotations(terms).items() if annotations.get(key) != text}
    if sizes:
        patch["metadata"] = {"annotations": sizes}
    if replicas(replica_set) != size:
        patch["spec"] = {"replicas": size}
    return patch


def updated(new: Object, deployment: Object, olds: Sequence[Object]) -> Object:
    """The patch that brings the current set's annotations and minReadySeconds up to date, or nothing."""
    current = objects.annotations(new)
    annotations = {key: text for key, text in _copied(deployment).items() if current.get(key) != text}
    revision, last = next_revision(olds), current.get(REVISION)
    if (number(last) or 0) < revision:
        annotations[REVISION] = str(revision)
        if last:
            annotations[REVISION_HISTORY] = history(current.get(REVISION_HISTORY, ""), last)
    patch: Object = {"metadata": {"annotations": annotations}} if annotations else {}
    min_ready_s = int(objects.spec(deployment).get("minReadySeconds") or 0)
    if int(objects.spec(new).get("minReadySeconds") or 0) != min_ready_s:
        patch["spec"] = {"minReadySeconds": min_ready_s}
    return patch


def history(before: str, revision: str) -> str:
    """Earlier revisions of one template, oldest first, cut at the front when it grows too long."""
    parts = [*before.split(","), revision] if before else [revision]
    while len(parts) > 1 and len(",".join(parts)) > _HISTORY_CHARACTERS_MAX:
        parts.pop(0)
    return ",".join(parts)


def next_revision(olds: Iterable[Object]) -> int:
    return max((number(objects.annotations(old).get(REVISION)) or 0 for old in olds), default=0) + 1


def _copied(deployment: Object) -> dict[str, str]:
    annotations = objects.annotations(deployment)
    return {key: text for key, text in annotations.items() if key not in _NOT_COPIED}


def expired(olds: Sequence[Object], limit: int) -> list[Object]:
    """Empty sets beyond the history limit, the lowest revisions first."""
    living = [old for old in olds if not objects.is_deleting(old)]
    ordered = sorted(living, key=lambda old: number(objects.annotations(old).get(REVISION)) or 0)
    return [old for old in ordered[: max(0, len(living) - limit)] if _is_empty(old)]


def _is_empty(replica_set: Object) -> bool:
    status = objects.status(replica_set)
    observed = objects.generation(replica_set) <= int(status.get("observedGeneration") or 0)
    return observed and replicas(replica_set) == 0 and not status.get("replicas")
