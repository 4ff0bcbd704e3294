"""Mirroring: Endpoints that people or programs write by hand, as the EndpointSlices that are acted on."""

from ondol.controllers.mirroring.reconciler import add_to

__all__ = ["add_to"]
