"""DaemonSets: a pod on each node that fits, and an orderly change from one template to the next."""

from ondol.controllers.workloads.daemonset.reconciler import add_to

__all__ = ["add_to"]
