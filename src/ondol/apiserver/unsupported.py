"""Fields that Kubernetes knows and Ondol keeps but does not act on: the table of the warnings.

Whoever makes a part act on a field takes its line out here. A test holds the table to the built-in
types, so that a field is either acted on or named; docs/unsupported-fields.md is written from it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from ondol.api import facts, objects, volume_kinds
from ondol.api.objects import Object


@dataclass(frozen=True, slots=True)
class Rule:
    """One field, by its path below the spec; `harmless` values ask for nothing that is missing."""

    path: str
    message: str
    harmless: tuple[Any, ...] = ()


_NO_LSM: Final = "security modules are left as the host has them"


def volume_rules(
    kinds: Collection[str] = volume_kinds.KINDS, projections: Collection[str] = volume_kinds.PROJECTIONS
) -> Iterator[Rule]:
    """A rule for each kind of volume, and part of one, that nodes do not make: all that are not listed."""
    message = "the node refuses pods with such a volume"
    yield Rule(
        "volumes[*].emptyDir.medium", message, tuple(medium for medium in volume_kinds.MEDIA if medium)
    )
    for name in sorted(_fields("VolumeProjection") - set(projections)):
        yield Rule(f"volumes[*].projected.sources[*].{name}", message)
    for name in sorted(_fields("Volume") - set(kinds) - {"name"}):
        yield Rule(f"volumes[*].{name}", message)


def _fields(type_name: str) -> set[str]:
    return set(facts.type_named(f"io.k8s.api.core.v1.{type_name}").fields)


_CONTAINER: Final = (
    Rule("resizePolicy", "resources are not resized in place"),
    Rule("resources.claims", "there are no dynamic resources"),
    Rule("restartPolicyRules", "restarts follow the restart policy alone"),
    Rule("securityContext.appArmorProfile", _NO_LSM),
    Rule("securityContext.seLinuxOptions", _NO_LSM),
    Rule("securityContext.windowsOptions", "containers are Linux containers"),
    Rule("stdinOnce", "standard input stays open", (False,)),
    Rule("tty", "no terminal is allocated", (False,)),
    Rule("volumeDevices", "the node refuses containers with raw block devices"),
    Rule("volumeMounts[*].recursiveReadOnly", "only the mount itself is read-only", ("Disabled",)),
    Rule("env[*].valueFrom.fileKeyRef", "the node refuses containers with it"),
)
_POD: Final = (
    Rule("ephemeralContainers", "ephemeral containers are not started"),
    Rule("hostUsers", "user namespaces are not made, and the node refuses pods that want one", (True,)),
    Rule("imagePullSecrets", "images are not pulled from registries"),
    Rule("hostnameOverride", "the host name is the pod's name or spec.hostname"),
    Rule("os.name", "containers are Linux containers", ("linux",)),
    Rule("overhead", "no overhead is added"),
    Rule("preemptionPolicy", "no pod is preempted for another", ("PreemptLowerPriority", "Never")),
    Rule("priority", "priorities order nothing: no pod is preempted for another", (0,)),
    Rule("resourceClaims", "there are no dynamic resources"),
    Rule("resources", "limits hold for containers, not for the pod as a whole"),
    Rule("runtimeClassName", "there is one runtime, the node's"),
    Rule("securityContext.appArmorProfile", _NO_LSM),
    Rule("securityContext.fsGroupChangePolicy", "ownership is always set", ("Always",)),
    Rule("securityContext.seLinuxChangePolicy", _NO_LSM),
    Rule("securityContext.seLinuxOptions", _NO_LSM),
    Rule("securityContext.windowsOptions", "containers are Linux containers"),
    Rule("shareProcessNamespace", "the node refuses pods that share one process namespace", (False,)),
    *volume_rules(),
    *(
        replace(rule, path=f"{group}[*].{rule.path}")
        for group in ("containers", "initContainers")
        for rule in _CONTAINER
    ),
)
_SERVICE: Final = (
    Rule("externalTrafficPolicy", "traffic goes to any ready pod", ("Cluster",)),
    Rule("healthCheckNodePort", "there is no health check port"),
    Rule("internalTrafficPolicy", "traffic goes to any ready pod", ("Cluster",)),
    Rule("ipFamilyPolicy", "addresses are IPv4", ("SingleStack", "PreferDualStack")),
    Rule("loadBalancerClass", "no load balancer is provided"),
    Rule("loadBalancerIP", "no load balancer is provided"),
    Rule("loadBalancerSourceRanges", "no load balancer is provided"),
    Rule(
        "sessionAffinityConfig",
        "the time of session affinity is the data plane's own",
        ({"clientIP": {"timeoutSeconds": 10800}},),  # the default, which nobody wrote
    ),
    Rule("trafficDistribution", "traffic goes to any ready pod"),
    Rule(
        "type",
        "no load balancer is provided: use the node port or an ingress",
        ("ClusterIP", "NodePort", "ExternalName"),
    ),
)
TABLE: Final[Mapping[str, tuple[Rule, ...]]] = {"Pod": _POD, "Service": _SERVICE}
"""The rules by kind; workloads with a pod template are held to those of Pod."""


@dataclass(slots=True)
class _Step:
    """The rules that go through one field."""

    rule: Rule | None = None
    below: dict[str, _Step] = field(default_factory=dict)


def _tree(rules: Iterable[Rule]) -> _Step:
    root = _Step()
    for rule in rules:
        step = root
        for part in rule.path.split("."):
            step = step.below.setdefault(part, _Step())
        step.rule = rule
    return root


_TREES: Final = {kind: _tree(rules) for kind, rules in TABLE.items()}
_SPECS: Final = {
    "Pod": ("Pod", ("spec",)),
    "Service": ("Service", ("spec",)),
    "Deployment": ("Pod", ("spec", "template", "spec")),
    "ReplicaSet": ("Pod", ("spec", "template", "spec")),
}


def warnings(obj: Object) -> list[str]:
    """What the author of an object should know of it, one sentence a field."""
    held = _SPECS.get(str(obj.get("kind")))
    if held is None:
        return []
    kind, path = held
    value: Any = obj
    for part in path:
        value = value.get(part) or {}
    return [f"{where}: {rule.message}" for where, rule in _found(value, _TREES[kind], ".".join(path))]


def added(new: Object, old: Object | None) -> list[str]:
    """The warnings a write brings: all of a new object's, the new ones of a changed object."""
    found = warnings(new)
    if not found or old is None:
        return found
    if objects.spec(new) == objects.spec(old):
        return []
    before = set(warnings(old))
    return [message for message in found if message not in before]


def _found(value: Any, step: _Step, path: str) -> Iterator[tuple[str, Rule]]:
    for part, below in step.below.items():
        name = part.removesuffix("[*]")
        inner = value.get(name) if isinstance(value, dict) else None
        if inner in (None, [], {}, ""):
            continue
        if below.rule is not None and inner not in below.rule.harmless:
            yield f"{path}.{name}", below.rule
        if not below.below:
            continue
        if name == part:
            yield from _found(inner, below, f"{path}.{name}")
        else:
            for index, item in enumerate(inner):
                yield from _found(item, below, f"{path}.{name}[{index}]")
