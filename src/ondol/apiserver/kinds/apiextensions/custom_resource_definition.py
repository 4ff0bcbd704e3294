"""CustomResourceDefinitions: their status is the server's own, and they go after their objects."""

# ruff: noqa: ARG002 - a hook names all it is given, as in the base class

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Final

from ondol.api import conditions, kinds, objects
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

    def warnings(self, new: Object, old: Object | None) -> list[str]:
        """What of a definition is kept but not acted on: webhooks of conversion."""
        return list(_unconverted(objects.spec(new)))


def _unconverted(spec: Mapping[str, Any]) -> Iterator[str]:
    if (spec.get("conversion") or {}).get("strategy") != "Webhook":
        return
    served = [str(version["name"]) for version in kinds.served_versions(spec)]
    others = [
        str(v["name"]) for v in spec.get("versions") or () if v.get("served") and v["name"] not in served
    ]
    if others:
        yield (
            "spec.conversion: webhooks are not called by this server yet: objects are stored and served as "
            f"{', '.join(served) or 'no version'} only, not as {', '.join(others)}"
        )


KIND: Final = Kind(
    "apiextensions.k8s.io",
    "CustomResourceDefinition",
    strategy=CustomResourceDefinition(),
    default=defaults.crd,
    rules=Rules(crds.crd, crds.crd_update),
)
