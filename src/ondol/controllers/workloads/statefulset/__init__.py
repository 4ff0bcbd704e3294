"""StatefulSets: pods with names and claims of their own, made, updated and taken away in order."""

from ondol.controllers.workloads.statefulset.reconciler import add_to

__all__ = ["add_to"]
