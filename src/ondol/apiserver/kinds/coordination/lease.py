"""Leases: renewed only by who has seen the last renewal. PUT creates what is missing."""

from __future__ import annotations

from typing import ClassVar, Final

from ondol.api.tables import builtin
from ondol.api.validation import Rules, cluster
from ondol.apiserver.kinds.registration import Kind
from ondol.apiserver.strategy import Upserted


class Lease(Upserted):
    unconditional_update: ClassVar[bool] = False


KIND: Final = Kind(
    "coordination.k8s.io",
    "Lease",
    strategy=Lease(),
    rules=Rules(cluster.lease),
    layout=builtin.layout("coordination.k8s.io", "Lease"),
)
