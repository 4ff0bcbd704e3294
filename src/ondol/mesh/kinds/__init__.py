"""The mesh's kinds in one table: adding one is a file beside these and a line here."""

from __future__ import annotations

from typing import Any, Final

from ondol.mesh.kinds import destination_rule, gateway, virtual_service
from ondol.mesh.kinds.kind import Kind, Kinds

__all__ = ["KINDS"]

_TABLE: Final[tuple[Kind[Any], ...]] = (
    virtual_service.KIND,
    destination_rule.KIND,
    gateway.KIND,
)
KINDS: Final[Kinds] = {kind.name: kind for kind in _TABLE}
