"""What every namespace is born with: its `default` service account and the authority's certificate."""

from ondol.controllers.serviceaccount.reconciler import add_to

__all__ = ["add_to"]
