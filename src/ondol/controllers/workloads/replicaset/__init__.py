"""ReplicaSets: keep as many pods of a template as asked for."""

from ondol.controllers.workloads.replicaset.reconciler import add_to

__all__ = ["add_to"]
