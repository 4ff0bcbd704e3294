"""The priority levels and flow schemas an API server has: two of each as they must be, others suggested."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from ondol.api.objects import Object
from ondol.base import timestamps

EXEMPT: Final = "exempt"
CATCH_ALL: Final = "catch-all"
AUTOUPDATE: Final = "apf.kubernetes.io/autoupdate-spec"
_ALL: Final = ("*",)
_EVERYONE: Final = ("system:unauthenticated", "system:authenticated")
_MANAGER: Final = "system:kube-controller-manager"
_SCHEDULER: Final = "system:kube-scheduler"


def _limited(shares: int, lendable: int, queues: int = 0, hand: int = 0) -> Object:
    response: Object = {"type": "Reject"}
    if queues:
        queuing = {"queues": queues, "handSize": hand, "queueLengthLimit": 50}
        response = {"type": "Queue", "queuing": queuing}
    limits = {"nominalConcurrencyShares": shares, "lendablePercent": lendable, "limitResponse": response}
    return {"type": "Limited", "limited": limits}


MANDATORY_LEVELS: Final[Mapping[str, Object]] = {
    EXEMPT: {"type": "Exempt", "exempt": {"nominalConcurrencyShares": 0, "lendablePercent": 0}},
    CATCH_ALL: _limited(5, 0),
}
_LEVELS: Final[Mapping[str, Object]] = {
    **MANDATORY_LEVELS,
    "system": _limited(30, 33, 64, 6),
    "node-high": _limited(40, 25, 64, 6),
    "leader-election": _limited(10, 0, 16, 4),
    "workload-high": _limited(40, 50, 128, 6),
    "workload-low": _limited(100, 90, 128, 6),
    "global-default": _limited(20, 50, 128, 6),
}


def _groups(*names: str) -> list[Object]:
    return [{"kind": "Group", "group": {"name": name}} for name in names]


def _users(*names: str) -> list[Object]:
    return [{"kind": "User", "user": {"name": name}} for name in names]


_SYSTEM_ACCOUNTS: Final = {
    "kind": "ServiceAccount",
    "serviceAccount": {"name": "*", "namespace": "kube-system"},
}


def _of(
    resources: Sequence[str] = _ALL,
    groups: Sequence[str] = _ALL,
    verbs: Sequence[str] = _ALL,
    *,
    cluster: bool = True,
) -> Object:
    rule: Object = {
        "verbs": list(verbs),
        "apiGroups": list(groups),
        "resources": list(resources),
        "namespaces": ["*"],
    }
    return {**rule, "clusterScope": True} if cluster else rule


_PATHS: Final = {"verbs": ["*"], "nonResourceURLs": ["*"]}


def _schema(
    level: str, precedence: int, by: str, subjects: Iterable[Object], rules: Sequence[Object] = ()
) -> Object:
    """Of these subjects: all that they ask for, if no rules say what of it."""
    what: Object = {"resourceRules": list(rules or [_of()])}
    if not rules:
        what["nonResourceRules"] = [_PATHS]
    spec: Object = {
        "priorityLevelConfiguration": {"name": level},
        "matchingPrecedence": precedence,
        "rules": [{"subjects": list(subjects), **what}],
    }
    return {**spec, "distinguisherMethod": {"type": by}} if by else spec


_PROBES: Final = {
    "priorityLevelConfiguration": {"name": EXEMPT},
    "matchingPrecedence": 2,
    "rules": [
        {
            "subjects": _groups(*_EVERYONE),
            "nonResourceRules": [{"verbs": ["get"], "nonResourceURLs": ["/healthz", "/readyz", "/livez"]}],
        }
    ],
}
_PARTS: Final = tuple(f"system:ondol:{part}" for part in ("control", "events", "gateway", "mesh", "observe"))
_LEASES: Final = ("leases",), ("coordination.k8s.io",)
MANDATORY_SCHEMAS: Final[Mapping[str, Object]] = {
    EXEMPT: _schema(EXEMPT, 1, "", _groups("system:masters")),
    CATCH_ALL: _schema(CATCH_ALL, 10000, "ByUser", _groups(*_EVERYONE)),
}
_SCHEMAS: Final[Mapping[str, Object]] = {
    **MANDATORY_SCHEMAS,
    "probes": _PROBES,
    "system-leader-election": _schema(
        "leader-election",
        100,
        "ByUser",
        [*_users(_MANAGER, _SCHEDULER), _SYSTEM_ACCOUNTS],
        [_of(*_LEASES, ("get", "create", "update"), cluster=False)],
    ),
    "system-node-high": _schema(
        "node-high",
        400,
        "ByUser",
        _groups("system:nodes"),
        [_of(("nodes", "nodes/status"), ("",)), _of(*_LEASES, cluster=False)],
    ),
    "system-nodes": _schema("system", 500, "ByUser", _groups("system:nodes")),
    "ondol-parts": _schema("workload-high", 800, "ByUser", _users(*_PARTS)),
    "kube-controller-manager": _schema("workload-high", 800, "ByNamespace", _users(_MANAGER)),
    "kube-scheduler": _schema("workload-high", 800, "ByNamespace", _users(_SCHEDULER)),
    "kube-system-service-accounts": _schema("workload-high", 900, "ByNamespace", [_SYSTEM_ACCOUNTS]),
    "service-accounts": _schema("workload-low", 9000, "ByUser", _groups("system:serviceaccounts")),
    "global-default": _schema("global-default", 9900, "ByUser", _groups(*_EVERYONE)),
}


DANGLING: Final = "Dangling"
_LEVEL_KIND: Final = "PriorityLevelConfiguration"


def dangling(level: str, *, is_there: bool, now: float) -> Object:
    """The condition of a schema whose level is there or not, in Kubernetes' words."""
    end = "it exists" if is_there else "there is no such object"
    return {
        "type": DANGLING,
        "status": "False" if is_there else "True",
        "reason": "Found" if is_there else "NotFound",
        "lastTransitionTime": timestamps.rfc3339(now),
        "message": f'This FlowSchema references the {_LEVEL_KIND} object named "{level}" and {end}',
    }


def is_own_level(name: str) -> bool:
    """Whether a server makes sure of that level itself."""
    return name in _LEVELS


def levels() -> list[Object]:
    """The priority levels a new server has."""
    return [_named(name, spec) for name, spec in _LEVELS.items()]


def schemas() -> list[Object]:
    """The flow schemas a new server has."""
    return [_named(name, spec) for name, spec in _SCHEMAS.items()]


def _named(name: str, spec: Object) -> dict[str, Any]:
    return {"metadata": {"name": name, "annotations": {AUTOUPDATE: "true"}}, "spec": spec}
