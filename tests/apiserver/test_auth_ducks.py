"""The roles by which programs use kinds for what they offer."""

from __future__ import annotations

from typing import Any

import pytest

from ondol.api.objects import Object
from ondol.apiserver.auth import bootstrap_policy, rbac
from ondol.apiserver.auth.identity import User

WHO = User("system:serviceaccount:shop:source")


def _allows(role: str, verb: str, group: str, resource: str, *more: Object) -> bool:
    binding = {
        "kind": "ClusterRoleBinding",
        "metadata": {"name": "b"},
        "roleRef": {"apiGroup": rbac.GROUP, "kind": "ClusterRole", "name": role},
        "subjects": [{"kind": "ServiceAccount", "name": "source", "namespace": "shop"}],
    }
    documents: list[Any] = [*bootstrap_policy.cluster_roles([]), binding, *more]
    authorizer = rbac.Authorizer(lambda kind: [d for d in documents if d["kind"] == kind.kind])
    name, _, subresource = resource.partition("/")
    return authorizer.authorize(WHO, rbac.Attributes(verb, group, name, subresource)).allowed


@pytest.mark.parametrize(
    ("role", "verb", "group", "resource", "allowed"),
    [
        ("addressable-resolver", "watch", "", "services", True),
        ("addressable-resolver", "get", "serving.knative.dev", "routes/status", True),
        ("addressable-resolver", "list", "messaging.knative.dev", "inmemorychannels", True),
        ("addressable-resolver", "get", "messaging.knative.dev", "channels/status", True),
        ("addressable-resolver", "get", "eventing.knative.dev", "brokers", True),
        ("addressable-resolver", "get", "flows.knative.dev", "parallels", True),
        ("addressable-resolver", "get", "sinks.knative.dev", "jobsinks", True),
        ("addressable-resolver", "patch", "eventing.knative.dev", "brokers", False),
        ("addressable-resolver", "get", "", "secrets", False),
        ("channelable-manipulator", "create", "messaging.knative.dev", "channels", True),
        ("channelable-manipulator", "patch", "messaging.knative.dev", "inmemorychannels/status", True),
        ("channelable-manipulator", "delete", "eventing.knative.dev", "brokers", False),
        ("source-observer", "watch", "sources.knative.dev", "pingsources", True),
        ("source-observer", "watch", "sources.knative.dev", "kafkasources", True),
        ("addressable-resolver", "get", "eventing.knative.dev", "kafkasinks", True),
        ("source-observer", "update", "sources.knative.dev", "pingsources", False),
        ("crossnamespace-subscriber", "knsubscribe", "eventing.knative.dev", "brokers", True),
        ("crossnamespace-subscriber", "knsubscribe", "messaging.knative.dev", "channels", True),
        ("crossnamespace-subscriber", "get", "eventing.knative.dev", "brokers", False),
    ],
)
def test_each_role_reaches_what_it_is_for_and_no_more(
    role: str, verb: str, group: str, resource: str, *, allowed: bool
) -> None:
    """Knative's four roles over what kinds offer."""
    assert _allows(role, verb, group, resource) is allowed


def test_a_kind_that_comes_later_joins_by_a_label() -> None:
    """A chart's source brings a role of its own, and who observes sources sees it."""
    labels = {"duck.knative.dev/source": "true"}
    rules = [{"verbs": ["get"], "apiGroups": ["example.com"], "resources": ["tapes"]}]
    chart = {"kind": "ClusterRole", "metadata": {"name": "tapes", "labels": labels}, "rules": rules}
    assert not _allows("source-observer", "get", "example.com", "tapes")
    assert _allows("source-observer", "get", "example.com", "tapes", chart)
