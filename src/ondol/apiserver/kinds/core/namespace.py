"""Namespaces: kept by the `kubernetes` finalizer of their spec until they are empty."""

# ruff: noqa: ARG002 - a hook names all it is given, as in the base class

from __future__ import annotations

from typing import ClassVar, Final

from ondol.api import objects
from ondol.api.defaults import cluster as defaults
from ondol.api.objects import Object
from ondol.api.tables import builtin
from ondol.api.validation import Rules, cluster, fields
from ondol.apiserver.auth.bootstrap_policy import Access
from ondol.apiserver.kinds.registration import Kind
from ondol.apiserver.strategy import Context, Strategy

FINALIZER: Final = "kubernetes"


class Namespace(Strategy):
    has_status: ClassVar[bool] = True
    returns_deleted: ClassVar[bool] = True

    def prepare_for_create(self, context: Context, new: Object) -> None:
        super().prepare_for_create(context, new)
        new["spec"] = {"finalizers": [FINALIZER]}
        new["status"] = {"phase": "Active"}
        new["metadata"].setdefault("labels", {})["kubernetes.io/metadata.name"] = objects.name(new)

    def prepare_for_update(self, context: Context, new: Object, old: Object) -> None:
        super().prepare_for_update(context, new, old)
        new["spec"] = old["spec"]

    def holds(self, obj: Object) -> bool:
        return bool(objects.spec(obj).get("finalizers"))

    def prepare_for_delete(self, new: Object, now: float) -> None:
        new["status"] = {**objects.status(new), "phase": "Terminating"}


KIND: Final = Kind(
    "",
    "Namespace",
    strategy=Namespace(),
    default=defaults.namespace,
    rules=Rules(cluster.namespace, name=fields.label),
    layout=builtin.layout("", "Namespace"),
    access=Access(view=("namespaces", "namespaces/status")),
)
