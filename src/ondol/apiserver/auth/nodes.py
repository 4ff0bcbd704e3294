"""The node authorizer: a node's own account reads what the pods bound to it refer to, and no more.

Follows Kubernetes' `plugin/pkg/auth/authorizer/node`: secrets, ConfigMaps and claims one by one and by name,
pods of this node, its own Node and Lease, tokens for the accounts of its pods. What else a node does is a
short list of rules. RBAC may still add to it. What a node may write in these objects is admission's part
(`admission.node_restriction`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final, NamedTuple

from ondol.api import fields, objects, pod_references, resources, volumes
from ondol.api.objects import Object
from ondol.apiserver.auth import identity, rbac
from ondol.apiserver.auth.identity import User
from ondol.apiserver.auth.rbac import Attributes, Decision
from ondol.base import errors
from ondol.store import Record

PREFIX: Final = "system:node:"
LEASE_NAMESPACE: Final = "kube-node-lease"
_READ: Final = frozenset({"get", "list", "watch"})
_COLLECTIONS: Final = frozenset({"list", "watch"})
_REMEMBERED_MAX: Final = 8192


def _rule(verbs: str, group: str, resource: str) -> rbac.Rule:
    return rbac.Rule.of({"verbs": verbs.split(), "apiGroups": [group], "resources": [resource]})


RULES: Final = (
    _rule("get list watch", "", "services"),
    _rule("patch", "", "services/status"),  # who lost an address or a port, and to whom
    _rule("get list watch", "", "namespaces"),
    _rule("get list watch", "networking.k8s.io", "networkpolicies"),  # it enforces them
    _rule("get list watch", "discovery.k8s.io", "endpointslices"),
    _rule("get list watch", "networking.istio.io", "serviceentries"),  # it answers for their names
    _rule("get list watch", "networking.istio.io", "sidecars"),
    _rule("get list watch", "node.k8s.io", "runtimeclasses"),
    _rule("create update patch", "", "nodes"),
    _rule("update patch", "", "nodes/status"),
    _rule("delete", "", "pods"),
    _rule("update patch", "", "pods/status"),
    _rule("create", "", "pods/eviction"),
    _rule("create get list watch", "certificates.k8s.io", "certificatesigningrequests"),
    _rule("create update patch", "", "events"),
    _rule("create update patch", "events.k8s.io", "events"),
)
"""What every node may do besides reading what belongs to it."""

Pods = Callable[[str], Iterable[tuple[Record, Callable[[], Object]]]]
"""The records of a namespace's pods, or of all, with what reads each as a document."""


def name_of(user: User) -> str:
    """The node whose account this is, or nothing."""
    is_node = user.name.startswith(PREFIX) and identity.NODES in user.groups
    return user.name.removeprefix(PREFIX) if is_node else ""


class Bound(NamedTuple):
    """What is known of one pod: its node, and the names it refers to."""

    node: str
    names: dict[str, frozenset[str]]


class Authorizer(rbac.Authorizer):
    """RBAC, with what the graph of pods gives to the nodes they are bound to."""

    def __init__(
        self, list_objects: rbac.ListObjects, pods: Pods, has_changed: Callable[[], bool] = lambda: False
    ) -> None:
        super().__init__(list_objects, has_changed)
        self._pods = pods
        self._bound: dict[tuple[str, int], Bound] = {}

    def authorize(self, user: User, attributes: Attributes) -> Decision:
        node = name_of(user)
        if not node:
            return super().authorize(user, attributes)
        reason = self._refusal(node, attributes)
        if not reason:
            return Decision(allowed=True)
        decision = super().authorize(user, attributes)
        return decision if decision.allowed else Decision(allowed=False, reason=reason)

    def _refusal(self, node: str, attributes: Attributes) -> str:
        """Why the node may not, or nothing."""
        if attributes.resource == "nodes" and not attributes.group and attributes.verb in _READ:
            return "" if attributes.name == node and not attributes.subresource else _own("nodes", node)
        if attributes.resource == "pods" and not attributes.group and attributes.verb in _READ:
            return self._pods_refusal(node, attributes)
        if attributes.resource == "leases" and attributes.group == resources.LEASE.group:
            return _lease_refusal(node, attributes)
        if not attributes.group and attributes.resource == _VOLUMES:
            return self._volume_refusal(node, attributes)
        if not attributes.group and attributes.resource in _REFERRED:
            return self._referred_refusal(node, attributes)
        return "" if any(rule.allows(attributes) for rule in RULES) else _NOTHING

    def _pods_refusal(self, node: str, attributes: Attributes) -> str:
        if attributes.subresource:
            return _NOTHING
        if attributes.verb in _COLLECTIONS:
            selected = _required(attributes.field_selector, "spec.nodeName") == node
            return "" if selected else f"can only list/watch pods with spec.nodeName={node} field selector"
        is_its = bool(attributes.name) and self._refers(node, attributes.namespace, "pods", attributes.name)
        return "" if is_its else _unrelated(node)

    def _referred_refusal(self, node: str, attributes: Attributes) -> str:
        verbs, subresource = _REFERRED[attributes.resource]
        if attributes.verb not in verbs or attributes.subresource != subresource:
            return f"can only {'/'.join(sorted(verbs))} {attributes.full_resource} its pods refer to"
        if not attributes.name or not attributes.namespace:
            return "No Object name found"
        related = self._refers(node, attributes.namespace, attributes.resource, attributes.name)
        return "" if related else _unrelated(node)

    def _volume_refusal(self, node: str, attributes: Attributes) -> str:
        """A volume is a node's to read by the claim it is bound to, of one of the node's pods."""
        if attributes.verb not in _READ or attributes.subresource:
            return f"can only {'/'.join(sorted(_READ))} {attributes.full_resource} its pods refer to"
        if not attributes.name:
            return "No Object name found"
        for volume in self._list(resources.PERSISTENT_VOLUME):
            claim = volumes.claim_key(volume)
            if objects.name(volume) == attributes.name and claim is not None:
                related = self._refers(
                    node, claim.namespace, resources.PERSISTENT_VOLUME_CLAIM.plural, claim.name
                )
                return "" if related else _unrelated(node)
        return _unrelated(node)

    def _refers(self, node: str, namespace: str, resource: str, name: str) -> bool:
        """Whether a pod bound to the node is, or refers to, the object."""
        for record, read in self._pods(namespace):
            key = (record.name, record.revision)
            bound = self._bound.get(key)
            if bound is None:
                if len(self._bound) >= _REMEMBERED_MAX:
                    self._bound.clear()
                bound = self._bound[key] = _bound(read())
            if bound.node == node and name in bound.names[resource]:
                return True
        return False


_REFERRED: Final = {
    "secrets": (_READ, ""),
    "configmaps": (_READ, ""),
    "persistentvolumeclaims": (_READ, ""),
    "serviceaccounts": (frozenset({"create"}), "token"),
}
_VOLUMES: Final = resources.PERSISTENT_VOLUME.plural
_NOTHING: Final = "nodes have no such right"


def _bound(pod: Object) -> Bound:
    spec = objects.spec(pod)
    named = pod_references.of_volumes(spec) | pod_references.of_environments(spec)
    return Bound(
        spec.get("nodeName") or "",
        {
            "pods": frozenset({objects.name(pod)}),
            "configmaps": named.config_maps,
            "secrets": named.secrets | pod_references.pull_secrets(spec),
            "persistentvolumeclaims": pod_references.claims(objects.name(pod), spec),
            "serviceaccounts": frozenset({spec.get("serviceAccountName") or "default"}),
        },
    )


def _lease_refusal(node: str, attributes: Attributes) -> str:
    if attributes.verb not in ("get", "create", "update", "patch", "delete"):
        return "can only get, create, update, patch, or delete a node lease"
    if attributes.namespace != LEASE_NAMESPACE:
        return f'can only access leases in the "{LEASE_NAMESPACE}" system namespace'
    if attributes.verb != "create" and attributes.name != node:
        return "can only access node lease with the same name as the requesting node"
    return ""


def _required(selector: str, field: str) -> str | None:
    try:
        return fields.parse(selector).required_value(field)
    except errors.BadRequest:
        return None  # the handler reports it


def _own(plural: str, node: str) -> str:
    return f"node '{node}' cannot read all {plural}, only its own Node object"


def _unrelated(node: str) -> str:
    return f"no relationship found between node '{node}' and this object"
