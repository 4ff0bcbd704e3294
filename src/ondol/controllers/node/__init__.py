"""The life of nodes: heartbeats that stop, taints that follow, pods that must leave."""

from ondol.controllers.node.reconciler import add_to

__all__ = ["add_to"]
