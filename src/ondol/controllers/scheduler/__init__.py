"""The scheduler: a node for every pod, or the reason why there is none."""

from ondol.controllers.scheduler.reconciler import add_to

__all__ = ["add_to"]
