"""The kinds of the group `rbac.authorization.k8s.io`."""

from __future__ import annotations

from typing import Final

from ondol.apiserver.kinds.rbac import bindings, roles

KINDS: Final = (roles.ROLE, roles.CLUSTER_ROLE, bindings.ROLE_BINDING, bindings.CLUSTER_ROLE_BINDING)
