"""Strategies: what is particular about writing each built-in kind, one file a kind that needs one."""

from __future__ import annotations

from typing import Final

from ondol.apiserver.strategies import workloads
from ondol.apiserver.strategies.base import Strategy
from ondol.apiserver.strategies.crds import CustomResourceDefinition
from ondol.apiserver.strategies.namespaces import Namespace
from ondol.apiserver.strategies.nodes import Node
from ondol.apiserver.strategies.pods import Pod
from ondol.apiserver.strategies.services import Service

_PLAIN: Final = Strategy()
_RBAC: Final = "rbac.authorization.k8s.io"
_BY_KIND: Final[dict[tuple[str, str], Strategy]] = {
    ("", "Namespace"): Namespace(),
    ("", "Node"): Node(),
    ("", "Pod"): Pod(),
    ("", "Service"): Service(),
    ("", "ServiceAccount"): workloads.ServiceAccount(),
    ("", "Endpoints"): workloads.Endpoints(),
    ("", "Event"): workloads.Upserted(),
    ("events.k8s.io", "Event"): workloads.Upserted(),
    ("coordination.k8s.io", "Lease"): workloads.Lease(),
    ("apps", "Deployment"): workloads.Deployment(),
    ("apps", "ReplicaSet"): workloads.ReplicaSet(),
    ("discovery.k8s.io", "EndpointSlice"): workloads.EndpointSlice(),
    ("apiextensions.k8s.io", "CustomResourceDefinition"): CustomResourceDefinition(),
    **{
        (_RBAC, kind): workloads.Upserted()
        for kind in ("Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding")
    },
}


def of(group: str, kind: str) -> Strategy:
    """The strategy of a built-in kind."""
    return _BY_KIND.get((group, kind), _PLAIN)
