"""CronJobs: a Job made of a template, each time a schedule says so."""

from ondol.controllers.workloads.cronjob.reconciler import add_to

__all__ = ["add_to"]
