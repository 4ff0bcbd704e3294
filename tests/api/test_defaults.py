"""Defaults of built-in kinds are those of Kubernetes, and applying them twice changes nothing more."""

from __future__ import annotations

from typing import Any

import pytest

from ondol.api import facts
from ondol.apiserver import kinds

CORE = "io.k8s.api.core.v1."
APPS = "io.k8s.api.apps.v1."
SCHEMAS = {schema.type_name: schema for schema in kinds.BUILTIN.schemas()}


def defaulted(type_name: str, document: dict[str, Any]) -> dict[str, Any]:
    decoded = SCHEMAS[type_name].read(document)
    assert SCHEMAS[type_name].read(decoded) == decoded
    return decoded


def test_a_small_pod_is_completed() -> None:
    """The whole of what a server adds to the smallest pod's spec."""
    pod = defaulted(
        CORE + "Pod", {"metadata": {"name": "a"}, "spec": {"containers": [{"name": "c", "image": "nginx"}]}}
    )
    assert pod["spec"] == {
        "containers": [
            {
                "name": "c",
                "image": "nginx",
                "resources": {},
                "imagePullPolicy": "Always",
                "terminationMessagePath": "/dev/termination-log",
                "terminationMessagePolicy": "File",
            }
        ],
        "dnsPolicy": "ClusterFirst",
        "enableServiceLinks": True,
        "restartPolicy": "Always",
        "schedulerName": "default-scheduler",
        "securityContext": {},
        "terminationGracePeriodSeconds": 30,
    }
    assert pod["status"] == {}


@pytest.mark.parametrize(
    ("image", "policy"),
    [
        ("nginx", "Always"),
        ("nginx:latest", "Always"),
        ("nginx:1.27", "IfNotPresent"),
        ("registry:5000/nginx", "Always"),
        ("registry:5000/nginx:v1", "IfNotPresent"),
        ("nginx@sha256:0123", "IfNotPresent"),
        ("nginx:latest@sha256:0123", "Always"),
    ],
)
def test_pull_policy_follows_the_tag(image: str, policy: str) -> None:
    """A registry's port is not a tag."""
    pod = defaulted(CORE + "Pod", {"spec": {"containers": [{"name": "c", "image": image}]}})
    assert pod["spec"]["containers"][0]["imagePullPolicy"] == policy


def test_requests_come_from_limits_in_pods_only() -> None:
    """A template keeps what it was given; the pod made of it is completed."""
    container = {
        "name": "c",
        "resources": {"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "500m"}},
    }
    pod = defaulted(CORE + "Pod", {"spec": {"containers": [container]}})
    assert pod["spec"]["containers"][0]["resources"]["requests"] == {"cpu": "500m", "memory": "1Gi"}
    rs = defaulted(APPS + "ReplicaSet", {"spec": {"template": {"spec": {"containers": [container]}}}})
    assert rs["spec"]["template"]["spec"]["containers"][0]["resources"]["requests"] == {"cpu": "500m"}
    assert "enableServiceLinks" not in rs["spec"]["template"]["spec"]


def test_requests_of_a_pod_are_what_its_containers_ask_at_most() -> None:
    """Init containers run in turn, sidecars beside everything; an unasked resource takes its limit."""
    ask = {"requests": {"cpu": "200m"}}
    pod = defaulted(
        CORE + "Pod",
        {
            "spec": {
                "resources": {"limits": {"cpu": "2", "memory": "1Gi"}},
                "initContainers": [
                    {"name": "s", "restartPolicy": "Always", "resources": ask},
                    {"name": "i", "resources": {"requests": {"cpu": "1"}}},
                ],
                "containers": [{"name": "a", "resources": ask}, {"name": "b"}],
            }
        },
    )
    assert pod["spec"]["resources"]["requests"] == {"cpu": "1200m", "memory": "1Gi"}


def test_probes_volumes_and_env_are_completed() -> None:
    """Nested defaults: probe periods, file modes, token life, field reference versions."""
    pod = defaulted(
        CORE + "Pod",
        {
            "spec": {
                "containers": [
                    {
                        "name": "c",
                        "livenessProbe": {"httpGet": {"port": 80}, "periodSeconds": 0},
                        "readinessProbe": {"grpc": {"port": 9}},
                        "env": [{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}],
                        "resources": {"requests": {"cpu": "100u"}},
                    }
                ],
                "volumes": [
                    {"name": "e"},
                    {"name": "s", "secret": {"secretName": "s"}},
                    {"name": "h", "hostPath": {"path": "/"}},
                    {"name": "p", "projected": {"sources": [{"serviceAccountToken": {"path": "t"}}]}},
                ],
            }
        },
    )
    container = pod["spec"]["containers"][0]
    assert container["livenessProbe"] == {
        "httpGet": {"port": 80, "path": "/", "scheme": "HTTP"},
        "timeoutSeconds": 1,
        "periodSeconds": 10,
        "successThreshold": 1,
        "failureThreshold": 3,
    }
    assert container["readinessProbe"]["grpc"] == {"port": 9, "service": ""}
    assert container["env"][0]["valueFrom"]["fieldRef"]["apiVersion"] == "v1"
    assert container["resources"]["requests"] == {"cpu": "1m"}
    volumes = {v.pop("name"): v for v in pod["spec"]["volumes"]}
    assert volumes["e"] == {"emptyDir": {}}
    assert volumes["s"]["secret"]["defaultMode"] == 420
    assert volumes["h"]["hostPath"]["type"] == ""
    assert volumes["p"]["projected"]["sources"][0]["serviceAccountToken"]["expirationSeconds"] == 3600


def test_host_network_ports_are_host_ports() -> None:
    """What listens in the host's network listens on the host."""
    spec = {"hostNetwork": True, "containers": [{"name": "c", "ports": [{"containerPort": 80}]}]}
    pod = defaulted(CORE + "Pod", {"spec": spec})
    assert pod["spec"]["containers"][0]["ports"] == [{"containerPort": 80, "hostPort": 80, "protocol": "TCP"}]


def test_deployment_rolls_by_quarters() -> None:
    """Replicas, history, deadline and strategy; Recreate has no rolling parameters."""
    spec = defaulted(APPS + "Deployment", {"spec": {}})["spec"]
    assert spec["replicas"] == 1
    assert spec["revisionHistoryLimit"] == 10
    assert spec["progressDeadlineSeconds"] == 600
    assert spec["strategy"] == {
        "type": "RollingUpdate",
        "rollingUpdate": {"maxUnavailable": "25%", "maxSurge": "25%"},
    }
    assert defaulted(APPS + "Deployment", {"spec": {"replicas": 0}})["spec"]["replicas"] == 0
    recreate = defaulted(APPS + "Deployment", {"spec": {"strategy": {"type": "Recreate"}}})["spec"]
    assert recreate["strategy"] == {"type": "Recreate"}


def test_service_is_completed() -> None:
    """Type, affinity, target port, traffic policy and address family."""
    service = defaulted(CORE + "Service", {"spec": {"selector": {"a": "b"}, "ports": [{"port": 80}]}})
    assert service["spec"] == {
        "selector": {"a": "b"},
        "ports": [{"port": 80, "protocol": "TCP", "targetPort": 80}],
        "type": "ClusterIP",
        "sessionAffinity": "None",
        "internalTrafficPolicy": "Cluster",
        "ipFamilies": ["IPv4"],
        "ipFamilyPolicy": "SingleStack",
    }
    assert service["status"] == {"loadBalancer": {}}


def test_service_types_differ() -> None:
    """Load balancers, external names and headless services."""
    balancer = defaulted(CORE + "Service", {"spec": {"type": "LoadBalancer", "sessionAffinity": "ClientIP"}})[
        "spec"
    ]
    assert balancer["externalTrafficPolicy"] == "Cluster"
    assert balancer["allocateLoadBalancerNodePorts"] is True
    assert balancer["sessionAffinityConfig"] == {"clientIP": {"timeoutSeconds": 10800}}
    alias = defaulted(CORE + "Service", {"spec": {"type": "ExternalName", "externalName": "a.b"}})["spec"]
    assert alias == {"type": "ExternalName", "externalName": "a.b", "sessionAffinity": "None"}
    headless = defaulted(CORE + "Service", {"spec": {"clusterIP": "None", "selector": {"a": "b"}}})["spec"]
    assert headless["clusterIPs"] == ["None"]


def test_secret_text_is_encoded_and_wins() -> None:
    """`stringData` is never read back."""
    secret = defaulted(CORE + "Secret", {"data": {"a": "eA==", "b": "eQ=="}, "stringData": {"a": "hi"}})
    assert secret == {"data": {"a": "aGk=", "b": "eQ=="}, "type": "Opaque", "metadata": {}}


def test_namespace_carries_its_name_as_label() -> None:
    """Selectors can find a namespace by name."""
    namespace = defaulted(CORE + "Namespace", {"metadata": {"name": "a", "labels": {"x": "y"}}})
    assert namespace["metadata"]["labels"] == {"x": "y", "kubernetes.io/metadata.name": "a"}
    assert namespace["status"] == {"phase": "Active"}


def test_rbac_endpoints_nodes_tokens_and_crds() -> None:
    """The remaining rules."""
    binding = defaulted(
        "io.k8s.api.rbac.v1.RoleBinding",
        {
            "roleRef": {"kind": "Role", "name": "r"},
            "subjects": [{"kind": "User", "name": "u"}, {"kind": "ServiceAccount", "name": "s"}],
        },
    )
    assert binding["roleRef"]["apiGroup"] == "rbac.authorization.k8s.io"
    assert [s.get("apiGroup") for s in binding["subjects"]] == ["rbac.authorization.k8s.io", None]
    assert defaulted(CORE + "Endpoints", {"subsets": [{"ports": [{"port": 1}]}]})["subsets"][0]["ports"] == [
        {"port": 1, "protocol": "TCP"}
    ]
    slice_ = defaulted(
        "io.k8s.api.discovery.v1.EndpointSlice", {"addressType": "IPv4", "ports": [{"port": 1}]}
    )
    assert slice_["ports"] == [{"port": 1, "protocol": "TCP", "name": ""}]
    assert slice_["endpoints"] == []
    assert defaulted(CORE + "Node", {"status": {"capacity": {"cpu": 2}}})["status"]["allocatable"] == {
        "cpu": "2"
    }
    assert (
        defaulted("io.k8s.api.authentication.v1.TokenRequest", {"spec": {}})["spec"]["expirationSeconds"]
        == 3600
    )
    crd = defaulted(
        "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.CustomResourceDefinition",
        {
            "spec": {
                "names": {"kind": "Foo", "plural": "foos"},
                "versions": [{"name": "v1", "storage": True, "served": True}],
            }
        },
    )
    assert crd["spec"]["names"] == {"kind": "Foo", "plural": "foos", "singular": "foo", "listKind": "FooList"}
    assert crd["spec"]["conversion"] == {"strategy": "None"}
    assert crd["status"]["storedVersions"] == ["v1"]


@pytest.mark.parametrize("type_name", sorted({k.type for k in facts.kinds()}))
def test_an_empty_document_of_every_kind_can_be_defaulted(type_name: str) -> None:
    """What is invalid must still reach validation to be told so."""
    defaulted(type_name, {})


@pytest.mark.parametrize("type_name", sorted({k.type for k in facts.kinds()}))
def test_an_empty_object_of_every_kind_is_answered(type_name: str) -> None:
    """Missing everything is a list of causes, not a crash."""
    document = SCHEMAS[type_name].read({})
    SCHEMAS[type_name].problems(document, None)
    SCHEMAS[type_name].problems(document, document)
