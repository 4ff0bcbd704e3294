"""ControllerRevisions: the history of a workload's template, which StatefulSets and DaemonSets keep.

Pure functions over revisions, in the words of Kubernetes' `controller/history`, and `History`, the
shell that writes what they say. A revision's data is the patch that gives a workload this template
back: `{"spec": {"template": {…, "$patch": "replace"}}}`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Final

import msgspec

from ondol.api import objects
from ondol.api.objects import Object, Resource
from ondol.api.pods import created_at
from ondol.base import errors, go_json, names
from ondol.controllers.workloads.claims import Claims
from ondol.sdk import Informer, Manager, children

CONTROLLER_REVISION: Final = Resource("apps", "v1", "controllerrevisions", "ControllerRevision")
HASH_LABEL: Final = "controller.kubernetes.io/hash"
REVISION_LABEL: Final = "controller-revision-hash"
"""What a pod says of the revision it was made from: its name for StatefulSets, its hash for DaemonSets."""
_PREFIX_MAX: Final = 223
_FNV_OFFSET: Final = 2166136261
_FNV_PRIME: Final = 16777619


def template_data(workload: Mapping[str, Any]) -> Object:
    """The data of a revision: the patch that restores the workload's present template.

    Its keys are in order, as Go writes them: kubectl and others compare the bytes with their own patch.
    """
    template = objects.spec(workload).get("template") or {}
    data: Object = msgspec.to_builtins(
        {"spec": {"template": {**template, "$patch": "replace"}}}, order="sorted"
    )
    return data


def canonical(data: Mapping[str, Any]) -> bytes:
    """The bytes that are hashed: JSON as Go writes it, keys in order and what HTML would misread escaped."""
    return go_json.escaped(msgspec.json.encode(data, order="sorted").decode()).encode()


def data_hash(data: Mapping[str, Any], collisions: int | None = None) -> str:
    """FNV-1 (32 bits) of the canonical data and of the number of collisions, spelled as names are.

    `collisions` is the workload's `status.collisionCount`, None while it has none.
    """
    value = _FNV_OFFSET
    for byte in canonical(data) + (b"" if collisions is None else str(collisions).encode()):
        value = (value * _FNV_PRIME & 0xFFFFFFFF) ^ byte
    return names.safe_encode(value)


def revision_name(workload_name: str, hashed: str) -> str:
    return f"{workload_name[:_PREFIX_MAX]}-{hashed}"


def document(
    workload: Object,
    data: Object,
    number: int,
    *,
    labels: Mapping[str, str],
    collisions: int | None = None,
    hash_label: str = HASH_LABEL,
) -> Object:
    """A new ControllerRevision; `labels` are those the workload's selector matches.

    It has the workload's annotations, of which `kubectl rollout history` shows the cause of a change.
    """
    hashed = data_hash(data, collisions)
    return {
        "apiVersion": CONTROLLER_REVISION.api_version,
        "kind": CONTROLLER_REVISION.kind,
        "metadata": {
            "name": revision_name(objects.name(workload), hashed),
            "namespace": objects.namespace(workload),
            "labels": {**labels, hash_label: hashed},
            "annotations": dict(objects.annotations(workload)),
            "ownerReferences": [objects.controller_reference(workload)],
        },
        "data": data,
        "revision": number,
    }


def same_data(revision: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether both stand for one template; their hashes may differ, by collisions, and their numbers do."""
    return canonical(revision.get("data") or {}) == canonical(other.get("data") or {})


def ordered(revisions: Iterable[Object]) -> list[Object]:
    """Oldest first: by number, then by age, then by name."""
    return sorted(revisions, key=lambda each: (number_of(each), created_at(each), objects.name(each)))


def number_of(revision: Mapping[str, Any]) -> int:
    return int(revision.get("revision") or 0)


def next_number(revisions: Iterable[Object]) -> int:
    return max(map(number_of, revisions), default=0) + 1


def equal_revision(revisions: Iterable[Object], candidate: Mapping[str, Any]) -> Object | None:
    """The newest revision of the candidate's data, if there is one: the template is an old one again."""
    return next((each for each in reversed(ordered(revisions)) if same_data(each, candidate)), None)


def template(revision: Mapping[str, Any]) -> Object:
    """The template of pods that the revision stands for."""
    restored = objects.spec(revision.get("data") or {}).get("template") or {}
    return {field: value for field, value in restored.items() if field != "$patch"}


def expired(revisions: Iterable[Object], in_use: Collection[str], limit: int) -> list[Object]:
    """The oldest of those whose names are not in use (by pods, or as current or update), beyond the limit."""
    unused = [each for each in ordered(revisions) if objects.name(each) not in in_use]
    return unused[: max(0, len(unused) - limit)]


class History:
    """Reads and writes the revisions of the workloads of one kind; made before the manager runs."""

    def __init__(
        self,
        manager: Manager,
        owners: Informer,
        *,
        resource: Resource = CONTROLLER_REVISION,
        hash_label: str = HASH_LABEL,
    ) -> None:
        self._client = manager.client
        self._hash_label = hash_label
        self._resource = resource
        self._revisions = manager.informer(resource)
        self._claims = Claims(manager.client, owners, self._revisions)

    @property
    def informer(self) -> Informer:
        return self._revisions

    async def claim(self, workload: Object) -> list[Object]:
        """The workload's revisions, oldest first; orphans that match its selector are adopted."""
        return ordered(await self._claims.claim(workload))

    async def settle(
        self, workload: Object, revisions: Sequence[Object], *, labels: Mapping[str, str]
    ) -> tuple[Object, int | None]:
        """The revision of the present template, the newest of them all, and the collisions it took.

        An old template's revision gets the next number; a new template's is created. The caller keeps
        the number of collisions in `status.collisionCount`.
        """
        count = objects.status(workload).get("collisionCount")
        collisions = None if count is None else int(count)
        data = template_data(workload)
        equal = equal_revision(revisions, {"data": data})
        if equal is None:
            return await self._create(workload, data, next_number(revisions), labels, collisions)
        if number_of(equal) < next_number(revisions) - 1:
            equal = await self._renumber(equal, next_number(revisions))
        return equal, collisions

    async def truncate(self, revisions: Sequence[Object], in_use: Collection[str], limit: int) -> None:
        """Delete what is `expired`."""
        for revision in expired(revisions, in_use, limit):
            await children.delete(self._client, self._resource, revision)

    async def _create(
        self,
        workload: Object,
        data: Object,
        number: int,
        labels: Mapping[str, str],
        collisions: int | None,
    ) -> tuple[Object, int | None]:
        """Create the revision; a name that another template has is avoided by one more collision."""
        while True:
            revision = document(
                workload, data, number, labels=labels, collisions=collisions, hash_label=self._hash_label
            )
            revision["apiVersion"] = self._resource.api_version
            try:
                return await self._client.create(self._resource, revision), collisions
            except errors.AlreadyExists:
                name, namespace = objects.name(revision), objects.namespace(revision)
                live = await self._client.get(self._resource, name, namespace)
                if same_data(live, revision) and objects.is_controlled_by(live, workload):
                    return live, collisions
                collisions = (collisions or 0) + 1

    async def _renumber(self, revision: Object, number: int) -> Object:
        metadata = {
            "uid": objects.uid(revision),
            "resourceVersion": objects.resource_version(revision),
        }
        return await self._client.patch(
            self._resource,
            objects.name(revision),
            objects.namespace(revision),
            patch={"metadata": metadata, "revision": number},
        )
