"""Events of the core group. PUT creates what is missing."""

from __future__ import annotations

from typing import Final

from ondol.api.tables import builtin
from ondol.api.validation import Rules, cluster
from ondol.apiserver.kinds.registration import Kind
from ondol.apiserver.strategy import Upserted

KIND: Final = Kind(
    "",
    "Event",
    strategy=Upserted(),
    rules=Rules(cluster.event),
    layout=builtin.layout("", "Event"),
)
