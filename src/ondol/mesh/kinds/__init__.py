"""The mesh's kinds in one table: adding one is a file beside these and a line here."""

from __future__ import annotations

from typing import Any, Final

from ondol.mesh.kinds import (
    authorization_policy,
    destination_rule,
    envoy_filter,
    gateway,
    peer_authentication,
    proxy_config,
    request_authentication,
    service_entry,
    sidecar,
    telemetry,
    virtual_service,
    workloads,
)
from ondol.mesh.kinds.kind import Kind, Kinds

__all__ = ["KINDS"]

_TABLE: Final[tuple[Kind[Any], ...]] = (
    virtual_service.KIND,
    destination_rule.KIND,
    gateway.KIND,
    service_entry.KIND,
    workloads.ENTRY,
    workloads.GROUP,
    sidecar.KIND,
    authorization_policy.KIND,
    request_authentication.KIND,
    peer_authentication.KIND,
    telemetry.KIND,
    envoy_filter.KIND,
    proxy_config.KIND,
)
KINDS: Final[Kinds] = {kind.name: kind for kind in _TABLE}
