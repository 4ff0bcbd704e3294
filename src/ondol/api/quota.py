"""What objects use of a ResourceQuota: one meaning for admission and for the controller that reports it.

Follows Kubernetes' `pkg/quota/v1/evaluator`. Names are those of quotas (`requests.cpu`,
`count/deployments.apps`). Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

from ondol.api import objects, pods, quality, resources
from ondol.api.objects import Resource
from ondol.base import quantity, timestamps

Amounts: TypeAlias = Mapping[str, int]
"""Thousandths, rounded up where they were written finer."""
Document: TypeAlias = Mapping[str, Any]

_ONE: Final = 1000
_COMPUTE: Final = ("cpu", "memory", "ephemeral-storage")
_POD_NAMES: Final = frozenset(
    {"pods", "count/pods", *_COMPUTE}
    | {f"{kind}.{name}" for kind in ("requests", "limits") for name in _COMPUTE}
)
EXPLICIT: Final = frozenset(
    {"cpu", "memory"} | {f"{kind}.{name}" for kind in ("requests", "limits") for name in ("cpu", "memory")}
)
"""Names under which every container must say how much it means to use."""
_SERVICE_NAMES: Final = frozenset(
    {"services", "count/services", "services.nodeports", "services.loadbalancers"}
)
_CLAIM_NAMES: Final = frozenset(
    {"persistentvolumeclaims", "count/persistentvolumeclaims", "requests.storage"}
)
_CLASS_SUFFIX: Final = ".storageclass.storage.k8s.io/"
_PLAIN_COUNTS: Final = frozenset({"configmaps", "replicationcontrollers", "resourcequotas", "secrets"})
"""Kinds whose counts have a short name as well, from before there were others."""
_UNCOUNTED: Final = frozenset({"events", "events.events.k8s.io", "bindings"})
_BINARY: Final = ("memory", "storage")
_SCOPES_OF_PODS: Final[Mapping[str, Callable[[Use], bool]]] = {
    "BestEffort": lambda use: use.best_effort,
    "NotBestEffort": lambda use: not use.best_effort,
    "Terminating": lambda use: use.terminating,
    "NotTerminating": lambda use: not use.terminating,
    "CrossNamespacePodAffinity": lambda use: use.reaches_out,
}


@dataclass(frozen=True, slots=True)
class Use:
    """What one object uses, and what of it scopes look at."""

    amounts: Amounts = field(default_factory=dict)
    is_pod: bool = False
    best_effort: bool = False
    terminating: bool = False
    """Whether it has a deadline."""
    priority_class: str = ""
    reaches_out: bool = False
    """Whether its affinity looks at pods of other namespaces."""


def of(resource: Resource, obj: Document, now: float) -> Use:
    """What an object of a resource uses."""
    if resource == resources.POD:
        return _pod(obj, now)
    if resource == resources.SERVICE:
        return Use(_service(obj))
    if resource == resources.PERSISTENT_VOLUME_CLAIM:
        return Use(_claim(obj))
    return Use(dict.fromkeys(_counted(resource), _ONE))


def _counted(resource: Resource) -> list[str]:
    """The names under which objects of a resource are counted."""
    name = resource.group_resource
    return [f"count/{name}", *([name] if name in _PLAIN_COUNTS else [])]


def names(hard: Iterable[str], resource: Resource) -> frozenset[str]:
    """Which of a quota's names are about a resource."""
    if resource.group_resource in _UNCOUNTED:
        return frozenset()
    if resource == resources.POD:
        return frozenset(name for name in hard if _is_of_pods(name))
    if resource == resources.SERVICE:
        return _SERVICE_NAMES & frozenset(hard)
    if resource == resources.PERSISTENT_VOLUME_CLAIM:
        return frozenset(name for name in hard if name in _CLAIM_NAMES or _CLASS_SUFFIX in name)
    return frozenset(_counted(resource)) & frozenset(hard)


def _is_of_pods(name: str) -> bool:
    if name in _POD_NAMES or name.startswith(("hugepages-", "requests.hugepages-")):
        return True
    return name.startswith("requests.") and "/" in name and _CLASS_SUFFIX not in name


def is_about(quota: Document, use: Use) -> bool:
    """Whether a quota's scopes take an object in; scopes are about pods alone."""
    spec = objects.spec(quota)
    requirements = [{"scopeName": scope, "operator": "Exists"} for scope in spec.get("scopes") or ()]
    requirements += (spec.get("scopeSelector") or {}).get("matchExpressions") or ()
    return not requirements or (
        use.is_pod and all(_in_scope(requirement, use) for requirement in requirements)
    )


def _in_scope(requirement: Document, use: Use) -> bool:
    scope = requirement.get("scopeName") or ""
    if scope != "PriorityClass":
        holds = _SCOPES_OF_PODS.get(scope)
        return holds is not None and holds(use)
    values = requirement.get("values") or ()
    match requirement.get("operator"):
        case "In":
            return use.priority_class in values
        case "NotIn":
            return use.priority_class not in values
        case "Exists":
            return use.priority_class != ""
        case _:
            return use.priority_class == ""


# --- pods


def _pod(pod: Document, now: float) -> Use:
    spec = objects.spec(pod)
    amounts = {"count/pods": _ONE}
    if not _is_over(pod, now):
        amounts |= _computed(*of_pod(pod)) | {"pods": _ONE}
    deadline = spec.get("activeDeadlineSeconds")
    return Use(
        amounts,
        is_pod=True,
        best_effort=quality.of(pod) == "BestEffort",
        terminating=deadline is not None and deadline >= 0,
        priority_class=spec.get("priorityClassName") or "",
        reaches_out=_reaches_out(spec.get("affinity") or {}),
    )


def _is_over(pod: Document, now: float) -> bool:
    """Whether it ended, or should have by now: then it holds nothing but its name."""
    if pods.is_terminal(pod):
        return True
    metadata = objects.metadata(pod)
    grace_s = metadata.get("deletionGracePeriodSeconds")
    if not metadata.get("deletionTimestamp") or grace_s is None:
        return False
    return bool(now > timestamps.parse_rfc3339(metadata["deletionTimestamp"]) + grace_s)


def of_pod(pod: Document) -> tuple[Amounts, Amounts]:
    """What all containers of a pod request and are limited to, at most at any time."""
    spec = objects.spec(pod)
    sums = []
    for kind in ("requests", "limits"):
        amounts = _together(spec, kind)
        own = (spec.get("resources") or {}).get(kind) or {}
        amounts |= {name: quantity.milli_of(own[name]) for name in ("cpu", "memory") if name in own}
        if kind == "requests" or amounts:
            for name, amount in (spec.get("overhead") or {}).items():
                if kind == "requests" or name in amounts:
                    amounts[name] = amounts.get(name, 0) + quantity.milli_of(amount)
        sums.append(amounts)
    return sums[0], sums[1]


def _together(spec: Document, kind: str) -> dict[str, int]:
    """Containers add up; init containers run one by one, beside the sidecars started before them."""
    total: dict[str, int] = {}
    for container in spec.get("containers") or ():
        _add(total, _amounts(container, kind))
    sidecars: dict[str, int] = {}
    peak: dict[str, int] = {}
    for container in spec.get("initContainers") or ():
        own = _amounts(container, kind)
        if container.get("restartPolicy") == "Always":
            _add(total, own)
            _add(sidecars, own)
            _raise(peak, sidecars)
        else:
            beside = dict(sidecars)
            _add(beside, own)
            _raise(peak, beside)
    _raise(total, peak)
    return total


def _amounts(container: Document, kind: str) -> Amounts:
    listed = (container.get("resources") or {}).get(kind) or {}
    return {name: quantity.milli_of(amount) for name, amount in listed.items()}


def _add(total: dict[str, int], amounts: Amounts) -> None:
    for name, amount in amounts.items():
        total[name] = total.get(name, 0) + amount


def _raise(total: dict[str, int], amounts: Amounts) -> None:
    for name, amount in amounts.items():
        total[name] = max(total.get(name, 0), amount)


def _computed(requests: Amounts, limits: Amounts) -> dict[str, int]:
    """Amounts of resources under the names that quotas have for them."""
    amounts = {f"limits.{name}": limits[name] for name in _COMPUTE if name in limits}
    for name, amount in requests.items():
        if name in _COMPUTE or name.startswith("hugepages-"):
            amounts[name] = amount
        amounts[f"requests.{name}"] = amount
    return amounts


def missing(pod: Document, required: Iterable[str]) -> dict[str, list[str]]:
    """Names a quota has that containers say nothing of, with the containers."""
    needed = EXPLICIT & frozenset(required)
    spec = objects.spec(pod)
    if any((spec.get("resources") or {}).get(kind) for kind in ("requests", "limits")):
        return {}
    silent: dict[str, list[str]] = {}
    for container in (*(spec.get("containers") or ()), *(spec.get("initContainers") or ())):
        computed = _computed(_amounts(container, "requests"), _amounts(container, "limits"))
        for name in needed - computed.keys():
            silent.setdefault(name, []).append(container.get("name") or "")
    return {name: sorted(silent[name]) for name in sorted(silent)}


def _reaches_out(affinity: Document) -> bool:
    return any(
        term.get("namespaces") or term.get("namespaceSelector") is not None
        for kind in ("podAffinity", "podAntiAffinity")
        for term in _terms(affinity.get(kind) or {})
    )


def _terms(affinity: Document) -> Iterable[Document]:
    yield from affinity.get("requiredDuringSchedulingIgnoredDuringExecution") or ()
    for weighted in affinity.get("preferredDuringSchedulingIgnoredDuringExecution") or ():
        yield weighted.get("podAffinityTerm") or {}


# --- services and claims


def _service(service: Document) -> dict[str, int]:
    spec = objects.spec(service)
    ports = spec.get("ports") or ()
    amounts = {"services": _ONE, "count/services": _ONE}
    if spec.get("type") == "NodePort":
        amounts["services.nodeports"] = _ONE * len(ports)
    elif spec.get("type") == "LoadBalancer":
        amounts["services.loadbalancers"] = _ONE
        if spec.get("allocateLoadBalancerNodePorts") is False:
            ports = [port for port in ports if port.get("nodePort")]
        amounts["services.nodeports"] = _ONE * len(ports)
    return amounts


def _claim(claim: Document) -> dict[str, int]:
    spec = objects.spec(claim)
    annotation = objects.annotations(claim).get("volume.beta.kubernetes.io/storage-class")
    storage_class = annotation or spec.get("storageClassName") or ""
    prefix = f"{storage_class}{_CLASS_SUFFIX}" if storage_class else ""
    amounts = dict.fromkeys(("persistentvolumeclaims", "count/persistentvolumeclaims"), _ONE)
    if prefix:
        amounts[f"{prefix}persistentvolumeclaims"] = _ONE
    size = ((spec.get("resources") or {}).get("requests") or {}).get("storage")
    if size is not None:
        amounts["requests.storage"] = quantity.milli_of(size)
        if prefix:
            amounts[f"{prefix}requests.storage"] = quantity.milli_of(size)
    return amounts


# --- sums


def total(quota: Document, uses: Iterable[Use], names: Iterable[str]) -> dict[str, int]:
    """What the objects that a quota is about use together under some of its names."""
    amounts = dict.fromkeys(names, 0)
    for use in uses:
        if is_about(quota, use):
            for name in amounts:
                amounts[name] += use.amounts.get(name, 0)
    return amounts


def spelled(name: str, amount: int) -> str:
    """An amount as quotas show it: in powers of two for what is measured in bytes."""
    if name.endswith(_BINARY) and amount and amount % (1024 * _ONE) == 0:
        return quantity.canonical(f"{amount // (1024 * _ONE)}Ki")
    return quantity.canonical(f"{amount}m")
