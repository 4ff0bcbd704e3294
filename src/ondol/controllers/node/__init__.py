"""Node lifecycle: a node without heartbeats becomes Unknown and tainted, and its pods are evicted."""

from ondol.controllers.node.reconciler import add_to

__all__ = ["add_to"]
