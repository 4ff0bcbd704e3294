"""ProxyConfig: how a workload's own proxy runs. There is one for all, so what it says of one is refused."""

from __future__ import annotations

from typing import Final

from ondol.contracts import mesh
from ondol.mesh.kinds.kind import Kind
from ondol.mesh.model import envoy_filter

KIND: Final = Kind(
    resource=mesh.PROXY_CONFIG,
    short_name="pc",
    description="How a workload's proxy runs; here one serves all, and settings of the platform say how.",
    spec=envoy_filter.ProxyConfigSpec,
    fields={
        "ProxyConfigSpec": {"selector": "Of which workloads."},
        "ProxyConfigSelector": {"matchLabels": "Labels that they have."},
    },
    versions=("v1beta1",),
)
