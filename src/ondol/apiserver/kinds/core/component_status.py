"""ComponentStatuses: answered, not stored (`subresources.component_statuses`)."""

from __future__ import annotations

from typing import Final

from ondol.api.tables import quotas as tables
from ondol.apiserver.kinds.registration import Kind

KIND: Final = Kind(
    "",
    "ComponentStatus",
    layout=tables.COMPONENT_STATUS,
    deprecation="v1 ComponentStatus is deprecated in v1.19+",
)
