"""The built-in kinds: `<group>/<kind>.py` has what is particular about one, as one registration.

A kind whose facts say everything is a line in the table of facts and nothing here.
"""

from __future__ import annotations

from typing import Final

from ondol.apiserver.kinds import (
    admissionregistration,
    apiextensions,
    apiregistration,
    apps,
    authentication,
    authorization,
    autoscaling,
    batch,
    certificates,
    coordination,
    core,
    discovery,
    events,
    flowcontrol,
    metrics,
    networking,
    node,
    policy,
    rbac,
    resource,
    scheduling,
    storage,
)
from ondol.apiserver.kinds.registration import Kind
from ondol.apiserver.kinds.table import Table

__all__ = ["BUILTIN", "Kind", "Table"]

BUILTIN: Final = Table(
    (
        *admissionregistration.KINDS,
        *apiextensions.KINDS,
        *apiregistration.KINDS,
        *apps.KINDS,
        *authentication.KINDS,
        *authorization.KINDS,
        *autoscaling.KINDS,
        *batch.KINDS,
        *certificates.KINDS,
        *coordination.KINDS,
        *core.KINDS,
        *discovery.KINDS,
        *events.KINDS,
        *flowcontrol.KINDS,
        *metrics.KINDS,
        *networking.KINDS,
        *node.KINDS,
        *policy.KINDS,
        *rbac.KINDS,
        *resource.KINDS,
        *scheduling.KINDS,
        *storage.KINDS,
    )
)
"""Everything that is particular about the kinds this server has built in."""
