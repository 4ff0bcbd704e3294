"""Deployments: a ReplicaSet for each template, and an orderly change from one to the next."""

from ondol.controllers.workloads.deployment.reconciler import add_to

__all__ = ["add_to"]
