"""What Kubernetes warns of is warned of in its words."""

from __future__ import annotations

from typing import Any

import pytest

from ondol.api.validation import warnings

_APP_ARMOR = "container.apparmor.security.beta.kubernetes.io/c"
_LONG = "a" * 64
_LABEL = (
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start "
    "and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is "
    "'[a-z0-9]([-a-z0-9]*[a-z0-9])?')"
)


def _pod(container: Any = None, annotations: Any = None, name: str = "p", **spec: Any) -> dict[str, Any]:
    containers = [{"name": "c", "image": "i", **(container or {})}]
    metadata = {"name": name, "annotations": annotations or {}}
    return {"metadata": metadata, "spec": {"containers": containers, **spec}}


def _env(*values: Any) -> dict[str, Any]:
    return {"env": [{"name": "A", **({"value": v} if isinstance(v, str) else v)} for v in values]}


_HIDES = 'hides previous definition of "A", which may be dropped when using apply'


@pytest.mark.parametrize(
    ("pod", "expected"),
    [
        (_pod(_env("1", "2")), [f"spec.containers[0].env[1]: {_HIDES}"]),
        (_pod(_env("1", "$(A):2")), []),
        (_pod(_env("1", "$(A)")), [f"spec.containers[0].env[1]: {_HIDES}"]),
        (_pod(_env("1", {"valueFrom": {"fieldRef": {}}})), [f"spec.containers[0].env[1]: {_HIDES}"]),
        (
            _pod({"ports": [{"containerPort": 80, "protocol": "TCP"}] * 2}),
            ["spec.containers[0].ports[1]: duplicate port definition with spec.containers[0].ports[0]"],
        ),
        (
            _pod({"ports": [{"containerPort": 80}, {"containerPort": 80, "hostPort": 81}]}),
            ["spec.containers[0].ports[1]: overlapping port definition with spec.containers[0].ports[0]"],
        ),
        (
            _pod(
                {
                    "ports": [
                        {"containerPort": 80, "hostPort": 81},
                        {"containerPort": 80, "hostPort": 81, "hostIP": "1.2.3.4"},
                    ]
                }
            ),
            [
                (
                    "spec.containers[0].ports[1]: dangerously ambiguous port definition with "
                    "spec.containers[0].ports[0]"
                )
            ],
        ),
        (
            _pod({"ports": [{"containerPort": 80, "protocol": "TCP", "hostIP": "1.2.3.4"}]}),
            [
                (
                    "spec.containers[0].ports[0]: hostIP set without hostPort: "
                    "{Name: HostPort:0 ContainerPort:80 Protocol:TCP HostIP:1.2.3.4}"
                )
            ],
        ),
        (
            _pod({"ports": [{"name": "w", "containerPort": 80}, {"name": "w", "containerPort": 81}]}),
            [
                (
                    'spec.containers[0].ports[1]: duplicate port name "w" with spec.containers[0].ports[0], '
                    "services and probes that select ports by name will use spec.containers[0].ports[0]"
                )
            ],
        ),
        (
            _pod(annotations={_APP_ARMOR: "runtime/default"}),
            [
                (
                    f"metadata.annotations[{_APP_ARMOR}]: deprecated since v1.30; "
                    'use the "appArmorProfile" field instead'
                )
            ],
        ),
        (
            _pod(annotations={"seccomp.security.alpha.kubernetes.io/pod": "runtime/default"}),
            [
                (
                    "metadata.annotations[seccomp.security.alpha.kubernetes.io/pod]: non-functional "
                    "in v1.27+; "
                    'use the "seccompProfile" field instead'
                )
            ],
        ),
        (
            _pod(nodeSelector={"beta.kubernetes.io/os": "linux"}),
            [
                (
                    "spec.nodeSelector[beta.kubernetes.io/os]: deprecated since v1.14; "
                    'use "kubernetes.io/os" instead'
                )
            ],
        ),
        (
            _pod(hostAliases=[{"ip": "1.1.1.1"}, {"ip": "1.1.1.1"}]),
            ['spec.hostAliases[1].ip: duplicate ip "1.1.1.1"'],
        ),
        (
            _pod(hostAliases=[{"ip": "2001:DB8::1"}, {"ip": "::ffff:1.2.3.4"}]),
            [
                (
                    'spec.hostAliases[0].ip: IPv6 address "2001:DB8::1" should be in RFC 5952 '
                    "canonical format "
                    '("2001:db8::1")'
                ),
                'spec.hostAliases[1].ip: non-standard IP address "::ffff:1.2.3.4" is invalid: use "1.2.3.4"',
            ],
        ),
        (
            _pod(imagePullSecrets=[{}]),
            ['spec.imagePullSecrets[0].name: invalid empty name ""'],
        ),
        (
            _pod({"resources": {"limits": {"memory": "100m"}}}),
            [
                (
                    'spec.containers[0].resources.limits[memory]: fractional byte value "100m" is invalid, '
                    "must be an integer"
                )
            ],
        ),
        (
            _pod(terminationGracePeriodSeconds=-1),
            [
                (
                    "spec.terminationGracePeriodSeconds: must be >= 0; negative values are invalid "
                    "and will be "
                    "treated as 1"
                )
            ],
        ),
        (
            _pod(
                volumes=[{"name": "v", "configMap": {"name": "m", "items": [{"path": "a"}, {"path": "a/b"}]}}]
            ),
            ['volume "v" (ConfigMap "m"): overlapping paths: "a/b" with "a"'],
        ),
        (
            _pod(volumes=[{"name": "v", "projected": {"sources": [{}]}}]),
            ['volume "v" (Projected) has no sources provided'],
        ),
        (
            _pod(name="a.b"),
            [
                (
                    "metadata.name: this is used in the Pod's hostname, which can result in "
                    "surprising behavior; "
                    f"a DNS label is recommended: [{_LABEL}]"
                )
            ],
        ),
        (
            _pod(name=_LONG),
            [
                (
                    "metadata.name: this is used in the Pod's hostname, which can result in "
                    "surprising behavior; "
                    "a DNS label is recommended: [must be no more than 63 bytes]"
                )
            ],
        ),
        (_pod(), []),
    ],
)
def test_a_pod_is_warned_of(pod: dict[str, Any], expected: list[str]) -> None:
    """By the path of the field, for whoever reads it in a terminal."""
    assert warnings.pod(pod) == expected


def test_a_template_is_warned_of_when_it_changes() -> None:
    """With the path from the workload's root; not for a change of the metadata alone."""
    template = _pod(_env("1", "2"))
    new = {"metadata": {"name": "d", "generation": 2}, "spec": {"template": template}}
    warned = [f"spec.template.spec.containers[0].env[1]: {_HIDES}"]
    assert warnings.workload(new, None) == warned
    assert warnings.workload(new, {"metadata": {"generation": 1}}) == warned
    assert warnings.workload(new, {"metadata": {"generation": 2}}) == []


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        (
            {"type": "ClusterIP", "externalName": "x"},
            ['spec.externalName is ignored when spec.type is not "ExternalName"'],
        ),
        (
            {"type": "ClusterIP", "clusterIP": "None", "sessionAffinity": "ClientIP"},
            ["spec.SessionAffinity is ignored for headless services"],
        ),
        (
            {"type": "ExternalName", "externalIPs": ["1.1.1.1"]},
            ['spec.externalIPs is ignored when spec.type is "ExternalName"'],
        ),
        ({"type": "ClusterIP"}, []),
    ],
)
def test_a_service_is_warned_of(spec: dict[str, Any], expected: list[str]) -> None:
    """Of fields that mean nothing for its type."""
    assert warnings.service({"metadata": {}, "spec": spec}, None) == expected
