"""PodDisruptionBudgets: evictions ask them (`subresources.eviction`)."""

from __future__ import annotations

from typing import ClassVar, Final

from ondol.api.objects import Object
from ondol.api.tables import builtin
from ondol.api.validation import Rules, disruption, statuses
from ondol.apiserver.auth.bootstrap_policy import Access
from ondol.apiserver.kinds.registration import Kind
from ondol.apiserver.strategy import Reconciled


class PodDisruptionBudget(Reconciled):
    """A client that overwrites one must say which it has seen."""

    unconditional_update: ClassVar[bool] = False
    empty_status: ClassVar[Object | None] = {
        "currentHealthy": 0,
        "desiredHealthy": 0,
        "disruptionsAllowed": 0,
        "expectedPods": 0,
    }


KIND: Final = Kind(
    "policy",
    "PodDisruptionBudget",
    strategy=PodDisruptionBudget(),
    rules=Rules(
        disruption.budget,
        parts={
            "status": statuses.counts(
                "disruptionsAllowed", "currentHealthy", "desiredHealthy", "expectedPods"
            )
        },
    ),
    layout=builtin.layout("policy", "PodDisruptionBudget"),
    access=Access(
        view=("poddisruptionbudgets", "poddisruptionbudgets/status"), edit=("poddisruptionbudgets",)
    ),
)
