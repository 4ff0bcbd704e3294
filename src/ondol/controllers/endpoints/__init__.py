"""Endpoints: which pods stand behind a Service, in slices of at most a hundred."""

from ondol.controllers.endpoints.reconciler import add_to

__all__ = ["add_to"]
