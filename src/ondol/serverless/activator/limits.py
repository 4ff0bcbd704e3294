"""How long a request may take at the activator; what passes is answered 504, as Knative answers it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

REASON: Final = "activator request timeout\n"


@dataclass(frozen=True, slots=True)
class Limits:
    """Seconds; 0 of the last two is no limit."""

    total_s: float
    """How long it may wait for a pod. The proxy in front counts the whole request by the same measure."""
    response_start_s: float = 0.0
    """How long the pod may take to begin its answer."""
    idle_s: float = 0.0
    """How long the pod may send nothing."""

    def silence_s(self, *, begun: bool) -> float:
        """How many seconds the pod may be silent from now; infinite for as long as it likes."""
        limits_s = (self.idle_s,) if begun else (self.response_start_s, self.idle_s)
        return min(filter(None, limits_s), default=math.inf)
