"""Events of `events.k8s.io`: the objects of the core group, in a newer form."""

from __future__ import annotations

from typing import Final

from ondol.api.tables import builtin
from ondol.api.validation import Rules, cluster
from ondol.apiserver.events import EventConversion
from ondol.apiserver.kinds.registration import Kind
from ondol.apiserver.strategy import Upserted

KIND: Final = Kind(
    "events.k8s.io",
    "Event",
    strategy=Upserted(),
    rules=Rules(cluster.event_v1),
    layout=builtin.layout("events.k8s.io", "Event"),
    bucket="events",
    conversion=EventConversion(),
)
