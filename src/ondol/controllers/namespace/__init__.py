"""Namespaces: once deleted, everything in one is removed, and then the namespace itself."""

from ondol.controllers.namespace.reconciler import add_to

__all__ = ["add_to"]
