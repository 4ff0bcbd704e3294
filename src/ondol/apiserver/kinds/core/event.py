"""Events of the core group. PUT creates what is missing."""

from __future__ import annotations

from typing import Final

from ondol.api.tables import builtin
from ondol.api.validation import Rules, cluster, fields
from ondol.apiserver.kinds.registration import Kind
from ondol.apiserver.strategy import Upserted

KIND: Final = Kind(
    "",
    "Event",
    strategy=Upserted(),
    # Programs name their events as they like here; the newer form asks for a subdomain.
    rules=Rules(cluster.event, name=fields.path_segment),
    layout=builtin.layout("", "Event"),
)
