"""RBAC: decisions, reviews, escalation and the policy a server starts with."""

from __future__ import annotations

import timeit
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ondol.api import objects, resources
from ondol.api.objects import Object, Resource
from ondol.apiserver import kinds
from ondol.apiserver.auth import bootstrap_policy, escalation, identity, rbac, reviews
from ondol.apiserver.auth.identity import User
from ondol.base import errors

ALICE = User("alice", ("dev", "system:authenticated"))
MASTER = User("root", ("system:masters",))
GET_POD = rbac.Attributes("get", resource="pods", namespace="shop", name="p")


class Policy:
    """RBAC objects and an authorizer over them."""

    def __init__(self, *documents: Object) -> None:
        self.documents = list(documents)
        self.authorizer = rbac.Authorizer(self.list)

    def list(self, resource: Resource) -> Iterable[Object]:
        return [document for document in self.documents if document["kind"] == resource.kind]

    def add(self, *documents: Object) -> None:
        self.documents.extend(documents)
        self.authorizer.invalidate()

    def allows(self, user: User, verb: str, resource: str = "", **more: str) -> bool:
        resource, _, subresource = resource.partition("/")
        attributes = rbac.Attributes(verb, resource=resource, subresource=subresource, **more)
        return self.authorizer.authorize(user, attributes).allowed


def rule(verbs: str, resources: str = "", **more: Any) -> Object:
    document: Object = {"verbs": verbs.split(), **more}
    if resources:
        document.setdefault("apiGroups", [""])
        document["resources"] = resources.split()
    return document


def role(name: str, *rules: Object, namespace: str = "", labels: dict[str, str] | None = None) -> Object:
    metadata = {"name": name, "labels": labels or {}, **({"namespace": namespace} if namespace else {})}
    return {"kind": "Role" if namespace else "ClusterRole", "metadata": metadata, "rules": list(rules)}


def bind(name: str, *subjects: Object, namespace: str = "", kind: str = "ClusterRole") -> Object:
    metadata = {"name": name, **({"namespace": namespace} if namespace else {})}
    return {
        "kind": "RoleBinding" if namespace else "ClusterRoleBinding",
        "metadata": metadata,
        "roleRef": {"apiGroup": rbac.GROUP, "kind": kind, "name": name},
        "subjects": list(subjects),
    }


def user(name: str) -> Object:
    return {"kind": "User", "name": name}


def group(name: str) -> Object:
    return {"kind": "Group", "name": name}


def account(name: str, namespace: str = "") -> Object:
    return {"kind": "ServiceAccount", "name": name, **({"namespace": namespace} if namespace else {})}


def test_nothing_is_allowed_by_default_except_to_masters() -> None:
    """Without a rule the answer is no; system:masters is above RBAC."""
    policy = Policy()
    assert not policy.authorizer.authorize(ALICE, GET_POD).allowed
    assert policy.authorizer.authorize(MASTER, GET_POD).allowed


def test_cluster_binding_counts_in_every_namespace_and_role_binding_in_its_own() -> None:
    """The scope of the binding is the scope of the permission, also for a cluster role."""
    policy = Policy(
        role("reader", rule("get", "pods")),
        bind("reader", group("dev")),
        role("writer", rule("create", "pods")),
        bind("writer", user("alice"), namespace="shop"),
    )
    assert policy.allows(ALICE, "get", "pods", namespace="any")
    assert policy.allows(ALICE, "get", "pods")
    assert policy.allows(ALICE, "create", "pods", namespace="shop")
    assert not policy.allows(ALICE, "create", "pods", namespace="other")
    assert not policy.allows(ALICE, "create", "pods")


@pytest.mark.parametrize(
    ("granted", "call", "allowed"),
    [
        (rule("get", "pods"), "pods/log", False),
        (rule("get", "pods/log"), "pods/log", True),
        (rule("get", "pods/log"), "pods", False),
        (rule("get", "*/log"), "pods/log", True),
        (rule("get", "*/log"), "pods", False),
        (rule("get", "*"), "pods/log", True),
        (rule("*", "pods"), "pods", True),
        (rule("list", "pods"), "pods", False),
        (rule("get", "pods", apiGroups=["apps"]), "pods", False),
        (rule("get", "pods", apiGroups=["*"]), "pods", True),
        (rule("get", "pods", resourceNames=["p"]), "pods", True),
        (rule("get", "pods", resourceNames=["q"]), "pods", False),
        (rule("get", nonResourceURLs=["*"]), "pods", False),
    ],
)
def test_rules_on_resources(granted: Object, call: str, *, allowed: bool) -> None:
    """Groups, resources, subresources, names and their wildcards as Kubernetes reads them."""
    policy = Policy(role("r", granted), bind("r", user("alice")))
    assert policy.allows(ALICE, "get", call, namespace="shop", name="p") is allowed


@pytest.mark.parametrize(
    ("url", "path", "allowed"),
    [
        ("/healthz", "/healthz", True),
        ("/healthz", "/healthz/x", False),
        ("/healthz/*", "/healthz/x", True),
        ("/healthz/*", "/healthz", False),
        ("*", "/anything", True),
    ],
)
def test_rules_on_paths(url: str, path: str, *, allowed: bool) -> None:
    """A path is matched exactly, or by a prefix that ends in a star."""
    policy = Policy(role("r", rule("get", nonResourceURLs=[url])), bind("r", user("alice")))
    assert policy.allows(ALICE, "get", path=path) is allowed


def test_service_accounts_are_subjects_of_their_own_kind() -> None:
    """Their namespace is the subject's, or else the binding's."""
    policy = Policy(
        role("r", rule("get", "pods")),
        bind("r", account("web"), account("db", "data"), namespace="shop"),
    )
    assert policy.allows(User("system:serviceaccount:shop:web"), "get", "pods", namespace="shop")
    assert policy.allows(User("system:serviceaccount:data:db"), "get", "pods", namespace="shop")
    assert not policy.allows(User("system:serviceaccount:shop:db"), "get", "pods", namespace="shop")


def test_a_change_counts_once_it_is_told() -> None:
    """Decisions are remembered until a role or binding changes."""
    policy = Policy(role("r", rule("get", "pods")))
    assert not policy.allows(ALICE, "get", "pods")
    policy.add(bind("r", user("alice")))
    assert policy.allows(ALICE, "get", "pods")


def test_aggregated_roles_hold_what_they_select_even_through_others() -> None:
    """Roles that join by label count at once, also by way of another aggregated role."""
    outer = {
        **role("outer"),
        "aggregationRule": {"clusterRoleSelectors": [{"matchLabels": {"to": "outer"}}]},
    }
    inner = {
        **role("inner", labels={"to": "outer"}),
        "aggregationRule": {"clusterRoleSelectors": [{"matchLabels": {"to": "inner"}}]},
    }
    policy = Policy(outer, inner, bind("outer", user("alice")))
    assert not policy.allows(ALICE, "get", "widgets")
    policy.add(role("widgets", rule("get", "widgets"), labels={"to": "inner"}))
    assert policy.allows(ALICE, "get", "widgets")


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        (
            rbac.Attributes("list", resource="pods"),
            (
                'pods is forbidden: User "alice" cannot list resource "pods" in API group "" '
                "at the cluster scope"
            ),
        ),
        (
            rbac.Attributes("get", "apps", "deployments", "scale", "shop", "web"),
            (
                'deployments.apps "web" is forbidden: User "alice" cannot get resource "deployments/scale" '
                'in API group "apps" in the namespace "shop"'
            ),
        ),
        (
            rbac.Attributes("get", path="/metrics<x>"),
            'forbidden: User "alice" cannot get path "/metrics&lt;x&gt;"',
        ),
    ],
)
def test_refusals_have_the_words_clients_know(attributes: rbac.Attributes, message: str) -> None:
    """Clients print them, and people search for them."""
    with pytest.raises(errors.Forbidden) as caught:
        Policy().authorizer.require(ALICE, attributes)
    assert caught.value.message == message


def test_a_binding_to_a_missing_role_explains_the_refusal() -> None:
    """The reason names the role that is not there."""
    decision = Policy(bind("gone", user("alice"))).authorizer.authorize(ALICE, GET_POD)
    assert decision == rbac.Decision(
        allowed=False, reason='RBAC: clusterrole.rbac.authorization.k8s.io "gone" not found'
    )


def test_reviews_answer_with_decision_and_reason() -> None:
    """The reason names binding, role and subject."""
    policy = Policy(role("r", rule("get", "pods")), bind("r", group("dev"), namespace="shop"))
    spec = {"user": "alice", "groups": ["dev"], "resourceAttributes": {"verb": "get", "resource": "pods"}}
    no = reviews.subject_access_review({"spec": spec}, policy.authorizer)
    assert no["status"] == {"allowed": False}
    spec["resourceAttributes"] = {"verb": "get", "resource": "pods", "namespace": "shop"}
    yes = reviews.subject_access_review({"spec": spec}, policy.authorizer)
    assert yes["status"] == {
        "allowed": True,
        "reason": 'RBAC: allowed by RoleBinding "r/shop" of ClusterRole "r" to Group "dev"',
    }
    own = {"spec": {"nonResourceAttributes": {"verb": "get", "path": "/x"}}}
    assert reviews.self_subject_access_review(own, MASTER, policy.authorizer)["status"] == {"allowed": True}
    local = reviews.local_subject_access_review({"spec": spec}, "shop", policy.authorizer)
    assert local["status"]["allowed"] is True


def test_reviews_that_ask_nothing_or_too_much_are_invalid() -> None:
    """Exactly one kind of attributes, a subject, and for the local one its own namespace."""
    authorizer = Policy().authorizer
    with pytest.raises(errors.Invalid, match=r"exactly one of") as caught:
        reviews.subject_access_review({"spec": {}}, authorizer)
    assert [cause.field for cause in caught.value.causes] == ["spec.resourceAttributes", "spec.user"]
    elsewhere = {"user": "a", "resourceAttributes": {"namespace": "b", "verb": "get"}}
    with pytest.raises(errors.Invalid, match=r"must match metadata\.namespace"):
        reviews.local_subject_access_review({"spec": elsewhere}, "a", authorizer)


def test_rules_review_lists_what_one_holds() -> None:
    """Resource rules and path rules apart, and whether something could not be read."""
    policy = Policy(
        role("r", rule("get", "pods"), rule("get", nonResourceURLs=["/x"])),
        bind("r", user("alice")),
        bind("gone", user("alice")),
    )
    review = reviews.self_subject_rules_review({"spec": {"namespace": "shop"}}, ALICE, policy.authorizer)
    assert review["status"]["resourceRules"] == [{"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]}]
    assert review["status"]["nonResourceRules"] == [{"verbs": ["get"], "nonResourceURLs": ["/x"]}]
    assert review["status"]["incomplete"] is True


def test_self_review_says_who_one_is() -> None:
    """User, groups and extra as authentication found them."""
    review = reviews.self_subject_review({}, ALICE, 0)
    assert review["status"]["userInfo"] == {"username": "alice", "groups": ["dev", "system:authenticated"]}


def test_no_one_grants_more_than_they_hold() -> None:
    """The refusal lists what is missing, verbs of one resource together."""
    policy = Policy(role("r", rule("get", "pods")), bind("r", user("alice"), namespace="shop"))
    new = role("new", rule("get list watch", "pods"), namespace="shop")
    with pytest.raises(errors.Forbidden) as caught:
        escalation.check(policy.authorizer, ALICE, resources.ROLE, new)
    assert caught.value.message == (
        'roles.rbac.authorization.k8s.io "new" is forbidden: user "alice" (groups=["dev" '
        '"system:authenticated"]) is attempting to grant RBAC permissions not currently held:\n'
        '{APIGroups:[""], Resources:["pods"], Verbs:["list" "watch"]}'
    )
    escalation.check(policy.authorizer, MASTER, resources.ROLE, new)
    escalation.check(
        policy.authorizer, ALICE, resources.ROLE, role("x", rule("get", "pods"), namespace="shop")
    )


def test_escalate_and_bind_lift_the_check() -> None:
    """`escalate` for roles, `bind` on the role for bindings."""
    own = rule("escalate", "roles", apiGroups=[rbac.GROUP])
    binding_right = rule("bind", "clusterroles", apiGroups=[rbac.GROUP], resourceNames=["strong"])
    policy = Policy(role("strong", rule("*", "*")), role("r", own, binding_right), bind("r", user("alice")))
    escalation.check(policy.authorizer, ALICE, resources.ROLE, role("x", rule("*", "*"), namespace="shop"))
    escalation.check(policy.authorizer, ALICE, resources.CLUSTER_ROLE_BINDING, bind("strong", user("bob")))
    policy.add(role("other", rule("delete", "secrets")))
    with pytest.raises(errors.Forbidden, match='Verbs:\\["delete"\\]'):
        escalation.check(policy.authorizer, ALICE, resources.CLUSTER_ROLE_BINDING, bind("other", user("bob")))


def test_setting_up_aggregation_takes_every_permission() -> None:
    """It could bring in any rule later."""
    policy = Policy(role("r", rule("get", "pods")), bind("r", user("alice")))
    aggregate = {**role("x"), "aggregationRule": {"clusterRoleSelectors": [{"matchLabels": {"a": "b"}}]}}
    with pytest.raises(errors.Forbidden, match="not currently held"):
        escalation.check(policy.authorizer, ALICE, resources.CLUSTER_ROLE, aggregate)


def test_the_garbage_collector_may_touch_any_role() -> None:
    """A change of owner references or finalizers alone grants nothing."""
    old = role("x", rule("*", "*"), namespace="shop")
    new = {**old, "metadata": {**old["metadata"], "finalizers": ["a"], "resourceVersion": "7"}}
    escalation.check(Policy().authorizer, ALICE, resources.ROLE, new, old)
    relabelled = {**old, "metadata": {**old["metadata"], "labels": {"a": "b"}}}
    with pytest.raises(errors.Forbidden):
        escalation.check(Policy().authorizer, ALICE, resources.ROLE, relabelled, old)


def _cluster_roles() -> list[Object]:
    return bootstrap_policy.cluster_roles(kinds.BUILTIN.grants())


@pytest.fixture(scope="module")
def bootstrap() -> Policy:
    return Policy(
        *bootstrap_policy.cluster_roles(kinds.BUILTIN.grants()), *bootstrap_policy.cluster_role_bindings()
    )


@pytest.mark.parametrize(
    ("who", "verb", "resource", "more", "allowed"),
    [
        (identity.anonymous(), "get", "", {"path": "/healthz"}, True),
        (identity.anonymous(), "get", "", {"path": "/api"}, False),
        (identity.anonymous(), "list", "pods", {}, False),
        (ALICE, "get", "", {"path": "/openapi/v3"}, True),
        (ALICE, "create", "selfsubjectaccessreviews", {"group": "authorization.k8s.io"}, True),
        (ALICE, "list", "pods", {"namespace": "shop"}, False),
        (User("x", ("system:serviceaccounts",)), "get", "", {"path": "/openid/v1/jwks"}, True),
        (User("system:ondol:control"), "create", "pods/binding", {"namespace": "a"}, True),
        (User("system:ondol:control"), "delete", "widgets", {"group": "example.com"}, True),
        (User("system:ondol:control"), "create", "pods/exec", {"namespace": "a"}, False),
        (User("system:ondol:control"), "create", "clusterrolebindings", {"group": rbac.GROUP}, False),
        (User("system:ondol:control"), "impersonate", "users", {}, False),
        (User("system:ondol:node"), "list", "services", {}, False),
        (User("kubelet", ("system:nodes",)), "list", "endpointslices", {"group": "discovery.k8s.io"}, False),
        (User("system:ondol:node"), "patch", "deployments", {"group": "apps"}, False),
        (User("system:ondol:gateway"), "patch", "deployments/scale", {"group": "apps"}, True),
        (User("system:ondol:gateway"), "list", "secrets", {}, False),
        (User("system:ondol:observe"), "list", "secrets", {}, False),
        (User("system:ondol:observe"), "list", "pods", {}, True),
        (
            User("system:ondol:mesh"),
            "patch",
            "virtualservices/status",
            {"group": "networking.istio.io"},
            True,
        ),
        (User("system:ondol:mesh"), "delete", "pods", {}, False),
    ],
)
def test_each_part_of_the_platform_may_do_its_work_and_no_more(
    bootstrap: Policy, who: User, verb: str, resource: str, more: dict[str, str], *, allowed: bool
) -> None:
    """A sample of what the first policy grants and withholds."""
    assert bootstrap.allows(who, verb, resource, **more) is allowed


def test_edit_includes_view_and_admin_both(bootstrap: Policy) -> None:
    """The user-facing roles build on each other by aggregation; secrets begin at edit."""
    policy = Policy(
        *bootstrap.documents,
        *({**bind(n, user(n), namespace="shop")} for n in ("view", "edit", "admin")),
    )
    for name, lists_secrets, creates_roles in (("view", 0, 0), ("edit", 1, 0), ("admin", 1, 1)):
        assert policy.allows(User(name), "list", "pods", namespace="shop")
        assert policy.allows(User(name), "list", "secrets", namespace="shop") is bool(lists_secrets)
        allowed = policy.allows(User(name), "create", "roles", namespace="shop", group=rbac.GROUP)
        assert allowed is bool(creates_roles)


def test_a_restart_brings_back_missing_rules_and_keeps_added_ones() -> None:
    """Reconciling is a union; what opts out of it is left alone."""
    default = next(
        r
        for r in bootstrap_policy.cluster_roles(kinds.BUILTIN.grants())
        if objects.name(r) == "system:basic-user"
    )
    assert bootstrap_policy.reconciled(default, default) is None
    added = rule("get", "widgets")
    changed = {**default, "rules": [added, default["rules"][0]]}
    merged = bootstrap_policy.reconciled(changed, default)
    assert merged is not None
    assert merged["rules"] == [added, *default["rules"]]
    annotations = {bootstrap_policy.AUTOUPDATE: "false"}
    opted_out = {**changed, "metadata": {**changed["metadata"], "annotations": annotations}}
    assert bootstrap_policy.reconciled(opted_out, default) is None


_words = st.lists(st.sampled_from(["a", "b", "*", "a/s", "*/s"]), min_size=1, max_size=3)
_rules = st.lists(
    st.builds(
        lambda v, g, r, n: {"verbs": v, "apiGroups": g, "resources": r, "resourceNames": n},
        _words,
        _words,
        _words,
        st.lists(st.sampled_from(["n", "m"]), max_size=2),
    ),
    max_size=4,
)


@given(_rules, _rules, st.sampled_from(["a", "b"]), st.sampled_from(["", "s"]), st.sampled_from(["", "n"]))
def test_covered_rules_allow_nothing_new(
    existing: list[Object], granted: list[Object], resource: str, sub: str, name: str
) -> None:
    """If nothing of what is granted is uncovered, whatever it allows was allowed before."""
    own = [rbac.Rule.of(r) for r in existing]
    if escalation.uncovered(own, granted):
        return
    attributes = rbac.Attributes("a", "a", resource, sub, "", name)
    if any(rbac.Rule.of(r).allows(attributes) for r in granted):
        assert any(r.allows(attributes) for r in own)


def test_decisions_are_cheap(bootstrap: Policy) -> None:
    """The memory of decisions keeps a repeated one far below a millisecond."""
    control = User("system:ondol:control")
    bootstrap.authorizer.authorize(control, GET_POD)
    seconds = timeit.timeit(lambda: bootstrap.authorizer.authorize(control, GET_POD), number=1000)
    assert seconds < 0.5
