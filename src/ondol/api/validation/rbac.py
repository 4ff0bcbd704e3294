"""Rules of roles, bindings, and the reviews, which are answered and not stored."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from ondol.api.schema import causes
from ondol.api.validation import fields, workloads
from ondol.base.errors import Cause

_GROUP: Final = "rbac.authorization.k8s.io"
_MIN_TOKEN_S: Final = 600
_MAX_TOKEN_S: Final = 1 << 32


def role(obj: Mapping[str, Any]) -> Iterator[Cause]:
    yield from _rules(obj, namespaced=True)


def cluster_role(obj: Mapping[str, Any]) -> Iterator[Cause]:
    yield from _rules(obj, namespaced=False)
    aggregation = obj.get("aggregationRule")
    if aggregation is None:
        return
    chosen = aggregation.get("clusterRoleSelectors") or ()
    if not chosen:
        detail = "at least one clusterRoleSelector required if aggregationRule is non-nil"
        yield causes.required("aggregationRule.clusterRoleSelectors", detail)
    for index, selector in enumerate(chosen):
        yield from workloads.label_selector(selector, f"aggregationRule.clusterRoleSelectors[{index}]")


def _rules(obj: Mapping[str, Any], *, namespaced: bool) -> Iterator[Cause]:
    for index, rule in enumerate(obj.get("rules") or ()):
        rule_path = f"rules[{index}]"
        if not rule.get("verbs"):
            yield causes.required(f"{rule_path}.verbs", "verbs must contain at least one value")
        urls, resources = rule.get("nonResourceURLs"), rule.get("resources")
        if urls:
            if namespaced:
                detail = "namespaced rules cannot apply to non-resource URLs"
                yield causes.invalid(f"{rule_path}.nonResourceURLs", urls, detail)
            if rule.get("apiGroups") or resources or rule.get("resourceNames"):
                detail = "rules cannot apply to both regular resources and non-resource URLs"
                yield causes.invalid(f"{rule_path}.nonResourceURLs", urls, detail)
            continue
        if not rule.get("apiGroups"):
            yield causes.required(
                f"{rule_path}.apiGroups", "resource rules must supply at least one api group"
            )
        if not resources:
            yield causes.required(
                f"{rule_path}.resources", "resource rules must supply at least one resource"
            )


def role_binding(obj: Mapping[str, Any]) -> Iterator[Cause]:
    yield from _binding(obj, ("Role", "ClusterRole"), namespaced=True)


def cluster_role_binding(obj: Mapping[str, Any]) -> Iterator[Cause]:
    yield from _binding(obj, ("ClusterRole",), namespaced=False)


def _binding(obj: Mapping[str, Any], kinds: tuple[str, ...], *, namespaced: bool) -> Iterator[Cause]:
    ref = obj.get("roleRef") or {}
    yield from fields.one_of("roleRef.apiGroup", ref.get("apiGroup") or "", (_GROUP,))
    if ref.get("kind") not in kinds:
        yield causes.not_supported("roleRef.kind", ref.get("kind") or "", kinds)
    if not ref.get("name"):
        yield causes.required("roleRef.name")
    else:
        yield from fields.path_segment("roleRef.name", ref["name"])
    for index, subject in enumerate(obj.get("subjects") or ()):
        yield from _subject(subject, f"subjects[{index}]", namespaced=namespaced)


def _subject(subject: Mapping[str, Any], path: str, *, namespaced: bool) -> Iterator[Cause]:
    kind, group = subject.get("kind") or "", subject.get("apiGroup") or ""
    if not subject.get("name"):
        yield causes.required(f"{path}.name")
    if kind == "ServiceAccount":
        if subject.get("name"):
            yield from fields.subdomain(f"{path}.name", subject["name"])
        if group:
            yield causes.not_supported(f"{path}.apiGroup", group, ("",))
        if not namespaced and not subject.get("namespace"):
            yield causes.required(f"{path}.namespace")
    elif kind in ("User", "Group"):
        if group != _GROUP:
            yield causes.not_supported(f"{path}.apiGroup", group, (_GROUP,))
    else:
        yield causes.not_supported(f"{path}.kind", kind, ("ServiceAccount", "User", "Group"))


def binding_update(new: Mapping[str, Any], old: Mapping[str, Any]) -> Iterator[Cause]:
    """What a binding grants is its identity."""
    yield from fields.same("roleRef", new.get("roleRef"), old.get("roleRef"), "cannot change roleRef")


def token_request(obj: Mapping[str, Any]) -> Iterator[Cause]:
    seconds = (obj.get("spec") or {}).get("expirationSeconds") or 0
    path = "spec.expirationSeconds"
    if seconds < _MIN_TOKEN_S:
        yield causes.invalid(path, seconds, "may not specify a duration less than 10 minutes")
    if seconds > _MAX_TOKEN_S:
        yield causes.invalid(path, seconds, "may not specify a duration larger than 2^32 seconds")


def access_review(obj: Mapping[str, Any]) -> Iterator[Cause]:
    """SubjectAccessReview and its local form: who, and one thing."""
    spec = obj.get("spec") or {}
    yield from _attributes(spec)
    if not spec.get("user") and not spec.get("groups"):
        yield causes.invalid("spec.user", "", "at least one of user or group must be specified")


def local_access_review(obj: Mapping[str, Any]) -> Iterator[Cause]:
    yield from access_review(obj)
    spec = obj.get("spec") or {}
    namespace = (spec.get("resourceAttributes") or {}).get("namespace") or ""
    if namespace != ((obj.get("metadata") or {}).get("namespace") or ""):
        yield causes.invalid("spec.resourceAttributes.namespace", namespace, "must match metadata.namespace")
    if spec.get("nonResourceAttributes") is not None:
        detail = "disallowed on this kind of request"
        yield causes.invalid("spec.nonResourceAttributes", dict(spec["nonResourceAttributes"]), detail)


def self_access_review(obj: Mapping[str, Any]) -> Iterator[Cause]:
    yield from _attributes(obj.get("spec") or {})


def _attributes(spec: Mapping[str, Any]) -> Iterator[Cause]:
    present = [f for f in ("resourceAttributes", "nonResourceAttributes") if spec.get(f) is not None]
    if len(present) > 1:
        detail = "cannot be specified in combination with resourceAttributes"
        yield causes.invalid("spec.nonResourceAttributes", dict(spec["nonResourceAttributes"]), detail)
    elif not present:
        detail = "exactly one of nonResourceAttributes or resourceAttributes must be specified"
        yield causes.invalid("spec.resourceAttributes", None, detail)
