"""What Kubernetes refuses in built-in kinds beyond the shape of documents.

Each rule is a pure generator of causes over a decoded, defaulted document; `validate` and
`validate_update` choose the rules by the document's type. Custom kinds are held to their schema
(`api.schema.structural`) and to `metadata.check`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from ondol.api.objects import Object
from ondol.api.validation import cluster, crds, fields, metadata, network, pods, rbac, workloads
from ondol.base.errors import Cause

Rule: TypeAlias = Callable[[Mapping[str, Any]], Iterator[Cause]]
UpdateRule: TypeAlias = Callable[[Mapping[str, Any], Mapping[str, Any]], Iterator[Cause]]

_CORE: Final = "io.k8s.api.core.v1."
_APPS: Final = "io.k8s.api.apps.v1."
_RBAC: Final = "io.k8s.api.rbac.v1."
_AUTHORIZATION: Final = "io.k8s.api.authorization.v1."


@dataclass(frozen=True, slots=True)
class _Rules:
    """The rules of one kind."""

    check: Rule | None = None
    update: UpdateRule | None = None
    name: metadata.NameRule = fields.subdomain
    nameless: bool = False


_BY_TYPE: Final[dict[str, _Rules]] = {
    _CORE + "Pod": _Rules(pods.pod, pods.pod_update),
    _CORE + "Service": _Rules(network.service, network.service_update, fields.label_1035),
    _CORE + "Endpoints": _Rules(network.endpoints),
    _CORE + "ConfigMap": _Rules(cluster.config_map, cluster.config_map_update),
    _CORE + "Secret": _Rules(cluster.secret, cluster.secret_update),
    _CORE + "Namespace": _Rules(cluster.namespace, name=fields.label),
    _CORE + "Node": _Rules(cluster.node, cluster.node_update),
    _CORE + "Event": _Rules(cluster.event),
    _CORE + "Binding": _Rules(nameless=True),
    _APPS + "Deployment": _Rules(workloads.deployment, workloads.immutable_selector),
    _APPS + "ReplicaSet": _Rules(workloads.replica_set, workloads.immutable_selector),
    "io.k8s.api.autoscaling.v1.Scale": _Rules(workloads.scale),
    "io.k8s.api.coordination.v1.Lease": _Rules(cluster.lease),
    "io.k8s.api.discovery.v1.EndpointSlice": _Rules(network.endpoint_slice, network.endpoint_slice_update),
    "io.k8s.api.events.v1.Event": _Rules(cluster.event_v1),
    _RBAC + "Role": _Rules(rbac.role, name=fields.path_segment),
    _RBAC + "ClusterRole": _Rules(rbac.cluster_role, name=fields.path_segment),
    _RBAC + "RoleBinding": _Rules(rbac.role_binding, rbac.binding_update, fields.path_segment),
    _RBAC + "ClusterRoleBinding": _Rules(rbac.cluster_role_binding, rbac.binding_update, fields.path_segment),
    "io.k8s.api.authentication.v1.TokenRequest": _Rules(rbac.token_request, nameless=True),
    "io.k8s.api.authentication.v1.TokenReview": _Rules(nameless=True),
    "io.k8s.api.authentication.v1.SelfSubjectReview": _Rules(nameless=True),
    _AUTHORIZATION + "SubjectAccessReview": _Rules(rbac.access_review, nameless=True),
    _AUTHORIZATION + "LocalSubjectAccessReview": _Rules(rbac.local_access_review, nameless=True),
    _AUTHORIZATION + "SelfSubjectAccessReview": _Rules(rbac.self_access_review, nameless=True),
    _AUTHORIZATION + "SelfSubjectRulesReview": _Rules(nameless=True),
    "io.k8s.api.policy.v1.Eviction": _Rules(nameless=True),
    "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.CustomResourceDefinition": _Rules(
        crds.crd, crds.crd_update
    ),
}
_PLAIN: Final = _Rules()


def validate(type_name: str, obj: Object) -> list[Cause]:
    """Everything wrong with a defaulted object of a built-in type."""
    rules = _BY_TYPE.get(type_name, _PLAIN)
    problems: list[Cause] = []
    if not rules.nameless:
        problems.extend(metadata.check(obj, name_rule=rules.name))
    if rules.check is not None:
        problems.extend(rules.check(obj))
    return problems


def validate_metadata_update(type_name: str, new: Object, old: Object) -> list[Cause]:
    """Everything wrong with an update that writes no more of a built-in type than its metadata and status."""
    if new["metadata"] == old["metadata"]:
        return []
    rules = _BY_TYPE.get(type_name, _PLAIN)
    return [*metadata.check(new, name_rule=rules.name), *metadata.update(new, old)]


def validate_update(type_name: str, new: Object, old: Object) -> list[Cause]:
    """Everything wrong with replacing `old` by `new`; covers `validate` of the new object too."""
    rules = _BY_TYPE.get(type_name, _PLAIN)
    problems = validate(type_name, new)
    problems.extend(metadata.update(new, old))
    if rules.update is not None:
        problems.extend(rules.update(new, old))
    return problems
