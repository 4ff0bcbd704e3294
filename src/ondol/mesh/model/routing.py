"""What routes may say beyond Istio's: Gateway API's, which no VirtualService of a user has."""

from __future__ import annotations

from typing import Final

from ondol.mesh.model import istio


class HTTPMatchRequest(istio.HTTPMatchRequest, frozen=True):
    millionths: int | None = None
    """Out of a million requests that match otherwise, those with the lowest chance numbers."""


class HTTPRoute(istio.HTTPRoute, frozen=True):
    missing_is_error: bool = False
    """A share of the requests goes to a destination that there is not, and is answered 500."""


NOWHERE: Final = "backend.invalid"
"""A host that nobody has: no cluster bears its name."""
