"""ReplicaSets."""

from __future__ import annotations

from typing import ClassVar, Final

from ondol.api.defaults import workloads as defaults
from ondol.api.objects import Object
from ondol.api.tables import builtin
from ondol.api.validation import Rules, workloads
from ondol.apiserver.auth.bootstrap_policy import Access
from ondol.apiserver.kinds.core import pod
from ondol.apiserver.kinds.registration import Kind
from ondol.apiserver.strategy import Workload
from ondol.apiserver.unsupported import Unsupported


class ReplicaSet(Workload):
    """Shows how many replicas it has even where these are none."""

    empty_status: ClassVar[Object | None] = {"replicas": 0}


KIND: Final = Kind(
    "apps",
    "ReplicaSet",
    strategy=ReplicaSet(),
    default=defaults.replica_set,
    rules=Rules(workloads.replica_set, workloads.immutable_selector),
    layout=builtin.layout("apps", "ReplicaSet"),
    unsupported=Unsupported(pod.UNSUPPORTED, ("spec", "template", "spec")),
    access=Access(
        view=("replicasets", "replicasets/status", "replicasets/scale"),
        edit=("replicasets", "replicasets/scale"),
    ),
)
