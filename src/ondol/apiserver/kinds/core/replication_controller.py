"""ReplicationControllers: what ReplicaSets were before; their selector is labels and their values."""

from __future__ import annotations

from typing import ClassVar, Final

from ondol.api.defaults import workloads as defaults
from ondol.api.objects import Object
from ondol.api.tables import builtin
from ondol.api.validation import Rules, statuses, workloads
from ondol.apiserver.auth.bootstrap_policy import Access
from ondol.apiserver.kinds.core import pod
from ondol.apiserver.kinds.registration import Kind
from ondol.apiserver.lenses import Scale
from ondol.apiserver.strategy import Workload
from ondol.apiserver.unsupported import Unsupported


class ReplicationController(Workload):
    """In its first version deletes left the pods behind, and it is still served as that."""

    empty_status: ClassVar[Object | None] = {"replicas": 0}
    default_propagation: ClassVar[str] = "Orphan"


KIND: Final = Kind(
    "",
    "ReplicationController",
    strategy=ReplicationController(),
    default=defaults.replication_controller,
    rules=Rules(workloads.replication_controller, parts={"status": statuses.replication_controller}),
    layout=builtin.layout("", "ReplicationController"),
    scale=Scale(selects_by_pairs=True),
    unsupported=Unsupported(pod.UNSUPPORTED, ("spec", "template", "spec")),
    access=Access(
        view=("replicationcontrollers", "replicationcontrollers/scale", "replicationcontrollers/status"),
        edit=("replicationcontrollers", "replicationcontrollers/scale"),
    ),
)
