"""ResourceQuotas: what is used of each is counted and reported in its status."""

from ondol.controllers.quota.reconciler import add_to

__all__ = ["add_to"]
