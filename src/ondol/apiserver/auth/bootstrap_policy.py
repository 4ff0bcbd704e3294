"""The roles and bindings a new server starts with, and how they are kept complete.

The `system:` names and the rules of `cluster-admin`, `admin`, `edit` and `view` are Kubernetes' own;
the `system:ondol:` ones give each part of the platform what it needs and no more. The node has none: the
node authorizer (`nodes`) knows what belongs to it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from ondol.api import objects, own_paths
from ondol.api.objects import Object
from ondol.apiserver.auth import duck_policy, escalation, identity, rbac

AUTOUPDATE: Final = "rbac.authorization.kubernetes.io/autoupdate"
_AGGREGATE: Final = "rbac.authorization.k8s.io/aggregate-to-"
_LABELS: Final = {"kubernetes.io/bootstrapping": "rbac-defaults"}
_READ: Final = ("get", "list", "watch")
_WRITE: Final = ("create", "update", "patch", "delete", "deletecollection")
_READ_WRITE: Final = ("get", "list", "watch", "create", "update", "patch", "delete", "deletecollection")
_ISTIO: Final = ("networking.istio.io", "security.istio.io", "telemetry.istio.io", "extensions.istio.io")
_GATEWAY_API: Final = ("gateway.networking.k8s.io",)
_KNATIVE: Final = (
    "serving.knative.dev",
    "autoscaling.internal.knative.dev",
    "networking.internal.knative.dev",
    "eventing.knative.dev",
    "messaging.knative.dev",
    "flows.knative.dev",
    "sources.knative.dev",
    "sinks.knative.dev",
    "eventing.ondol.dev",
    "sources.ondol.dev",
)
_SERVING: Final = _KNATIVE[:3]
_EVENTING: Final = _KNATIVE[3:]

CONTROL: Final = "system:ondol:control"
GATEWAY: Final = "system:ondol:gateway"
EVENTS: Final = "system:ondol:events"
OBSERVE: Final = "system:ondol:observe"
MESH: Final = "system:ondol:mesh"
PROVISIONER: Final = "system:ondol:provisioner"
AUTHENTICATION: Final = "extension-apiserver-authentication"
"""The ConfigMap by which other API servers know this one, and their callers."""
RETIRED: Final = ("system:ondol:node",)
"""Roles and their bindings that earlier versions made and this one takes away: nodes have an authorizer."""

_Rule = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Access:
    """Of a kind, the resources (with subresources) that the default roles reach.

    `view` may read the former; `edit` reads and writes the latter, and what it may only read of them is not
    in `view`. `admin` may all that `edit` may.
    """

    view: tuple[str, ...] = ()
    edit: tuple[str, ...] = ()


class Grant(NamedTuple):
    """The access to the kinds of one group."""

    group: str
    access: Access


def _rule(verbs: Sequence[str], groups: Sequence[str], resources: Sequence[str]) -> _Rule:
    return {"verbs": list(verbs), "apiGroups": list(groups), "resources": list(resources)}


def _urls(*urls: str) -> _Rule:
    return {"verbs": ["get"], "nonResourceURLs": list(urls)}


def _role(name: str, rules: Sequence[_Rule], aggregate_to: str = "") -> Object:
    return {**_head("ClusterRole", name, aggregate_to), "rules": list(rules)}


def _aggregated(name: str, aggregate_to: str = "") -> Object:
    selector = {"matchLabels": {f"{_AGGREGATE}{name}": "true"}}
    return {
        **_head("ClusterRole", name, aggregate_to),
        "aggregationRule": {"clusterRoleSelectors": [selector]},
        "rules": [],
    }


_NODE_CLIENT: Final = "system:certificates.k8s.io:certificatesigningrequests:nodeclient"
_SELF_NODE_CLIENT: Final = "system:certificates.k8s.io:certificatesigningrequests:selfnodeclient"


def _head(kind: str, name: str, aggregate_to: str = "") -> Object:
    labels = {**_LABELS, **({f"{_AGGREGATE}{aggregate_to}": "true"} if aggregate_to else {})}
    metadata = {"name": name, "labels": labels, "annotations": {AUTOUPDATE: "true"}}
    return {"apiVersion": f"{rbac.GROUP}/v1", "kind": kind, "metadata": metadata}


def _binding(role: str, *, users: Sequence[str] = (), groups: Sequence[str] = ()) -> Object:
    subjects = [("User", user) for user in users] + [("Group", group) for group in groups]
    return {
        **_head("ClusterRoleBinding", role),
        "roleRef": {"apiGroup": rbac.GROUP, "kind": "ClusterRole", "name": role},
        "subjects": [{"apiGroup": rbac.GROUP, "kind": kind, "name": name} for kind, name in subjects],
    }


def cluster_roles(grants: Iterable[Grant]) -> list[Object]:
    """The default roles; `grants` are what the built-in kinds say of themselves."""
    return [
        *_platform_roles(),
        *_certificate_roles(),
        *_user_roles(list(grants)),
        *_part_roles(),
        *duck_policy.cluster_roles({AUTOUPDATE: "true"}),
    ]


def authentication_reader() -> Object:
    """The role, in `kube-system`, of those who may read how this server is known."""
    rule = {**_rule(_READ, [""], ["configmaps"]), "resourceNames": [AUTHENTICATION]}
    role = {**_head("Role", f"{AUTHENTICATION}-reader"), "rules": [rule]}
    return {**role, "metadata": {**role["metadata"], "namespace": "kube-system"}}


def cluster_role_bindings() -> list[Object]:
    everyone = (identity.AUTHENTICATED, identity.UNAUTHENTICATED)
    return [
        _binding("cluster-admin", groups=(identity.MASTERS,)),
        _binding("system:discovery", groups=(identity.AUTHENTICATED,)),
        _binding("system:basic-user", groups=(identity.AUTHENTICATED,)),
        _binding("system:public-info-viewer", groups=everyone),
        _binding("system:service-account-issuer-discovery", groups=(identity.SERVICE_ACCOUNTS,)),
        _binding("system:monitoring", groups=("system:monitoring",)),
        _binding(_SELF_NODE_CLIENT, groups=(identity.NODES,)),
        _binding(CONTROL, users=(CONTROL,)),
        _binding(GATEWAY, users=(GATEWAY,)),
        _binding(EVENTS, users=(EVENTS,)),
        _binding(OBSERVE, users=(OBSERVE,)),
        _binding(MESH, users=(MESH,)),
        _binding(PROVISIONER, users=(PROVISIONER,)),
    ]


def _platform_roles() -> Iterator[Object]:
    yield _role("cluster-admin", [_rule(["*"], ["*"], ["*"]), {"verbs": ["*"], "nonResourceURLs": ["*"]}])
    probes = ("/livez", "/readyz", "/healthz")
    yield _role(
        "system:discovery",
        [
            _urls(
                *probes,
                "/version",
                "/version/",
                "/openapi",
                "/openapi/*",
                "/api",
                "/api/*",
                "/apis",
                "/apis/*",
            )
        ],
    )
    yield _role(
        "system:basic-user",
        [
            _rule(
                ["create"],
                ["authorization.k8s.io"],
                ["selfsubjectaccessreviews", "selfsubjectrulesreviews"],
            ),
            _rule(["create"], ["authentication.k8s.io"], ["selfsubjectreviews"]),
        ],
    )
    yield _role("system:public-info-viewer", [_urls(*probes, "/version", "/version/")])
    yield _role(
        "system:service-account-issuer-discovery",
        [
            _urls(
                "/.well-known/openid-configuration",
                "/.well-known/openid-configuration/",
                "/openid/v1/jwks",
                "/openid/v1/jwks/",
            )
        ],
    )
    yield _monitoring_role()
    yield _role(
        "system:auth-delegator",
        [
            _rule(["create"], ["authentication.k8s.io"], ["tokenreviews"]),
            _rule(["create"], ["authorization.k8s.io"], ["subjectaccessreviews"]),
        ],
    )


def _monitoring_role() -> Object:
    """Who reads metrics: of the servers, of the platform's parts, and of what all objects are."""
    own = (own_paths.METRICS, own_paths.MESH_METRICS, own_paths.STATE_METRICS)
    pages = ("/metrics", "/metrics/slis", *own)
    health = [path for probe in ("/livez", "/readyz", "/healthz") for path in (probe, f"{probe}/*")]
    return _role("system:monitoring", [_urls(*pages, *health), _rule(["get"], [""], ["nodes/metrics"])])


def _certificate_roles() -> Iterator[Object]:
    """Who may approve what is signed here, and whose requests need nobody to."""
    group = "certificates.k8s.io"
    for name in (_NODE_CLIENT, _SELF_NODE_CLIENT):
        resource = f"certificatesigningrequests/{name.rpartition(':')[2]}"
        yield _role(name, [_rule(["create"], [group], [resource])])
    yield _role(
        "system:node-bootstrapper",
        [_rule(["create", *_READ], [group], ["certificatesigningrequests"])],
    )
    for signer in (
        "legacy-unknown",
        "kubelet-serving",
        "kube-apiserver-client",
        "kube-apiserver-client-kubelet",
    ):
        rule = {**_rule(["approve"], [group], ["signers"]), "resourceNames": [f"kubernetes.io/{signer}"]}
        yield _role(f"system:certificates.k8s.io:{signer}-approver", [rule])


def _user_roles(grants: Sequence[Grant]) -> Iterator[Object]:
    yield _aggregated("admin")
    yield _aggregated("edit", aggregate_to="admin")
    yield _aggregated("view", aggregate_to="edit")
    yield _role(
        "system:aggregate-to-admin",
        [
            _rule(["create"], ["authorization.k8s.io"], ["localsubjectaccessreviews"]),
            _rule(_READ_WRITE, [rbac.GROUP], ["roles", "rolebindings"]),
        ],
        aggregate_to="admin",
    )
    yield _role("system:aggregate-to-edit", _edit_rules(grants), aggregate_to="edit")
    yield _role("system:aggregate-to-view", _view_rules(grants), aggregate_to="view")
    extended = [*_ISTIO, *_GATEWAY_API, *_KNATIVE]
    yield _role("ondol:aggregate-to-edit", [_rule(_WRITE, extended, ["*"])], aggregate_to="edit")
    yield _role("ondol:aggregate-to-view", [_rule(_READ, extended, ["*"])], aggregate_to="view")


_UNSERVED_EDIT: Final = {
    "": [
        "services/proxy",
    ],
}
"""Kinds of Kubernetes without a registration here: definitions may bring them, with their usual access.

A kind that gets one, with its `access`, may stay in these lists; the rules name it once.
"""
_UNSERVED_VIEW: Final = {
    "": [
        "bindings",
    ],
}


def _by_group(
    verbs: Sequence[str], unserved: Mapping[str, Sequence[str]], own: Iterable[tuple[str, Sequence[str]]]
) -> Iterator[_Rule]:
    """A rule for each group: the same verbs for all of its resources."""
    by_group: dict[str, list[str]] = {}
    for group, names in (*own, *unserved.items()):
        by_group.setdefault(group, []).extend(names)
    for group, names in by_group.items():
        if names:
            yield _rule(verbs, [group], list(dict.fromkeys(names)))


def _edit_rules(grants: Sequence[Grant]) -> list[_Rule]:
    connections = ["pods/attach", "pods/proxy", "pods/exec", "pods/portforward"]
    hidden = [(group, sorted({*access.edit} - {*access.view})) for group, access in grants]
    return [
        _rule(_READ, [""], [*connections, "services/proxy"]),
        *_by_group(_READ, {}, hidden),
        _rule(["impersonate"], [""], ["serviceaccounts"]),
        _rule(_WRITE, [""], connections),
        _rule(["create"], [""], ["pods/eviction"]),
        _rule(["create"], [""], ["serviceaccounts/token"]),
        _rule(_WRITE, ["", "events.k8s.io"], ["events"]),
        *_by_group(_WRITE, _UNSERVED_EDIT, [(group, access.edit) for group, access in grants]),
        _rule(_READ_WRITE, ["coordination.k8s.io"], ["leases"]),
    ]


def _view_rules(grants: Sequence[Grant]) -> list[_Rule]:
    return [
        _rule(_READ, ["", "events.k8s.io"], ["events"]),
        *_by_group(_READ, _UNSERVED_VIEW, [(group, access.view) for group, access in grants]),
    ]


def _part_roles() -> Iterator[Object]:
    yield _role(CONTROL, _control_rules())
    yield _role(GATEWAY, _gateway_rules())
    yield _role(EVENTS, _events_rules())
    yield _role(OBSERVE, _observe_rules())
    yield _role(MESH, _mesh_rules())
    yield _role(PROVISIONER, _provisioner_rules())


_EVENTS: Final = _rule(["create", "patch", "update"], ["", "events.k8s.io"], ["events"])
_LEASES: Final = _rule(["get", "create", "update", "patch"], ["coordination.k8s.io"], ["leases"])


def _control_rules() -> list[_Rule]:
    """Controllers of every kind: garbage collection and namespace deletion reach all resources there are."""
    return [
        _rule([*_READ, "update", "patch", "delete", "deletecollection"], ["*"], ["*"]),
        _rule(
            ["create"],
            [""],
            [
                "pods",
                "pods/binding",
                "pods/eviction",
                "services",
                "endpoints",
                "configmaps",
                "secrets",
                "serviceaccounts",
                "serviceaccounts/token",  # what pods with a SinkBinding show of themselves
                "namespaces",
                "persistentvolumeclaims",
            ],
        ),
        _rule(["create"], ["apps"], ["replicasets", "deployments", "controllerrevisions"]),
        _rule(["create"], ["storage.k8s.io"], ["storageclasses"]),
        _rule(["create"], ["networking.k8s.io"], ["ingressclasses"]),
        _rule(["create"], ["batch"], ["jobs"]),
        _rule(["create"], ["discovery.k8s.io"], ["endpointslices"]),
        _rule(
            ["create"],
            ["admissionregistration.k8s.io"],
            ["mutatingadmissionpolicies", "mutatingadmissionpolicybindings"],
        ),
        _rule(["create"], ["apiextensions.k8s.io"], ["customresourcedefinitions"]),
        _rule(["create"], [*_ISTIO, *_GATEWAY_API, *_KNATIVE], ["*"]),
        _rule(["create"], ["authentication.k8s.io"], ["tokenreviews"]),
        _rule(["create"], ["authorization.k8s.io"], ["subjectaccessreviews"]),
        # The rules of aggregated roles are written by a controller that does not hold them itself.
        _rule(["escalate"], [rbac.GROUP], ["clusterroles"]),
        _EVENTS,
        _LEASES,
    ]


def _gateway_rules() -> list[_Rule]:
    """The activator and the autoscaler: they watch traffic and scale what serves it."""
    return [
        _rule(_READ, [""], ["pods", "services", "namespaces", "configmaps"]),
        _rule(_READ, ["discovery.k8s.io"], ["endpointslices"]),
        _rule(["create", "update", "patch", "delete"], ["discovery.k8s.io"], ["endpointslices"]),
        _rule(_READ, ["apps"], ["deployments"]),
        _rule(["get", "update", "patch"], ["apps"], ["deployments/scale"]),
        _rule(["patch"], ["apps"], ["deployments"]),
        _rule([*_READ, "create", "patch", "delete"], ["autoscaling"], ["horizontalpodautoscalers"]),
        _rule([*_READ, "update", "patch"], _SERVING, ["*"]),
        _EVENTS,
        _LEASES,
    ]


def _events_rules() -> list[_Rule]:
    """The data plane of Eventing: it says what it serves, makes a Job of an event, and asks who sends one."""
    return [
        _rule(_READ, _EVENTING, ["*"]),
        _rule(["update", "patch"], _EVENTING, ["*/status"]),
        _rule(["create"], ["eventing.knative.dev"], ["eventtypes"]),
        _rule(["create", "update", "patch", "delete"], ["eventing.ondol.dev"], ["deadletters"]),
        _rule(_READ, [""], ["configmaps", "services", "namespaces"]),
        _rule([*_READ, "create", "delete"], ["batch"], ["jobs"]),
        # A JobSink's event is a Secret, and what a webhook is signed with stands in one.
        _rule(["get", "create", "delete"], [""], ["secrets"]),
        # As whom events are sent, and which of those tokens are of accounts that are gone.
        _rule(["create"], [""], ["serviceaccounts/token"]),
        _rule(_READ, [""], ["serviceaccounts"]),
        # An ApiServerSource looks with the rights of its account, not with those of this process.
        _rule(["impersonate"], [""], ["serviceaccounts"]),
        _rule(["create"], ["authentication.k8s.io"], ["tokenreviews"]),
        _EVENTS,
        _LEASES,
    ]


def _observe_rules() -> list[_Rule]:
    """Telemetry reads the shape of what runs, never a secret."""
    return [
        _rule(_READ, [""], ["pods", "services", "namespaces", "nodes", "events", "endpoints"]),
        _rule(_READ, ["discovery.k8s.io"], ["endpointslices"]),
        _rule(_READ, ["apps"], ["deployments", "replicasets", "statefulsets", "daemonsets"]),
        _rule(_READ, [*_ISTIO, *_GATEWAY_API, *_KNATIVE], ["*"]),
        _rule(["create"], ["authentication.k8s.io"], ["tokenreviews"]),
        _rule(["create"], ["authorization.k8s.io"], ["subjectaccessreviews"]),
        _urls("/metrics"),
        _EVENTS,
    ]


def _mesh_rules() -> list[_Rule]:
    """The mesh reads what it translates and reports on it; gateway certificates come from secrets."""
    return [
        _rule(
            _READ,
            [""],
            ["pods", "services", "namespaces", "nodes", "configmaps", "secrets", "serviceaccounts"],
        ),
        _rule(_READ, ["discovery.k8s.io"], ["endpointslices"]),
        _rule(_READ, [*_ISTIO, *_GATEWAY_API], ["*"]),
        _rule(["update", "patch"], [*_ISTIO, *_GATEWAY_API], ["*/status"]),
        _rule(["patch"], [""], ["pods/status", "services/status"]),
        _rule(_READ, ["networking.k8s.io"], ["ingresses", "ingressclasses"]),
        _rule(["create"], ["networking.k8s.io"], ["ingressclasses"]),
        _rule(["patch"], ["networking.k8s.io"], ["ingresses/status"]),
        _rule(["create"], ["authentication.k8s.io"], ["tokenreviews"]),
        _EVENTS,
        _LEASES,
    ]


def _provisioner_rules() -> list[_Rule]:
    """Beside the node: it makes volumes for claims, which is more than a node's own account may."""
    return [
        _rule(_READ, [""], ["persistentvolumeclaims"]),
        _rule(_READ, ["storage.k8s.io"], ["storageclasses"]),
        _rule([*_READ, "create", "patch", "delete"], [""], ["persistentvolumes"]),
        _EVENTS,
    ]


def reconciled(existing: Object, desired: Object) -> Object | None:
    """The object a restarted server should write so that nothing of `desired` is missing, or none.

    What an administrator added stays; an object annotated with autoupdate "false" is left alone.
    """
    if objects.annotations(existing).get(AUTOUPDATE) == "false":
        return None
    merged = {**existing, "metadata": _merged_metadata(existing, desired)}
    if "subjects" in desired:
        present = existing.get("subjects") or []
        missing = [subject for subject in desired["subjects"] if subject not in present]
        merged["subjects"] = [*present, *missing]
    elif "aggregationRule" in desired:
        merged["aggregationRule"] = existing.get("aggregationRule") or desired["aggregationRule"]
    else:
        present = existing.get("rules") or []
        covering = [rbac.Rule.of(rule) for rule in present]
        missing = [rule for rule in desired["rules"] if escalation.uncovered(covering, [rule])]
        merged["rules"] = [*present, *missing]
    return None if merged == existing else merged


def _merged_metadata(existing: Object, desired: Object) -> Object:
    metadata = dict(objects.metadata(existing))
    for field in ("labels", "annotations"):
        metadata[field] = {**(desired["metadata"].get(field) or {}), **(metadata.get(field) or {})}
    return metadata
