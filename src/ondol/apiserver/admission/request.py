"""What a plug-in is asked about."""

from __future__ import annotations

from dataclasses import dataclass

from ondol.api.objects import Object
from ondol.apiserver.served import Served


@dataclass(frozen=True, slots=True)
class Request:
    """One write: `new` may be changed in place (it is empty for a delete), `old` is read-only."""

    operation: str
    """`create`, `update` or `delete`."""
    served: Served
    namespace: str
    new: Object
    old: Object | None
    subresource: str = ""
