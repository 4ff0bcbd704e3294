"""The two objects of every namespace: its `default` service account and the authority's certificate."""

from ondol.controllers.serviceaccount.reconciler import add_to

__all__ = ["add_to"]
