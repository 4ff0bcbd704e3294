"""The kinds of the group `policy`."""

from __future__ import annotations

from typing import Final

from ondol.apiserver.kinds.policy import pod_disruption_budget

KINDS: Final = (pod_disruption_budget.KIND,)
