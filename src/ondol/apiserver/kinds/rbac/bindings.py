"""RoleBindings and ClusterRoleBindings: nobody binds a role that holds more than they do."""

from __future__ import annotations

from typing import Final

from ondol.api.defaults import cluster as defaults
from ondol.api.tables import builtin
from ondol.api.validation import Rule, Rules, fields, rbac
from ondol.apiserver.admission import escalation
from ondol.apiserver.admission.chain import Plugins
from ondol.apiserver.auth.rbac import GROUP
from ondol.apiserver.kinds.registration import Kind
from ondol.apiserver.strategy import Upserted


def _binding(kind: str, rule: Rule) -> Kind:
    return Kind(
        GROUP,
        kind,
        strategy=Upserted(),
        default=defaults.role_binding,
        rules=Rules(rule, rbac.binding_update, fields.path_segment),
        layout=builtin.layout(GROUP, kind),
        plugins=Plugins(mutating=(escalation.admit,)),
    )


ROLE_BINDING: Final = _binding("RoleBinding", rbac.role_binding)
CLUSTER_ROLE_BINDING: Final = _binding("ClusterRoleBinding", rbac.cluster_role_binding)
