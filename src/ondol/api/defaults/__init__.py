"""The defaults of fields that an object of a built-in kind leaves out.

`apply` is called on a decoded document before it is validated: first the table's defaults and empty
structs, then the rules that Kubernetes keeps in code (pkg/apis/*/v1/defaults.go), restated here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from ondol.api.defaults import cluster, network, pods
from ondol.api.objects import Object
from ondol.api.schema import typed

_CORE: Final = "io.k8s.api.core.v1."
_RULES: Final[dict[str, Callable[[Any], None]]] = {
    _CORE + "Pod": pods.pod,
    _CORE + "Service": network.service,
    _CORE + "Endpoints": network.endpoints,
    _CORE + "Namespace": cluster.namespace,
    _CORE + "Node": cluster.node,
    _CORE + "Secret": cluster.secret,
    "io.k8s.api.apps.v1.Deployment": pods.deployment,
    "io.k8s.api.apps.v1.ReplicaSet": pods.replica_set,
    "io.k8s.api.discovery.v1.EndpointSlice": network.endpoint_slice,
    "io.k8s.api.rbac.v1.RoleBinding": cluster.role_binding,
    "io.k8s.api.rbac.v1.ClusterRoleBinding": cluster.role_binding,
    "io.k8s.api.authentication.v1.TokenRequest": cluster.token_request,
    "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.CustomResourceDefinition": cluster.crd,
}


def apply(type_name: str, document: Object) -> None:
    """Default a decoded document of a built-in type, in place; doing it twice changes nothing more."""
    typed.of(type_name).fill(document)
    rule = _RULES.get(type_name)
    if rule is not None:
        rule(document)
