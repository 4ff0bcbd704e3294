"""Aggregated cluster roles: their rules are those of the roles their labels select."""

from ondol.controllers.aggregation.reconciler import add_to

__all__ = ["add_to"]
