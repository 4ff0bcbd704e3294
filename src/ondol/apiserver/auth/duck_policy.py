"""Cluster roles by which programs use kinds for what they offer: an address, a subscription, events.

Knative's names, as charts of further sources and channels bind them. Each of the four is aggregated, so
that a kind that comes later joins by a labelled role of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from ondol.api.objects import Object
from ondol.apiserver.auth import rbac

_READ: Final = ("get", "list", "watch")
_MANIPULATE: Final = ("create", "get", "list", "watch", "update", "patch", "delete")
_SUBSCRIBE: Final = ("knsubscribe",)


@dataclass(frozen=True, slots=True)
class _Duck:
    """What some kinds offer: the role of all of them, the label that joins it, and its members' rules."""

    role: str
    label: str
    verbs: tuple[str, ...]
    members: Mapping[str, Mapping[str, tuple[str, ...]]]
    """Name of a member's role, then resources by group."""


_DUCKS: Final = (
    _Duck(
        "addressable-resolver",
        "duck.knative.dev/addressable",
        _READ,
        {
            "service-addressable-resolver": {"": ("services",)},
            "serving-addressable-resolver": {
                "serving.knative.dev": ("routes", "routes/status", "services", "services/status")
            },
            "channel-addressable-resolver": {
                "messaging.knative.dev": (
                    "channels",
                    "channels/status",
                    "inmemorychannels",
                    "inmemorychannels/status",
                )
            },
            "broker-addressable-resolver": {"eventing.knative.dev": ("brokers", "brokers/status")},
            "requestreplies-addressable-resolver": {
                "eventing.knative.dev": ("requestreplies", "requestreplies/status")
            },
            "flows-addressable-resolver": {
                "flows.knative.dev": ("sequences", "sequences/status", "parallels", "parallels/status")
            },
            "jobsinks-addressable-resolver": {"sinks.knative.dev": ("jobsinks", "jobsinks/status")},
            "kafkasinks-addressable-resolver": {"eventing.knative.dev": ("kafkasinks", "kafkasinks/status")},
            "integrationsinks-addressable-resolver": {
                "sinks.knative.dev": ("integrationsinks", "integrationsinks/status")
            },
            "eventtransforms-addressable-resolver": {
                "eventing.knative.dev": ("eventtransforms", "eventtransforms/status")
            },
        },
    ),
    _Duck(
        "channelable-manipulator",
        "duck.knative.dev/channelable",
        _MANIPULATE,
        {
            "meta-channelable-manipulator": {"messaging.knative.dev": ("channels", "channels/status")},
            "imc-channelable-manipulator": {
                "messaging.knative.dev": ("inmemorychannels", "inmemorychannels/status")
            },
        },
    ),
    _Duck(
        "source-observer",
        "duck.knative.dev/source",
        _READ,
        {
            "eventing-sources-source-observer": {
                "sources.knative.dev": (
                    "apiserversources",
                    "pingsources",
                    "sinkbindings",
                    "containersources",
                    "integrationsources",
                    "kafkasources",
                ),
                "sources.ondol.dev": ("webhooksources",),
            }
        },
    ),
    _Duck(
        "crossnamespace-subscriber",
        "duck.knative.dev/crossnamespace-subscribable",
        _SUBSCRIBE,
        {
            "channel-subscriber": {"messaging.knative.dev": ("channels",)},
            "broker-subscriber": {"eventing.knative.dev": ("brokers",)},
        },
    ),
)


def cluster_roles(annotations: Mapping[str, str]) -> list[Object]:
    """The four roles and their members, each annotated so."""
    roles: list[Object] = []
    for duck in _DUCKS:
        selector = {"matchLabels": {duck.label: "true"}}
        aggregation = {"aggregationRule": {"clusterRoleSelectors": [selector]}, "rules": []}
        roles.append({**_head(duck.role, {}, annotations), **aggregation})
        for name, resources in duck.members.items():
            rules = [_rule(duck.verbs, group, names) for group, names in resources.items()]
            roles.append({**_head(name, {duck.label: "true"}, annotations), "rules": rules})
    return roles


def _rule(verbs: tuple[str, ...], group: str, resources: tuple[str, ...]) -> dict[str, Any]:
    return {"verbs": list(verbs), "apiGroups": [group], "resources": list(resources)}


def _head(name: str, labels: Mapping[str, str], annotations: Mapping[str, str]) -> Object:
    named = {"app.kubernetes.io/name": "knative-eventing", **labels}
    metadata = {"name": name, "labels": named, "annotations": dict(annotations)}
    return {"apiVersion": f"{rbac.GROUP}/v1", "kind": "ClusterRole", "metadata": metadata}
