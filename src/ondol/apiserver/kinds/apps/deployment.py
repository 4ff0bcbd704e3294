"""Deployments."""

from __future__ import annotations

from typing import ClassVar, Final

from ondol.api import objects
from ondol.api.defaults import workloads as defaults
from ondol.api.objects import Object
from ondol.api.patch.fieldset import FieldSet
from ondol.api.tables import builtin
from ondol.api.validation import Rules, workloads
from ondol.apiserver.auth.bootstrap_policy import Access
from ondol.apiserver.kinds.core import pod
from ondol.apiserver.kinds.registration import Kind
from ondol.apiserver.strategy import Workload
from ondol.apiserver.unsupported import Unsupported


class Deployment(Workload):
    """Its labels are not written with the status, unlike those of every other built-in kind."""

    status_reset: ClassVar[FieldSet] = {"f:spec": {}, "f:metadata": {"f:labels": {}}}

    def desired_state(self, obj: Object) -> Object:
        """Its annotations too: those of its ReplicaSets follow them."""
        return {**super().desired_state(obj), "annotations": objects.annotations(obj)}


KIND: Final = Kind(
    "apps",
    "Deployment",
    strategy=Deployment(),
    default=defaults.deployment,
    rules=Rules(workloads.deployment, workloads.immutable_selector),
    layout=builtin.layout("apps", "Deployment"),
    unsupported=Unsupported(pod.UNSUPPORTED, ("spec", "template", "spec")),
    access=Access(
        view=("deployments", "deployments/status", "deployments/scale"),
        edit=("deployments", "deployments/scale", "deployments/rollback"),
    ),
)
