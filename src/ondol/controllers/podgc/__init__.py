"""Pods nobody will remove otherwise: of lost nodes, never bound, or ended and too many."""

from ondol.controllers.podgc.reconciler import add_to

__all__ = ["add_to"]
