"""Destinations: who gets events, and at which address. `resolver` is what controllers resolve them with."""

from ondol.eventing.destinations.addresses import NOWHERE, Address, Reference, Unresolved, is_empty, reference

__all__ = ["NOWHERE", "Address", "Reference", "Unresolved", "is_empty", "reference"]
