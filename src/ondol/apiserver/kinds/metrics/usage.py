"""NodeMetrics and PodMetrics: answered, not stored (`subresources.resource_metrics`)."""

from __future__ import annotations

from typing import Final

from ondol.api.tables import usage as tables
from ondol.apiserver.auth.bootstrap_policy import Access
from ondol.apiserver.kinds.registration import Kind

KINDS: Final = (
    Kind("metrics.k8s.io", "NodeMetrics", layout=tables.NODE, access=Access(view=("nodes",))),
    Kind("metrics.k8s.io", "PodMetrics", layout=tables.POD, access=Access(view=("pods",))),
)
