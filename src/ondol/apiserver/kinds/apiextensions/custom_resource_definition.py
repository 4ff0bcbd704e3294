"""CustomResourceDefinitions: their status is the server's own, and they go after their objects."""

from __future__ import annotations

from typing import ClassVar, Final

from ondol.api import conditions, objects
from ondol.api.defaults import cluster as defaults
from ondol.api.objects import Object
from ondol.api.validation import Rules, crds
from ondol.apiserver.kinds.registration import Kind
from ondol.apiserver.strategy import Context, Strategy

CLEANUP: Final = "customresourcecleanup.apiextensions.k8s.io"


class CustomResourceDefinition(Strategy):
    has_generation: ClassVar[bool] = True
    has_status: ClassVar[bool] = True
    unconditional_update: ClassVar[bool] = False
    cleanup_finalizers: ClassVar[tuple[str, ...]] = (CLEANUP,)

    def prepare_for_create(self, context: Context, new: Object) -> None:
        super().prepare_for_create(context, new)
        stored = [v["name"] for v in new["spec"].get("versions") or () if v.get("storage")]
        new["status"] = {
            "conditions": [],
            "acceptedNames": {"plural": "", "kind": ""},
            "storedVersions": stored,
        }

    def prepare_for_update(self, context: Context, new: Object, old: Object) -> None:
        super().prepare_for_update(context, new, old)
        stored = list(objects.status(new).get("storedVersions") or ())
        added = [
            v["name"]
            for v in new["spec"].get("versions") or ()
            if v.get("storage") and v["name"] not in stored
        ]
        if added:
            new["status"] = {**new["status"], "storedVersions": [*stored, *added]}

    def prepare_for_delete(self, new: Object, now: float) -> None:
        listed = conditions.set(
            conditions.of(new),
            "Terminating",
            "True",
            reason="InstanceDeletionPending",
            message="CustomResourceDefinition marked for deletion; CustomResource deletion will begin soon",
            now=now,
        )
        new["status"] = {**objects.status(new), "conditions": listed}


KIND: Final = Kind(
    "apiextensions.k8s.io",
    "CustomResourceDefinition",
    strategy=CustomResourceDefinition(),
    default=defaults.crd,
    rules=Rules(crds.crd, crds.crd_update),
)
