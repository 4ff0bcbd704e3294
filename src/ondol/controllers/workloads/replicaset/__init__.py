"""ReplicaSets and ReplicationControllers: keep as many pods of a template as asked for."""

from ondol.controllers.workloads.replicaset.reconciler import KINDS, add_to

__all__ = ["KINDS", "add_to"]
