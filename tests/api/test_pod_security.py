"""The Pod Security Standards: each rule with what breaks it, in Kubernetes' words, and from when it holds."""

from __future__ import annotations

from typing import Any

import pytest

from ondol.api.pod_security import checks, policies
from ondol.api.pod_security.policies import LevelVersion, Policy

GOOD_CONTEXT = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "runAsNonRoot": True,
    "seccompProfile": {"type": "RuntimeDefault"},
}


def container(name: str = "c", context: dict[str, Any] | None = None, **fields: Any) -> dict[str, Any]:
    return {"name": name, "image": "i", "securityContext": {**GOOD_CONTEXT, **(context or {})}, **fields}


def spec(*containers: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {"containers": list(containers) or [container()], **fields}


def broken(level: str, pod_spec: dict[str, Any], version: str = "latest", **annotations: str) -> str:
    metadata = {"annotations": {key.replace("__", "/"): value for key, value in annotations.items()}}
    return checks.details(checks.evaluate(LevelVersion(level, version), metadata, pod_spec))


def test_a_pod_that_keeps_to_the_strictest_level() -> None:
    """Nothing is said of it at any level."""
    assert broken("restricted", spec(volumes=[{"name": "v", "emptyDir": {}}])) == ""
    assert broken("privileged", spec(container(context={"privileged": True}))) == ""


def test_a_plain_pod_at_restricted() -> None:
    """The words are those of Kubernetes, in its order."""
    assert broken("restricted", {"containers": [{"name": "c", "image": "i"}]}) == (
        'allowPrivilegeEscalation != false (container "c" must set '
        "securityContext.allowPrivilegeEscalation=false), unrestricted capabilities (container "
        '"c" must set securityContext.capabilities.drop=["ALL"]), runAsNonRoot != true (pod or container "c" '
        "must set securityContext.runAsNonRoot=true), seccompProfile (pod or container "
        '"c" must set securityContext.seccompProfile.type to "RuntimeDefault" or "Localhost")'
    )


BASELINE = [
    (
        spec(container("a", {"privileged": True}), container("b", {"privileged": True})),
        'privileged (containers "a", "b" must not set securityContext.privileged=true)',
    ),
    (spec(hostNetwork=True, hostIPC=True), "host namespaces (hostNetwork=true, hostIPC=true)"),
    (spec(hostPID=True), "host namespaces (hostPID=true)"),
    (
        spec(container(ports=[{"containerPort": 1, "hostPort": 80}, {"containerPort": 2, "hostPort": 443}])),
        'hostPort (container "c" uses hostPorts 443, 80)',
    ),
    (
        spec(
            container(context={"capabilities": {"drop": ["ALL"], "add": ["NET_RAW", "SYS_ADMIN", "CHOWN"]}})
        ),
        (
            'non-default capabilities (container "c" must not include "NET_RAW", "SYS_ADMIN" in '
            "securityContext.capabilities.add)"
        ),
    ),
    (
        spec(container(context={"procMount": "Unmasked"})),
        'procMount (container "c" must not set securityContext.procMount to "Unmasked")',
    ),
    (
        spec(securityContext={"windowsOptions": {"hostProcess": True}}),
        "hostProcess (pod must not set securityContext.windowsOptions.hostProcess=true)",
    ),
    (
        spec(
            container(context={"appArmorProfile": {"type": "Unconfined"}}),
            securityContext={"appArmorProfile": {"type": "Odd"}},
        ),
        (
            'forbidden AppArmor profiles (pod and container "c" must not set AppArmor profile type to "Odd", '
            '"Unconfined")'
        ),
    ),
    (
        spec(container(context={"seLinuxOptions": {"type": "spc_t", "user": "u", "role": "r"}})),
        (
            'seLinuxOptions (container "c" set forbidden securityContext.seLinuxOptions: type "spc_t"; user '
            "may not be set; role may not be set)"
        ),
    ),
    (
        spec(container(context={"seccompProfile": {"type": "Unconfined"}})),
        'seccompProfile (container "c" must not set securityContext.seccompProfile.type to "Unconfined")',
    ),
    (
        spec(securityContext={"sysctls": [{"name": "kernel.msgmax"}, {"name": "net.ipv4.tcp_rmem"}]}),
        "forbidden sysctls (kernel.msgmax)",
    ),
    (
        spec(
            container(livenessProbe={"httpGet": {"host": "10.0.0.1"}}),
            container("d", lifecycle={"preStop": {"tcpSocket": {"host": "b"}}}),
        ),
        'probe or lifecycle host (containers "c", "d" use probe or lifecycle hosts "10.0.0.1", "b")',
    ),
]


@pytest.mark.parametrize(("pod_spec", "words"), BASELINE)
def test_baseline(pod_spec: dict[str, Any], words: str) -> None:
    """Known ways out of a container are closed."""
    assert broken("baseline", pod_spec) == words


@pytest.mark.parametrize("pod_spec", [pod_spec for pod_spec, _ in BASELINE])
def test_restricted_holds_all_of_baseline(pod_spec: dict[str, Any]) -> None:
    """A stricter level lets nothing through that a looser one refuses."""
    assert broken("restricted", pod_spec) != ""


RESTRICTED = [
    (
        spec(container(context={"allowPrivilegeEscalation": None})),
        (
            'allowPrivilegeEscalation != false (container "c" must set '
            "securityContext.allowPrivilegeEscalation=false)"
        ),
    ),
    (
        spec(container(context={"capabilities": {"add": ["NET_BIND_SERVICE", "CHOWN"]}})),
        (
            'unrestricted capabilities (container "c" must set securityContext.capabilities.drop=["ALL"]; '
            'container "c" must not include "CHOWN" in securityContext.capabilities.add)'
        ),
    ),
    (
        spec(
            volumes=[
                {"name": "a", "hostPath": {"path": "/"}},
                {"name": "b", "nfs": {}},
                {"name": "d", "x": {}},
            ]
        ),
        (
            'restricted volume types (volumes "a", "b", "d" use restricted volume types "hostPath", "nfs", '
            '"unknown")'
        ),
    ),
    (
        spec(container(context={"runAsNonRoot": False}), securityContext={"runAsNonRoot": False}),
        'runAsNonRoot != true (pod and container "c" must not set securityContext.runAsNonRoot=false)',
    ),
    (
        spec(container(context={"runAsUser": 0}), securityContext={"runAsUser": 0}),
        'runAsUser=0 (pod and container "c" must not set runAsUser=0)',
    ),
]


@pytest.mark.parametrize(("pod_spec", "words"), RESTRICTED)
def test_restricted(pod_spec: dict[str, Any], words: str) -> None:
    """Pods say themselves that they need nothing special."""
    assert broken("restricted", pod_spec) == words


def test_host_paths_are_of_baseline_and_told_once() -> None:
    """Restricted has a wider rule for volumes in its place."""
    pod_spec = spec(volumes=[{"name": "v", "hostPath": {"path": "/"}}])
    assert broken("baseline", pod_spec) == 'hostPath volumes (volume "v")'
    assert "hostPath volumes" not in broken("restricted", pod_spec)


@pytest.mark.parametrize("field", ["containers", "initContainers", "ephemeralContainers"])
@pytest.mark.parametrize("level", ["baseline", "restricted"])
def test_every_kind_of_container_counts(field: str, level: str) -> None:
    """One that only begins or debugs a pod is as able as the others, even under another one's name."""
    pod_spec: dict[str, Any] = {"containers": [container()], field: [container(context={"privileged": True})]}
    pod_spec.setdefault("ephemeralContainers", [container()])
    assert broken(level, pod_spec) == (
        'privileged (container "c" must not set securityContext.privileged=true)'
    )


def test_the_pods_own_settings_count_for_its_containers() -> None:
    """Non-root and seccomp may be said once for all."""
    silent = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    pod_spec = {
        "containers": [{"name": "c", "securityContext": silent}],
        "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "Localhost"}},
    }
    assert broken("restricted", pod_spec) == ""


@pytest.mark.parametrize(
    ("level", "pod_spec", "allowed", "refused"),
    [
        ("baseline", spec(securityContext={"sysctls": [{"name": "net.ipv4.tcp_rmem"}]}), "v1.32", "v1.31"),
        (
            "baseline",
            spec(securityContext={"sysctls": [{"name": "net.ipv4.ip_local_reserved_ports"}]}),
            "v1.27",
            "v1.26",
        ),
        (
            "baseline",
            spec(securityContext={"seLinuxOptions": {"type": "container_engine_t"}}),
            "v1.31",
            "v1.30",
        ),
        ("baseline", spec(container(livenessProbe={"httpGet": {"host": "h"}})), "v1.33", "v1.34"),
        ("restricted", spec(container(context={"runAsUser": 0})), "v1.22", "v1.23"),
        ("restricted", spec(container(context={"allowPrivilegeEscalation": True})), "v1.7", "v1.8"),
        (
            "restricted",
            {"os": {"name": "windows"}, **spec(container(context={"capabilities": None}))},
            "v1.25",
            "v1.24",
        ),
    ],
)
def test_versions(level: str, pod_spec: dict[str, Any], allowed: str, refused: str) -> None:
    """A release's standards stay what they were."""
    assert broken(level, pod_spec, allowed) == ""
    assert broken(level, pod_spec, refused) != ""


def test_annotations_of_old() -> None:
    """AppArmor's still count, those of seccomp up to the release that brought its field."""
    app_armor = {"container.apparmor.security.beta.kubernetes.io__c": "unconfined"}
    assert broken("baseline", spec(), **app_armor) == (
        "forbidden AppArmor profile (annotation must not set AppArmor profile type to "
        '"container.apparmor.security.beta.kubernetes.io/c="unconfined"")'
    )
    seccomp = {"container.seccomp.security.alpha.kubernetes.io__c": "unconfined"}
    assert "forbidden annotation" in broken("baseline", spec(), "v1.18", **seccomp)
    assert broken("baseline", spec(), "v1.19", **seccomp) == ""


def test_releases_to_come_are_held_to_the_newest_known() -> None:
    """As is the latest."""
    pod_spec = spec(container(livenessProbe={"httpGet": {"host": "h"}}))
    assert broken("baseline", pod_spec, "v1.99") == broken("baseline", pod_spec) != ""


def labels(**modes: str) -> dict[str, str]:
    return {policies.PREFIX + mode.replace("_", "-"): value for mode, value in modes.items()}


def test_policies_of_labels() -> None:
    """What no label says is as the cluster has it; warnings follow a stricter level."""
    defaults = Policy(audit=LevelVersion("baseline"))
    policy, causes = policies.of_labels(labels(enforce="restricted", enforce_version="v1.30"), defaults)
    strict = LevelVersion("restricted", "v1.30")
    assert (policy, causes) == (Policy(strict, LevelVersion("baseline"), strict), [])
    policy, _ = policies.of_labels(labels(enforce="baseline", warn="privileged"), Policy())
    assert policy.warn == LevelVersion("privileged")
    assert policies.of_labels({}, defaults) == (defaults, [])


def test_labels_that_cannot_be_read() -> None:
    """Enforcing fails closed, the others open; each is named."""
    policy, causes = policies.of_labels(
        labels(enforce="strict", audit="x", warn="y", warn_version="1.2"), Policy()
    )
    assert (policy.enforce.level, policy.audit.level, policy.warn.level) == (
        "restricted",
        "privileged",
        "privileged",
    )
    assert [cause.field for cause in causes] == [
        f"metadata.labels[{policies.PREFIX}{label}]" for label in ("enforce", "audit", "warn", "warn-version")
    ]
    assert causes[0].message == 'Invalid value: "strict": must be one of privileged, baseline, restricted'
    assert causes[-1].message == 'Invalid value: "1.2": must be "latest" or "v1.x"'


@pytest.mark.parametrize("text", ["strict", "baseline:", "baseline:1.2", "baseline:v1.01", ""])
def test_levels_of_settings_that_are_none(text: str) -> None:
    """They are refused when the platform starts."""
    with pytest.raises(ValueError, match="is no level"):
        policies.parse_level_version(text)
    assert str(policies.parse_level_version("baseline:v1.20")) == "baseline:v1.20"
