"""Role-based access control: whether a user may do something, and why not.

The authorizer keeps an index of rules by subject, built from the roles and bindings the server holds
and dropped whenever one of them changes (`has_changed`). A decision is then a walk over the few rules
of the user and its groups. Rules only add up; nothing denies.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple, TypeAlias

from ondol.api import labels, objects, resources
from ondol.api.objects import Object, Resource
from ondol.apiserver.auth import identity
from ondol.apiserver.auth.identity import User
from ondol.base import errors

GROUP: Final = "rbac.authorization.k8s.io"
ALL: Final = "*"
KINDS: Final = (
    resources.ROLE,
    resources.ROLE_BINDING,
    resources.CLUSTER_ROLE,
    resources.CLUSTER_ROLE_BINDING,
)
"""The resources whose changes an authorizer must be told of."""
_REMEMBERED_MAX: Final = 8192

ListObjects: TypeAlias = Callable[[Resource], Iterable[Object]]
"""All objects of one of `KINDS` as the server holds them now."""


class Attributes(NamedTuple):
    """What a request wants: a verb on a resource, or on a path when `resource` is empty."""

    verb: str
    group: str = ""
    resource: str = ""
    subresource: str = ""
    namespace: str = ""
    name: str = ""
    path: str = ""
    field_selector: str = ""
    """What a collection is narrowed to, as it was written; only nodes are judged by it."""

    @property
    def full_resource(self) -> str:
        return f"{self.resource}/{self.subresource}" if self.subresource else self.resource


@dataclass(frozen=True, slots=True)
class Decision:
    allowed: bool
    reason: str = ""


_ALLOWED: Final = Decision(allowed=True)


@dataclass(frozen=True, slots=True)
class Rule:
    """One `PolicyRule`, ready for quick answers; `document` is the rule as written."""

    document: Mapping[str, Any]
    verbs: frozenset[str]
    groups: frozenset[str]
    resources: frozenset[str]
    names: frozenset[str]
    urls: tuple[str, ...]

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> Rule:
        return cls(
            document,
            frozenset(document.get("verbs") or ()),
            frozenset(document.get("apiGroups") or ()),
            frozenset(document.get("resources") or ()),
            frozenset(document.get("resourceNames") or ()),
            tuple(document.get("nonResourceURLs") or ()),
        )

    def allows(self, attributes: Attributes) -> bool:
        if attributes.verb not in self.verbs and ALL not in self.verbs:
            return False
        if not attributes.resource:
            return any(url_covers(url, attributes.path) for url in self.urls)
        if attributes.group not in self.groups and ALL not in self.groups:
            return False
        if self.names and attributes.name not in self.names:
            return False
        return self._has_resource(attributes)

    def _has_resource(self, attributes: Attributes) -> bool:
        if ALL in self.resources or attributes.full_resource in self.resources:
            return True
        return bool(attributes.subresource) and f"*/{attributes.subresource}" in self.resources


def url_covers(pattern: str, path: str) -> bool:
    """Whether a nonResourceURL (exact, or a prefix ending in `*`) covers a path."""
    return pattern == path or (pattern.endswith(ALL) and path.startswith(pattern.rstrip(ALL)))


@dataclass(frozen=True, slots=True)
class _Grant:
    """The rules one binding gives one subject; `why` explains a decision, `problem` a dangling roleRef."""

    rules: tuple[Rule, ...]
    why: str
    problem: str = ""


@dataclass(slots=True)
class _Grants:
    """What a subject, or a user with all its subjects, holds cluster-wide and by namespace."""

    cluster: list[_Grant] = field(default_factory=list)
    namespaced: dict[str, list[_Grant]] = field(default_factory=dict)

    def add(self, namespace: str, grant: _Grant) -> None:
        if namespace:
            self.namespaced.setdefault(namespace, []).append(grant)
        else:
            self.cluster.append(grant)

    def extend(self, other: _Grants) -> None:
        self.cluster.extend(other.cluster)
        for namespace, grants in other.namespaced.items():
            self.namespaced.setdefault(namespace, []).extend(grants)

    def within(self, namespace: str) -> Iterator[_Grant]:
        yield from self.cluster
        if namespace:
            yield from self.namespaced.get(namespace, ())


class Authorizer:
    """Decides by the RBAC objects that `list_objects` returns.

    `has_changed` says whether one of them changed since it was last called: what is derived from them is
    forgotten then. `invalidate` does the same.
    """

    def __init__(self, list_objects: ListObjects, has_changed: Callable[[], bool] = lambda: False) -> None:
        self._list = list_objects
        self._has_changed = has_changed
        self._by_subject: dict[tuple[str, str], _Grants] | None = None
        self._roles: dict[tuple[str, str], tuple[Rule, ...]] = {}
        self._by_user: dict[tuple[str, tuple[str, ...]], _Grants] = {}
        self._decisions: dict[tuple[str, tuple[str, ...], tuple[str, ...]], Decision] = {}

    def invalidate(self) -> None:
        """Forget everything derived from roles and bindings."""
        self._by_subject = None
        self._roles = {}
        self._by_user = {}
        self._decisions = {}

    def _refresh(self) -> None:
        if self._has_changed():
            self.invalidate()

    def authorize(self, user: User, attributes: Attributes) -> Decision:
        if identity.MASTERS in user.groups:
            return _ALLOWED
        self._refresh()
        key = (user.name, user.groups, attributes[:-1])  # RBAC decides without the selector
        decision = self._decisions.get(key)
        if decision is None:
            if len(self._decisions) >= _REMEMBERED_MAX:
                self._decisions.clear()
            decision = self._decisions[key] = self._decide(user, attributes)
        return decision

    def require(self, user: User, attributes: Attributes) -> None:
        """Raise `Forbidden`, in Kubernetes' words, unless the user may do it."""
        decision = self.authorize(user, attributes)
        if not decision.allowed:
            raise forbidden(user, attributes, decision.reason)

    def _decide(self, user: User, attributes: Attributes) -> Decision:
        problems: list[str] = []
        for grant in self._grants(user).within(attributes.namespace):
            if any(rule.allows(attributes) for rule in grant.rules):
                return Decision(allowed=True, reason=f"RBAC: allowed by {grant.why}")
            if grant.problem and grant.problem not in problems:
                problems.append(grant.problem)
        if not problems:
            return Decision(allowed=False)
        text = problems[0] if len(problems) == 1 else f"[{', '.join(problems)}]"
        return Decision(allowed=False, reason=f"RBAC: {text}")

    def rules_for(self, user: User, namespace: str) -> tuple[list[Rule], list[str]]:
        """Every rule the user holds in a namespace (cluster-wide ones too), and what could not be read."""
        if identity.MASTERS in user.groups:
            everything = [
                Rule.of({"verbs": [ALL], "apiGroups": [ALL], "resources": [ALL]}),
                Rule.of({"verbs": [ALL], "nonResourceURLs": [ALL]}),
            ]
            return everything, []
        self._refresh()
        grants = list(self._grants(user).within(namespace))
        return [rule for grant in grants for rule in grant.rules], [g.problem for g in grants if g.problem]

    def role_rules(self, reference: Mapping[str, Any], namespace: str) -> tuple[Rule, ...]:
        """The rules a roleRef stands for; `NotFound` when there is no such role."""
        self._refresh()
        return self._role_rules(reference, namespace)

    def _role_rules(self, reference: Mapping[str, Any], namespace: str) -> tuple[Rule, ...]:
        self._index()
        kind, name = str(reference.get("kind")), str(reference.get("name"))
        rules = self._roles.get((namespace if kind == "Role" else "", name))
        if rules is None or kind not in ("Role", "ClusterRole"):
            raise errors.NotFound(f'{kind.lower()}.{GROUP} "{name}" not found')
        return rules

    def _grants(self, user: User) -> _Grants:
        key = (user.name, user.groups)
        grants = self._by_user.get(key)
        if grants is None:
            if len(self._by_user) >= _REMEMBERED_MAX:
                self._by_user.clear()
            by_subject = self._index()
            grants = self._by_user[key] = _Grants()
            for subject in (("User", user.name), *(("Group", group) for group in user.groups)):
                if subject in by_subject:
                    grants.extend(by_subject[subject])
        return grants

    def _index(self) -> dict[tuple[str, str], _Grants]:
        if self._by_subject is None:
            self._roles = _roles(self._list)
            self._by_subject = {}
            for resource in (resources.CLUSTER_ROLE_BINDING, resources.ROLE_BINDING):
                for binding in self._list(resource):
                    self._index_binding(resource, binding, self._by_subject)
        return self._by_subject

    def _index_binding(
        self, resource: Resource, binding: Object, index: dict[tuple[str, str], _Grants]
    ) -> None:
        reference, namespace = binding.get("roleRef") or {}, objects.namespace(binding)
        try:
            rules, problem = self._role_rules(reference, namespace), ""
        except errors.NotFound as error:
            rules, problem = (), error.message
        qualified = "/".join(part for part in (objects.name(binding), namespace) if part)
        role = f'{resource.kind} "{qualified}" of {reference.get("kind")} "{reference.get("name")}"'
        for subject in binding.get("subjects") or ():
            key = _subject_key(subject, namespace)
            if key is not None:
                grant = _Grant(rules, f"{role} to {_described(subject, namespace)}", problem)
                index.setdefault(key, _Grants()).add(namespace, grant)


def _roles(list_objects: ListObjects) -> dict[tuple[str, str], tuple[Rule, ...]]:
    """Rules by namespace and name of the role; cluster roles have the empty namespace."""
    by_name = {
        (objects.namespace(role), objects.name(role)): _compiled(role)
        for role in list_objects(resources.ROLE)
    }
    cluster_roles = list(list_objects(resources.CLUSTER_ROLE))
    for role in cluster_roles:
        rules = aggregated_rules(role, cluster_roles)
        by_name["", objects.name(role)] = tuple(Rule.of(rule) for rule in rules)
    return by_name


def _compiled(role: Object) -> tuple[Rule, ...]:
    return tuple(Rule.of(rule) for rule in role.get("rules") or ())


def aggregated_rules(role: Object, cluster_roles: Iterable[Object]) -> list[Mapping[str, Any]]:
    """A cluster role's rules, those it aggregates included, each once.

    A controller also writes them into the role; taking them from the source means that a new role
    counts at once, even before (or without) that controller.
    """
    others = list(cluster_roles)
    rules: list[Mapping[str, Any]] = []
    seen: set[str] = set()

    def visit(current: Object) -> None:
        if objects.name(current) in seen:
            return
        seen.add(objects.name(current))
        aggregation = current.get("aggregationRule")
        if not aggregation:
            rules.extend(rule for rule in current.get("rules") or () if rule not in rules)
            return
        selectors = [labels.from_document(s) for s in aggregation.get("clusterRoleSelectors") or ()]
        for other in others:
            if any(selector.matches(objects.labels(other)) for selector in selectors):
                visit(other)

    visit(role)
    return rules


def _subject_key(subject: Mapping[str, Any], namespace: str) -> tuple[str, str] | None:
    kind, name = subject.get("kind"), str(subject.get("name") or "")
    if kind in ("User", "Group"):
        return str(kind), name
    account_namespace = str(subject.get("namespace") or namespace)
    if kind == "ServiceAccount" and account_namespace:
        return "User", identity.service_account_name(account_namespace, name)
    return None


def _described(subject: Mapping[str, Any], namespace: str) -> str:
    name = subject.get("name")
    if subject.get("kind") == "ServiceAccount":
        name = f"{name}/{subject.get('namespace') or namespace}"
    return f'{subject.get("kind")} "{name}"'


def forbidden(user: User, attributes: Attributes, reason: str = "") -> errors.Forbidden:
    """The refusal in Kubernetes' exact words, which clients show and some parse."""
    message = _sentence(user, attributes) + (f": {reason}" if reason else "")
    if not attributes.resource:
        return errors.Forbidden(f"forbidden: {message}", details={})
    subject = f"{attributes.resource}.{attributes.group}" if attributes.group else attributes.resource
    details = {"kind": attributes.resource}
    if attributes.group:
        details["group"] = attributes.group
    if attributes.name:
        subject += f' "{attributes.name}"'
        details["name"] = attributes.name
    return errors.Forbidden(f"{subject} is forbidden: {message}", details=details)


def _sentence(user: User, attributes: Attributes) -> str:
    if not attributes.resource:
        return _escaped(f'User "{user.name}" cannot {attributes.verb} path "{attributes.path}"')
    where = f'in the namespace "{attributes.namespace}"' if attributes.namespace else "at the cluster scope"
    return _escaped(
        f'User "{user.name}" cannot {attributes.verb} resource "{attributes.full_resource}" '
        f'in API group "{attributes.group}" {where}'
    )


def _escaped(text: str) -> str:
    """Harmless in a browser: names and paths come from whoever called."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
