"""PodDisruptionBudgets: count the healthy pods, so that evictions know how many they may take."""

from ondol.controllers.disruption.reconciler import add_to

__all__ = ["add_to"]
