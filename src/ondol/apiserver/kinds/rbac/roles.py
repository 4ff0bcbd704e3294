"""Roles and ClusterRoles: nobody grants in them what they do not hold. PUT creates what is missing."""

from __future__ import annotations

from typing import Final

from ondol.api.validation import Rules, fields, rbac
from ondol.apiserver.admission import escalation
from ondol.apiserver.admission.chain import Plugins
from ondol.apiserver.auth.rbac import GROUP
from ondol.apiserver.kinds.registration import Kind
from ondol.apiserver.strategy import Upserted

_PLUGINS: Final = Plugins(mutating=(escalation.admit,))

ROLE: Final = Kind(
    GROUP,
    "Role",
    strategy=Upserted(),
    rules=Rules(rbac.role, name=fields.path_segment),
    plugins=_PLUGINS,
)
CLUSTER_ROLE: Final = Kind(
    GROUP,
    "ClusterRole",
    strategy=Upserted(),
    rules=Rules(rbac.cluster_role, name=fields.path_segment),
    plugins=_PLUGINS,
)
