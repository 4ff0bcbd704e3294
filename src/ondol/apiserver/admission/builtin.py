"""The plug-ins that look at several kinds; those of one kind stand in its registration."""

from __future__ import annotations

from typing import Final

from ondol.apiserver.admission import (
    definitions,
    limits,
    namespaces,
    node_restriction,
    owner_references,
    pod_security,
    quotas,
)
from ondol.apiserver.admission.chain import Plugins

EVERY: Final = Plugins(
    (definitions.admit, namespaces.admit, limits.default),
    (limits.check, node_restriction.admit, owner_references.admit, pod_security.admit, quotas.admit),
)
