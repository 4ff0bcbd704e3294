"""Garbage collection: objects whose owners are gone go too, in the order the deleter chose."""

from ondol.controllers.garbage.reconciler import add_to

__all__ = ["add_to"]
