"""CustomResourceDefinitions: their status is the server's own, and they go after their objects."""

# ruff: noqa: ARG002 - a hook names all it is given, as in the base class

from __future__ import annotations

from typing import ClassVar, Final

from ondol.api import conditions, objects
from ondol.api.objects import Object
from ondol.api.schema import structural
from ondol.apiserver.strategies.base import Context, Strategy
from ondol.base.errors import Cause

CLEANUP: Final = "customresourcecleanup.apiextensions.k8s.io"
_WEBHOOK: Final = (
    "conversion by webhook is not supported: serve one version, or several that differ in nothing but "
    "their schema (strategy None)"
)


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

    def problems(self, context: Context, new: Object, old: Object | None) -> list[Cause]:
        if (objects.spec(new).get("conversion") or {}).get("strategy") != "Webhook":
            return []
        return [Cause("FieldValueNotSupported", f"Unsupported value: {_WEBHOOK}", "spec.conversion.strategy")]

    def warnings(self, new: Object, old: Object | None) -> list[str]:
        """Rules that are accepted for the schema's sake but not evaluated; one sentence a version."""
        found = []
        for version in objects.spec(new).get("versions") or ():
            schema = (version.get("schema") or {}).get("openAPIV3Schema") or {}
            if rules := structural.unsupported(schema):
                found.append(
                    f"version {version.get('name')}: CEL rules are not evaluated by this server; there are "
                    f"{len(rules)} places with x-kubernetes-validations, the first one {rules[0]}"
                )
        return found
