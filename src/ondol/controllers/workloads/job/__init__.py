"""Jobs: pods that run to their end, so many times as asked for; removed some time after it."""

from ondol.controllers.workloads.job.reconciler import add_to

__all__ = ["add_to"]
