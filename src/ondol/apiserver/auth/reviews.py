"""Access reviews: asking the server what a user may do, without doing it.

Each function takes the posted review and returns it with its status; nothing is stored.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from ondol.api import objects, status
from ondol.api.objects import Object, Resource
from ondol.apiserver.auth import rbac
from ondol.apiserver.auth.identity import User
from ondol.base import clock, errors

_GROUP: Final = "authorization.k8s.io"
SUBJECT_ACCESS_REVIEW: Final = Resource(
    _GROUP, "v1", "subjectaccessreviews", "SubjectAccessReview", namespaced=False
)
SELF_SUBJECT_ACCESS_REVIEW: Final = Resource(
    _GROUP, "v1", "selfsubjectaccessreviews", "SelfSubjectAccessReview", namespaced=False
)
LOCAL_SUBJECT_ACCESS_REVIEW: Final = Resource(
    _GROUP, "v1", "localsubjectaccessreviews", "LocalSubjectAccessReview"
)
SELF_SUBJECT_RULES_REVIEW: Final = Resource(
    _GROUP, "v1", "selfsubjectrulesreviews", "SelfSubjectRulesReview", namespaced=False
)
SELF_SUBJECT_REVIEW: Final = Resource(
    "authentication.k8s.io", "v1", "selfsubjectreviews", "SelfSubjectReview", namespaced=False
)


def subject_access_review(document: Object, authorizer: rbac.Authorizer) -> Object:
    """Whether the user named in the review may do that."""
    spec = document.get("spec") or {}
    causes = _attribute_causes(spec) + _subject_causes(spec)
    return _reviewed(SUBJECT_ACCESS_REVIEW, document, causes, _subject(spec), authorizer)


def local_subject_access_review(document: Object, namespace: str, authorizer: rbac.Authorizer) -> Object:
    """The same within one namespace, for those who may ask only there."""
    spec = document.get("spec") or {}
    causes = _attribute_causes(spec) + _subject_causes(spec)
    namespace_reviewed = (spec.get("resourceAttributes") or {}).get("namespace", "")
    if spec.get("resourceAttributes") is not None and namespace_reviewed != namespace:
        message = f'Invalid value: "{namespace_reviewed}": must match metadata.namespace'
        causes.append(_cause("spec.resourceAttributes.namespace", message))
    if spec.get("nonResourceAttributes") is not None:
        causes.append(_cause("spec.nonResourceAttributes", "disallowed on this kind of request"))
    return _reviewed(LOCAL_SUBJECT_ACCESS_REVIEW, document, causes, _subject(spec), authorizer)


def self_subject_access_review(document: Object, user: User, authorizer: rbac.Authorizer) -> Object:
    """Whether the caller may do that."""
    causes = _attribute_causes(document.get("spec") or {})
    return _reviewed(SELF_SUBJECT_ACCESS_REVIEW, document, causes, user, authorizer)


def self_subject_rules_review(document: Object, user: User, authorizer: rbac.Authorizer) -> Object:
    """All the caller may do in a namespace (`kubectl auth can-i --list`)."""
    namespace = (document.get("spec") or {}).get("namespace") or ""
    if not namespace:
        raise errors.BadRequest("no namespace on request")
    rules, problems = authorizer.rules_for(user, namespace)
    outcome: Object = {
        "resourceRules": [
            {
                field: list(rule.document.get(field) or ())
                for field in ("verbs", "apiGroups", "resources", "resourceNames")
                if rule.document.get(field)
            }
            for rule in rules
            if rule.resources
        ],
        "nonResourceRules": [
            {"verbs": sorted(rule.verbs), "nonResourceURLs": list(rule.urls)} for rule in rules if rule.urls
        ],
        "incomplete": bool(problems),
    }
    if problems:
        outcome["evaluationError"] = ", ".join(problems)
    return _answer(SELF_SUBJECT_RULES_REVIEW, document, outcome)


def self_subject_review(document: Object, user: User, now: float) -> Object:
    """Who the caller is (`kubectl auth whoami`)."""
    return {
        "apiVersion": SELF_SUBJECT_REVIEW.api_version,
        "kind": SELF_SUBJECT_REVIEW.kind,
        "metadata": {**objects.metadata(document), "creationTimestamp": clock.rfc3339(now)},
        "status": {"userInfo": user.document()},
    }


def _reviewed(
    resource: Resource,
    document: Object,
    causes: list[errors.Cause],
    user: User,
    authorizer: rbac.Authorizer,
) -> Object:
    if causes:
        raise status.invalid(resource, objects.name(document), causes)
    decision = authorizer.authorize(user, _attributes(document.get("spec") or {}))
    outcome: Object = {"allowed": decision.allowed}
    if decision.reason:
        outcome["reason"] = decision.reason
    return _answer(resource, document, outcome)


def _answer(resource: Resource, document: Object, outcome: Object) -> Object:
    return {
        "apiVersion": resource.api_version,
        "kind": resource.kind,
        "metadata": document.get("metadata") or {},
        "spec": document.get("spec") or {},
        "status": outcome,
    }


def _attributes(spec: Mapping[str, Any]) -> rbac.Attributes:
    on_path = spec.get("nonResourceAttributes")
    if on_path is not None:
        return rbac.Attributes(on_path.get("verb") or "", path=on_path.get("path") or "")
    resource_attributes = spec["resourceAttributes"]
    return rbac.Attributes(
        resource_attributes.get("verb") or "",
        group=resource_attributes.get("group") or "",
        resource=resource_attributes.get("resource") or "",
        subresource=resource_attributes.get("subresource") or "",
        namespace=resource_attributes.get("namespace") or "",
        name=resource_attributes.get("name") or "",
    )


def _subject(spec: Mapping[str, Any]) -> User:
    extra = {key: tuple(values) for key, values in (spec.get("extra") or {}).items()}
    return User(spec.get("user") or "", tuple(spec.get("groups") or ()), spec.get("uid") or "", extra)


def _attribute_causes(spec: Mapping[str, Any]) -> list[errors.Cause]:
    on_resource, on_path = spec.get("resourceAttributes"), spec.get("nonResourceAttributes")
    if on_resource is not None and on_path is not None:
        message = "Invalid value: cannot be specified in combination with resourceAttributes"
        return [_cause("spec.nonResourceAttributes", message)]
    if on_resource is None and on_path is None:
        message = (
            "Invalid value: null: exactly one of nonResourceAttributes or resourceAttributes must be "
            "specified"
        )
        return [_cause("spec.resourceAttributes", message)]
    return []


def _subject_causes(spec: Mapping[str, Any]) -> list[errors.Cause]:
    if spec.get("user") or spec.get("groups"):
        return []
    return [_cause("spec.user", 'Invalid value: "": at least one of user or group must be specified')]


def _cause(field: str, message: str) -> errors.Cause:
    return errors.Cause("FieldValueInvalid", message, field)
