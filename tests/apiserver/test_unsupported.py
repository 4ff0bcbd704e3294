"""Every field of what the platform runs is either acted on or named in the table of warnings."""

from __future__ import annotations

import runpy
from collections.abc import Sequence
from pathlib import Path

import pytest

from ondol.api import facts, volume_kinds
from ondol.apiserver import kinds
from ondol.apiserver.unsupported import Rule

_CORE = "io.k8s.api.core.v1."
_ROOT = Path(__file__).parents[2]

# What the node, the scheduler and the data plane act on. A new field in the built-in types belongs
# either here, with whoever acts on it, or into the table.
_ACTED: dict[str, tuple[str, str, set[str]]] = {
    "PodSpec": (
        "Pod",
        "",
        {
            "activeDeadlineSeconds",
            "affinity",
            "automountServiceAccountToken",
            "containers",
            "dnsConfig",
            "dnsPolicy",
            "enableServiceLinks",
            "ephemeralContainers",
            "hostAliases",
            "hostIPC",
            "hostNetwork",
            "hostPID",
            "hostname",
            "hostnameOverride",
            "imagePullSecrets",
            "initContainers",
            "nodeName",
            "nodeSelector",
            "overhead",
            "preemptionPolicy",
            "priority",
            "priorityClassName",  # admission: turned into a priority, or refused
            "readinessGates",
            "resources",  # but for claims, which nobody makes
            "restartPolicy",
            "runtimeClassName",
            "schedulerName",
            "schedulingGates",
            "setHostnameAsFQDN",
            "shareProcessNamespace",
            "serviceAccount",
            "serviceAccountName",
            "subdomain",
            "terminationGracePeriodSeconds",
            "tolerations",
            "topologySpreadConstraints",
        },
    ),
    "Container": (
        "Pod",
        "containers[*].",
        {
            "args",
            "command",
            "env",
            "envFrom",
            "image",
            "imagePullPolicy",
            "lifecycle",
            "livenessProbe",
            "name",
            "ports",
            "readinessProbe",
            "resizePolicy",
            "restartPolicy",
            "restartPolicyRules",
            "startupProbe",
            "stdin",
            "stdinOnce",
            "tty",
            "terminationMessagePath",
            "terminationMessagePolicy",
            "volumeMounts",
            "workingDir",
        },
    ),
    "Probe": (
        "Pod",
        "containers[*].livenessProbe.",
        {
            "exec",
            "failureThreshold",
            "grpc",
            "httpGet",
            "initialDelaySeconds",
            "periodSeconds",
            "successThreshold",
            "tcpSocket",
            "terminationGracePeriodSeconds",
            "timeoutSeconds",
        },
    ),
    "SecurityContext": (
        "Pod",
        "containers[*].securityContext.",
        {
            "allowPrivilegeEscalation",
            "capabilities",
            "privileged",
            "procMount",
            "readOnlyRootFilesystem",
            "runAsGroup",
            "runAsNonRoot",
            "runAsUser",
            "seccompProfile",
        },
    ),
    "PodSecurityContext": (
        "Pod",
        "securityContext.",
        {
            "fsGroup",
            "fsGroupChangePolicy",
            "runAsGroup",
            "runAsNonRoot",
            "runAsUser",
            "seccompProfile",
            "supplementalGroups",
            "supplementalGroupsPolicy",
            "sysctls",
        },
    ),
    "Volume": ("Pod", "volumes[*].", {"name", *volume_kinds.KINDS}),
    "VolumeProjection": ("Pod", "volumes[*].projected.sources[*].", {*volume_kinds.PROJECTIONS}),
    "EmptyDirVolumeSource": ("Pod", "volumes[*].emptyDir.", {"sizeLimit"}),
    "ContainerPort": (
        "Pod",
        "containers[*].ports[*].",
        {"containerPort", "hostIP", "hostPort", "name", "protocol"},
    ),
    "VolumeMount": (
        "Pod",
        "containers[*].volumeMounts[*].",
        {"mountPath", "mountPropagation", "name", "readOnly", "recursiveReadOnly", "subPath", "subPathExpr"},
    ),
    "ServiceSpec": (
        "Service",
        "",
        {
            "allocateLoadBalancerNodePorts",
            "clusterIP",
            "clusterIPs",
            "externalIPs",
            "externalName",
            "externalTrafficPolicy",
            "healthCheckNodePort",
            "internalTrafficPolicy",
            "ipFamilies",
            "loadBalancerClass",  # whose work it is
            "loadBalancerIP",
            "loadBalancerSourceRanges",
            "ports",
            "publishNotReadyAddresses",
            "selector",
            "sessionAffinity",
            "trafficDistribution",
            "type",
        },
    ),
}


def _rules(kind: str) -> Sequence[Rule]:
    unsupported = kinds.BUILTIN.of("", kind).unsupported
    assert unsupported is not None
    return unsupported.rules


def _whole(kind: str, prefix: str) -> set[str]:
    """The fields that are warned of whatever they say, not just in a part or with some values."""
    rules = [rule for rule in _rules(kind) if rule.path.startswith(prefix) and not rule.harmless]
    return {rule.path.removeprefix(prefix) for rule in rules}


@pytest.mark.parametrize("name", sorted(_ACTED))
def test_every_field_is_acted_on_or_named(name: str) -> None:
    """Nothing is ignored in silence."""
    kind, prefix, acted = _ACTED[name]
    named = {
        rule.path.removeprefix(prefix).partition(".")[0].removesuffix("[*]")
        for rule in _rules(kind)
        if rule.path.startswith(prefix)
    }
    fields = set(facts.type_named(_CORE + name).fields)
    silent, unknown = sorted(fields - acted - named), sorted(acted - fields)
    assert not silent, (
        f"{name}.{silent[0]} would be ignored in silence: a Rule in the registration of {kind} says so to "
        "its authors, or _ACTED here says that something acts on it"
    )
    assert not unknown, f"{name} has no field {unknown[0]}: see src/ondol/api/facts"
    both = sorted(acted & _whole(kind, prefix))
    assert not both, f"{name}.{both[0]} is acted on, but a Rule in the registration of {kind} warns of it"


def test_the_table_names_only_fields_that_exist() -> None:
    """A path with a slip would never warn."""
    roots = {"Pod": "PodSpec", "Service": "ServiceSpec"}
    for kind, root in roots.items():
        for rule in _rules(kind):
            type_name = _CORE + root
            for part in rule.path.split("."):
                field = facts.type_named(type_name).fields.get(part.removesuffix("[*]"))
                assert field is not None, f"{kind}: {rule.path}"
                wrapper, type_name = facts.split(field.type)
                if wrapper == "{}":
                    break  # of a map, whose keys anyone may choose


def test_the_page_is_what_the_table_says() -> None:
    """docs/unsupported-fields.md was written from the table as it is now."""
    script = runpy.run_path(str(_ROOT / "scripts" / "generate_unsupported_fields.py"))
    is_current = (_ROOT / "docs" / "unsupported-fields.md").read_text() == script["page"]()
    assert is_current, "`make docs` writes docs/unsupported-fields.md anew; commit what it writes"


@pytest.mark.parametrize(("seconds", "warned"), [(10800, False), (60, True)])
def test_a_default_that_nobody_wrote_warns_of_nothing(seconds: int, warned: bool) -> None:
    """Session affinity brings its configuration with it; only another time than usual is news."""
    config = {"clientIP": {"timeoutSeconds": seconds}}
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "spec": {"sessionAffinity": "ClientIP", "sessionAffinityConfig": config},
    }
    assert bool(kinds.BUILTIN.unsupported(service)) == warned


def test_what_the_node_does_is_not_warned_of() -> None:
    """A host port is open at its `hostIP` alone, as it says."""
    ports = [{"containerPort": 80, "hostPort": 8080, "hostIP": "127.0.0.1"}]
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "spec": {"containers": [{"name": "c", "image": "i", "ports": ports}]},
    }
    assert kinds.BUILTIN.unsupported(pod) == []
