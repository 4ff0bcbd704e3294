"""`Request`: the write that admission is asked about."""

from __future__ import annotations

from dataclasses import dataclass, field

from ondol.api.objects import Object
from ondol.apiserver.lenses import Lens
from ondol.apiserver.served import Served


@dataclass(slots=True)
class Request:
    """One write.

    In the mutating phase `new` may be changed in place or replaced; from then on it is the object as it will
    be stored, and nobody's to change. It is empty for a delete. `old` is shared and read-only.
    """

    operation: str
    """`create`, `update`, `delete` or `connect`."""
    served: Served
    namespace: str
    new: Object
    old: Object | None
    subresource: str = ""
    options: Object = field(default_factory=dict)
    """How the write is meant, as `CreateOptions`, `UpdateOptions` or `DeleteOptions`."""
    lens: Lens | None = None
    """The part of the object that is written, where that is not all of it."""
    called: dict[str, Object] = field(default_factory=dict)
    """The webhooks that were called, each with the object as it was when that one had answered."""
    is_again: bool = False
    """Whether mutation runs a second time, on what something outside has changed."""
