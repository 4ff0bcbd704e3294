"""Which EventPolicies hold for an object that takes events, and its condition about them. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

from ondol.api import conditions, labels, objects
from ondol.api.objects import Key, Object, Resource
from ondol.contracts import eventing
from ondol.eventing import verdicts
from ondol.eventing.configuration import Features
from ondol.eventing.configuration.features import OIDC
from ondol.eventing.verdicts import Verdict

Document: TypeAlias = Mapping[str, Any]


def applying(policies: Iterable[Document], resource: Resource, obj: Document) -> list[Document]:
    """Those of a namespace's policies that are about the object, in order of name."""
    return sorted((p for p in policies if is_about(p, resource, obj)), key=objects.name)


def is_about(policy: Document, resource: Resource, obj: Document) -> bool:
    """Whether the policy is about the object of this kind; one without `to` is about all of its namespace."""
    if objects.namespace(policy) != objects.namespace(obj):
        return False
    targets = objects.spec(policy).get("to") or ()
    return not targets or any(_names(t, resource, obj) or _selects(t, resource, obj) for t in targets)


def _names(target: Document, resource: Resource, obj: Document) -> bool:
    ref = target.get("ref")
    if not ref or not _is_of(ref, resource):
        return False
    return str(ref.get("name") or "").lower() == objects.name(obj).lower()


def _selects(target: Document, resource: Resource, obj: Document) -> bool:
    selector = target.get("selector")
    if not selector or not _is_of(selector, resource):
        return False
    return labels.from_document(selector).matches(objects.labels(obj))


def _is_of(ref: Document, resource: Resource) -> bool:
    group = str(ref.get("apiVersion") or "").rpartition("/")[0]
    kind = str(ref.get("kind") or "")
    return (group.lower(), kind.lower()) == (resource.group.lower(), resource.kind.lower())


def verdict(policies: Iterable[Document], features: Features) -> Verdict:
    """The condition EventPoliciesReady of an object that these policies are about."""
    listed = list(policies)
    unready = [objects.name(policy) for policy in listed if not is_ready(policy)]
    if unready:
        message = f"event policies {', '.join(unready)} are not ready"
        return verdicts.failed("EventPoliciesNotReady", message)
    if listed:
        return verdicts.OK
    if features.oidc:
        message = f'Default authz mode is "{features.default_authorization}"'
        return Verdict("True", "DefaultAuthorizationMode", message)
    return Verdict("True", "OIDCDisabled", f'Feature "{OIDC}" must be enabled to support Authorization')


def references(policies: Iterable[Document]) -> list[Object] | None:
    """`status.policies`: those that are ready."""
    version = eventing.EVENT_POLICY.api_version
    listed = [{"name": objects.name(p), "apiVersion": version} for p in policies if is_ready(p)]
    return listed or None


def is_ready(policy: Document) -> bool:
    return conditions.is_true(policy, eventing.READY)


def audience(resource: Resource, key: Key) -> str:
    """What a token for events to the object of this name must be made out to."""
    return f"{resource.group}/{resource.kind}/{key.namespace}/{key.name}".lower()
