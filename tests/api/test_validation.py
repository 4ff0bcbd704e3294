"""Built-in kinds are refused for what Kubernetes refuses them, with its reasons and words."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from ondol.apiserver import kinds
from ondol.base.errors import Cause

CORE = "io.k8s.api.core.v1."
APPS = "io.k8s.api.apps.v1."
RBAC = "io.k8s.api.rbac.v1."
CRD = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.CustomResourceDefinition"
SCHEMAS = {schema.type_name: schema for schema in kinds.BUILTIN.schemas()}
SUBJECT_REVIEW = "io.k8s.api.authorization.v1.SubjectAccessReview"


def complete(type_name: str, document: dict[str, Any]) -> dict[str, Any]:
    full = {"metadata": {"name": "a", "namespace": "default"}, **copy.deepcopy(document)}
    return SCHEMAS[type_name].read(full)


def faults(type_name: str, document: dict[str, Any]) -> dict[str, str]:
    return by_field(SCHEMAS[type_name].problems(complete(type_name, document), None))


def update_faults(type_name: str, new: dict[str, Any], old: dict[str, Any]) -> dict[str, str]:
    return by_field(SCHEMAS[type_name].problems(complete(type_name, new), complete(type_name, old)))


def by_field(problems: list[Cause]) -> dict[str, str]:
    assert len({(c.field, c.message) for c in problems}) == len(problems)
    return {cause.field: cause.message for cause in problems}


def pod(spec: dict[str, Any] | None = None, **container: Any) -> dict[str, Any]:
    return {"spec": {"containers": [{"name": "c", "image": "i", **container}], **(spec or {})}}


SECURITY = "spec.securityContext"


def secured(spec: dict[str, Any] | None = None, **context: Any) -> dict[str, Any]:
    """A pod with such a security context."""
    return pod({"securityContext": context, **(spec or {})})


VALID: dict[str, dict[str, Any]] = {
    CORE + "Pod": pod(
        {
            "volumes": [
                {"name": "v", "configMap": {"name": "x"}},
                {"name": "t", "projected": {"sources": [{"serviceAccountToken": {"path": "token"}}]}},
            ],
            "initContainers": [
                {
                    "name": "i",
                    "image": "i",
                    "restartPolicy": "Always",
                    "startupProbe": {"exec": {"command": ["a"]}},
                }
            ],
            "tolerations": [{"operator": "Exists"}],
        },
        ports=[{"containerPort": 80, "name": "http"}],
        env=[{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['x']"}}}],
        volumeMounts=[{"name": "v", "mountPath": "/v"}],
        resources={"limits": {"cpu": "1"}, "requests": {"cpu": "500m"}},
        livenessProbe={"httpGet": {"port": "http"}},
    ),
    CORE + "Service": {"spec": {"ports": [{"port": 80}], "selector": {"a": "b"}}},
    CORE + "ConfigMap": {"data": {"a.b": "c"}},
    CORE + "Secret": {"type": "kubernetes.io/tls", "stringData": {"tls.crt": "", "tls.key": ""}},
    CORE + "Namespace": {"metadata": {"name": "a"}},
    CORE + "Node": {"metadata": {"name": "a"}, "spec": {"podCIDRs": ["10.0.0.0/24"]}},
    APPS + "Deployment": {
        "spec": {
            "selector": {"matchLabels": {"a": "b"}},
            "template": {
                "metadata": {"labels": {"a": "b"}},
                "spec": {"containers": [{"name": "c", "image": "i"}]},
            },
        }
    },
    "io.k8s.api.discovery.v1.EndpointSlice": {
        "addressType": "IPv4",
        "endpoints": [{"addresses": ["10.0.0.1"]}],
        "ports": [{"port": 80}],
    },
    RBAC + "Role": {
        "metadata": {"name": "system:a", "namespace": "x"},
        "rules": [{"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]}],
    },
    RBAC + "RoleBinding": {
        "roleRef": {"kind": "Role", "name": "r"},
        "subjects": [{"kind": "User", "name": "u"}],
    },
    SUBJECT_REVIEW: {"spec": {"user": "u", "resourceAttributes": {"verb": "get"}}},
    CRD: {
        "metadata": {"name": "foos.x.io"},
        "spec": {
            "group": "x.io",
            "scope": "Namespaced",
            "names": {"kind": "Foo", "plural": "foos"},
            "versions": [
                {
                    "name": "v1",
                    "served": True,
                    "storage": True,
                    "schema": {"openAPIV3Schema": {"type": "object"}},
                }
            ],
        },
    },
}


@pytest.mark.parametrize("type_name", VALID)
def test_a_valid_object_is_not_refused(type_name: str) -> None:
    """On creation and on an update that changes nothing."""
    assert faults(type_name, VALID[type_name]) == {}
    assert update_faults(type_name, VALID[type_name], VALID[type_name]) == {}


@pytest.mark.parametrize(
    ("document", "field"),
    [
        (pod({"containers": []}), "spec.containers"),
        (pod(name="UPPER"), "spec.containers[0].name"),
        (pod(name=""), "spec.containers[0].name"),
        (pod(image=""), "spec.containers[0].image"),
        (pod(imagePullPolicy="Sometimes"), "spec.containers[0].imagePullPolicy"),
        (
            pod({"containers": [{"name": "c", "image": "i"}, {"name": "c", "image": "i"}]}),
            "spec.containers[1].name",
        ),
        (pod(ports=[{"containerPort": 70000}]), "spec.containers[0].ports[0].containerPort"),
        (pod(ports=[{"containerPort": 80, "protocol": "ICMP"}]), "spec.containers[0].ports[0].protocol"),
        (pod(ports=[{"containerPort": 80, "name": "No Good"}]), "spec.containers[0].ports[0].name"),
        (pod(env=[{"name": "A=B"}]), "spec.containers[0].env[0].name"),
        (pod(env=[{"name": "A", "valueFrom": {}}]), "spec.containers[0].env[0].valueFrom"),
        (
            pod(env=[{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "spec.x"}}}]),
            "spec.containers[0].env[0].valueFrom.fieldRef.fieldPath",
        ),
        (pod(envFrom=[{}]), "spec.containers[0].envFrom[0]"),
        (pod(volumeMounts=[{"name": "nope", "mountPath": "/v"}]), "spec.containers[0].volumeMounts[0].name"),
        (
            pod(resources={"limits": {"cpu": "1"}, "requests": {"cpu": "2"}}),
            "spec.containers[0].resources.requests",
        ),
        (pod(resources={"requests": {"wheels": "1"}}), "spec.containers[0].resources.requests.wheels"),
        (pod(resources={"requests": {"cpu": "-1"}}), "spec.containers[0].resources.requests.cpu"),
        (pod(livenessProbe={}), "spec.containers[0].livenessProbe"),
        (
            pod(livenessProbe={"tcpSocket": {"port": 1}, "successThreshold": 2}),
            "spec.containers[0].livenessProbe.successThreshold",
        ),
        (pod(readinessProbe={"tcpSocket": {"port": 0}}), "spec.containers[0].readinessProbe.tcpSocket.port"),
        (pod(lifecycle={"preStop": {"exec": {}}}), "spec.containers[0].lifecycle.preStop.exec.command"),
        (pod({"restartPolicy": "Maybe"}), "spec.restartPolicy"),
        (pod({"dnsPolicy": "None"}), "spec.dnsConfig.nameservers"),
        (pod({"volumes": [{"name": "v", "secret": {}}]}), "spec.volumes[0].secret.secretName"),
        (pod({"volumes": [{"name": "v"}, {"name": "v"}]}), "spec.volumes[1].name"),
        (
            pod({"volumes": [{"name": "v", "emptyDir": {}, "configMap": {"name": "a"}}]}),
            "spec.volumes[0].configMap",
        ),
        (
            pod(
                {
                    "initContainers": [
                        {"name": "i", "image": "i", "livenessProbe": {"exec": {"command": ["a"]}}}
                    ]
                }
            ),
            "spec.initContainers[0].livenessProbe",
        ),
        (pod({"tolerations": [{"value": "x"}]}), "spec.tolerations[0].operator"),
        (pod({"nodeSelector": {"a b": "c"}}), "spec.nodeSelector"),
        (pod({"terminationGracePeriodSeconds": -1}), "spec.terminationGracePeriodSeconds"),
        (pod({"hostname": "A"}), "spec.hostname"),
        (pod({"resources": {"limits": {"cpu": "1"}, "requests": {"cpu": "2"}}}), "spec.resources.requests"),
        (secured(sysctls=[{"value": "1"}]), f"{SECURITY}.sysctls[0].name"),
        (secured(sysctls=[{"name": "net/../kernel/x"}]), f"{SECURITY}.sysctls[0].name"),
        (secured(sysctls=[{"name": "a.b"}, {"name": "a.b"}]), f"{SECURITY}.sysctls[1].name"),
        (secured(sysctls=[{"name": "a" * 254}]), f"{SECURITY}.sysctls[0].name"),
        (secured({"hostNetwork": True}, sysctls=[{"name": "net.a"}]), f"{SECURITY}.sysctls[0].name"),
        (secured({"hostIPC": True}, sysctls=[{"name": "kernel/sem"}]), f"{SECURITY}.sysctls[0].name"),
        (secured(seccompProfile={}), f"{SECURITY}.seccompProfile.type"),
        (secured(seccompProfile={"type": "Strict"}), f"{SECURITY}.seccompProfile.type"),
        (secured(seccompProfile={"type": "Localhost"}), f"{SECURITY}.seccompProfile.localhostProfile"),
        (
            secured(seccompProfile={"type": "Localhost", "localhostProfile": "../x"}),
            f"{SECURITY}.seccompProfile.localhostProfile",
        ),
        (
            secured(seccompProfile={"type": "RuntimeDefault", "localhostProfile": "x"}),
            f"{SECURITY}.seccompProfile.localhostProfile",
        ),
        (pod(securityContext={"procMount": "Open"}), "spec.containers[0].securityContext.procMount"),
        (pod(securityContext={"procMount": "Unmasked"}), "spec.containers[0].securityContext.procMount"),
        (
            pod(securityContext={"allowPrivilegeEscalation": False, "privileged": True}),
            "spec.containers[0].securityContext",
        ),
        (
            pod(
                securityContext={
                    "allowPrivilegeEscalation": False,
                    "capabilities": {"add": ["CAP_SYS_ADMIN"]},
                }
            ),
            "spec.containers[0].securityContext",
        ),
        (
            pod(
                {"volumes": [{"name": "v", "emptyDir": {}}]},
                volumeMounts=[{"name": "v", "mountPath": "/v", "mountPropagation": "Bidirectional"}],
            ),
            "spec.containers[0].volumeMounts[0].mountPropagation",
        ),
        (
            pod(
                {
                    "volumes": [
                        {"name": "v", "configMap": {"name": "m", "items": [{"key": "k", "path": "..k"}]}}
                    ]
                }
            ),
            "spec.volumes[0].configMap.items[0].path",
        ),
        (
            pod(
                {
                    "volumes": [
                        {"name": "v", "projected": {"sources": [{"serviceAccountToken": {"path": "/t"}}]}}
                    ]
                }
            ),
            "spec.volumes[0].projected.sources[0].serviceAccountToken.path",
        ),
    ],
)
def test_a_pod_is_refused_for_one_thing(document: dict[str, Any], field: str) -> None:
    """Each rule names its field and nothing else."""
    assert list(faults(CORE + "Pod", document)) == [field]


def test_the_words_are_those_kubectl_users_know() -> None:
    """Spot checks of whole messages."""
    assert faults(CORE + "Pod", secured(sysctls=[{"name": "A"}])) == {
        f"{SECURITY}.sysctls[0].name": 'Invalid value: "A": must have at most 253 characters and match regex '
        r"([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?"
    }
    assert faults(CORE + "Pod", secured({"hostNetwork": True}, sysctls=[{"name": "net.a"}])) == {
        f"{SECURITY}.sysctls[0].name": (
            "Invalid value: \"net.a\": may not be specified when 'hostNetwork' is true"
        )
    }
    assert faults(CORE + "Pod", pod(image="")) == {"spec.containers[0].image": "Required value"}
    assert (
        faults(CORE + "Pod", pod({"restartPolicy": "Maybe"}))["spec.restartPolicy"]
        == 'Unsupported value: "Maybe": supported values: "Always", "Never", "OnFailure"'
    )
    over = pod(resources={"limits": {"memory": "1Gi"}, "requests": {"memory": "2Gi"}})
    message = 'Invalid value: "2Gi": must be less than or equal to memory limit of 1Gi'
    assert faults(CORE + "Pod", over) == {"spec.containers[0].resources.requests": message}


@pytest.mark.parametrize(
    ("metadata", "field"),
    [
        ({}, "metadata.name"),
        ({"name": "A"}, "metadata.name"),
        ({"name": "a", "namespace": "a.b"}, "metadata.namespace"),
        ({"name": "a", "labels": {"-": "x"}}, "metadata.labels"),
        ({"name": "a", "labels": {"x": "no spaces"}}, "metadata.labels"),
        ({"name": "a", "annotations": {"a b": ""}}, "metadata.annotations"),
        ({"name": "a", "annotations": {"a": "x" * 300_000}}, "metadata.annotations"),
        ({"name": "a", "finalizers": ["mine"]}, "metadata.finalizers"),
        (
            {"name": "a", "ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": "p"}]},
            "metadata.ownerReferences.uid",
        ),
    ],
)
def test_metadata_rules_hold_for_every_kind(metadata: dict[str, Any], field: str) -> None:
    """Here on a ConfigMap."""
    assert list(faults(CORE + "ConfigMap", {"metadata": metadata})) == [field]


def test_only_one_owner_controls() -> None:
    """The message names both."""
    owners = [
        {"apiVersion": "v1", "kind": "Pod", "name": n, "uid": n, "controller": True} for n in ("p", "q")
    ]
    message = faults(CORE + "ConfigMap", {"metadata": {"name": "a", "ownerReferences": owners}})[
        "metadata.ownerReferences"
    ]
    assert "Pod/p and Pod/q" in message


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"image": "other"}, None),
        ({"command": ["x"]}, "spec"),
    ],
)
def test_a_running_pod_may_change_its_image_only(change: dict[str, Any], field: str | None) -> None:
    """And nothing else of a container."""
    assert list(update_faults(CORE + "Pod", pod(**change), pod())) == ([field] if field else [])


def test_a_running_pod_keeps_its_containers_and_gains_tolerations() -> None:
    """Adding a container is refused, adding a toleration is not, losing one is."""
    two = pod({"containers": [{"name": "c", "image": "i"}, {"name": "d", "image": "i"}]})
    assert list(update_faults(CORE + "Pod", two, pod())) == ["spec.containers"]
    tolerant = pod({"tolerations": [{"key": "k", "operator": "Exists"}]})
    assert update_faults(CORE + "Pod", tolerant, pod()) == {}
    assert list(update_faults(CORE + "Pod", pod(), tolerant)) == ["spec.tolerations"]


def deployment(**spec: Any) -> dict[str, Any]:
    return {"spec": {**VALID[APPS + "Deployment"]["spec"], **spec}}


@pytest.mark.parametrize(
    ("document", "field"),
    [
        (deployment(replicas=-1), "spec.replicas"),
        (deployment(selector={}), "spec.selector"),
        (deployment(selector={"matchLabels": {"a": "other"}}), "spec.template.metadata.labels"),
        (
            deployment(selector={"matchExpressions": [{"key": "a", "operator": "In"}]}),
            "spec.selector.matchExpressions[0].values",
        ),
        (
            deployment(strategy={"type": "Recreate", "rollingUpdate": {"maxSurge": 1}}),
            "spec.strategy.rollingUpdate",
        ),
        (
            deployment(strategy={"rollingUpdate": {"maxSurge": 0, "maxUnavailable": "0%"}}),
            "spec.strategy.rollingUpdate.maxUnavailable",
        ),
        (
            deployment(strategy={"rollingUpdate": {"maxSurge": "lots"}}),
            "spec.strategy.rollingUpdate.maxSurge",
        ),
        (deployment(progressDeadlineSeconds=5, minReadySeconds=5), "spec.progressDeadlineSeconds"),
        (
            deployment(
                template={
                    "metadata": {"labels": {"a": "b"}},
                    "spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]},
                }
            ),
            "spec.template.spec.restartPolicy",
        ),
    ],
)
def test_a_deployment_is_refused_for_one_thing(document: dict[str, Any], field: str) -> None:
    """Each rule names its field and nothing else."""
    assert list(faults(APPS + "Deployment", document)) == [field]


def test_no_selector_matches_nothing() -> None:
    """Both are told: that it is missing, and that the pods would not be found."""
    assert faults(APPS + "Deployment", deployment(selector=None)) == {
        "spec.selector": "Required value",
        "spec.template.metadata.labels": (
            'Invalid value: {"a":"b"}: `selector` does not match template `labels`'
        ),
    }
    assert (
        faults(APPS + "ReplicaSet", {"spec": {}})["spec.template.metadata.labels"]
        == "Invalid value: null: `selector` does not match template `labels`"
    )


def test_a_field_reference_that_is_none_is_told_before_its_value() -> None:
    """What is no field of a pod at all, and what containers cannot be told of it."""
    container = {"name": "c", "image": "i"}
    wrong = {"name": "A", "value": "x", "valueFrom": {"fieldRef": {"fieldPath": "nope"}}}
    other = {"name": "B", "valueFrom": {"fieldRef": {"fieldPath": "status.phase"}}}
    problems = faults(CORE + "Pod", {"spec": {"containers": [{**container, "env": [wrong, other]}]}})
    path = "spec.containers[0].env"
    assert list(problems) == [
        f"{path}[0].valueFrom.fieldRef.fieldPath",
        f"{path}[0].valueFrom",
        f"{path}[1].valueFrom.fieldRef.fieldPath",
    ]
    assert problems[f"{path}[0].valueFrom.fieldRef.fieldPath"] == (
        'Invalid value: "nope": error converting fieldPath: field label not supported: nope'
    )
    assert problems[f"{path}[1].valueFrom.fieldRef.fieldPath"].startswith('Unsupported value: "status.phase"')


def test_a_selector_is_for_life() -> None:
    """Also when the template follows."""
    other = deployment(
        selector={"matchLabels": {"a": "c"}},
        template={"metadata": {"labels": {"a": "c"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}},
    )
    assert list(update_faults(APPS + "Deployment", other, deployment())) == ["spec.selector"]


def service(**spec: Any) -> dict[str, Any]:
    return {"spec": {"ports": [{"port": 80}], **spec}}


@pytest.mark.parametrize(
    ("document", "field"),
    [
        (service(ports=[]), "spec.ports"),
        (service(type="Magic"), "spec.type"),
        (service(ports=[{"port": 0}]), "spec.ports[0].port"),
        (service(ports=[{"port": 80, "name": "a"}, {"port": 81}]), "spec.ports[1].name"),
        (service(ports=[{"port": 80, "name": "a"}, {"port": 80, "name": "b"}]), "spec.ports[1]"),
        (service(ports=[{"port": 80, "nodePort": 30000}]), "spec.ports[0].nodePort"),
        (service(clusterIP="nope"), "spec.clusterIPs[0]"),
        (service(sessionAffinity="Cookie"), "spec.sessionAffinity"),
        (service(externalTrafficPolicy="Local"), "spec.externalTrafficPolicy"),
        ({"spec": {"type": "ExternalName"}}, "spec.externalName"),
        ({"metadata": {"name": "1a"}, **service()}, "metadata.name"),
    ],
)
def test_a_service_is_refused_for_one_thing(document: dict[str, Any], field: str) -> None:
    """Each rule names its field; a wrong address may be named more than once."""
    assert field in faults(CORE + "Service", document)


def test_headless_and_alias_services_need_no_ports() -> None:
    """Nothing listens."""
    assert faults(CORE + "Service", {"spec": {"clusterIP": "None"}}) == {}
    assert faults(CORE + "Service", {"spec": {"type": "ExternalName", "externalName": "a.b."}}) == {}


def test_a_cluster_address_stays() -> None:
    """Unless the service becomes an alias."""
    old, new = service(clusterIP="10.0.0.1"), service(clusterIP="10.0.0.2")
    assert list(update_faults(CORE + "Service", new, old)) == ["spec.clusterIPs[0]"]
    alias = {"spec": {"type": "ExternalName", "externalName": "a.b"}}
    assert update_faults(CORE + "Service", alias, old) == {}


@pytest.mark.parametrize(
    ("type_name", "document", "field"),
    [
        (CORE + "ConfigMap", {"data": {"a b": ""}}, "data[a b]"),
        (CORE + "ConfigMap", {"data": {"a": ""}, "binaryData": {"a": ""}}, "data[a]"),
        (CORE + "Secret", {"type": "kubernetes.io/tls"}, "data[tls.crt]"),
        (
            CORE + "Secret",
            {"type": "kubernetes.io/dockerconfigjson", "stringData": {".dockerconfigjson": "{"}},
            "data[.dockerconfigjson]",
        ),
        (CORE + "Namespace", {"metadata": {"name": "a.b"}}, "metadata.name"),
        (
            CORE + "Node",
            {"metadata": {"name": "a"}, "spec": {"taints": [{"key": "k"}]}},
            "spec.taints[0].effect",
        ),
        (CORE + "Event", {"involvedObject": {"namespace": "other"}}, "involvedObject.namespace"),
        (
            "io.k8s.api.coordination.v1.Lease",
            {"spec": {"leaseDurationSeconds": 0}},
            "spec.leaseDurationSeconds",
        ),
        (
            "io.k8s.api.discovery.v1.EndpointSlice",
            {"addressType": "IPv4", "endpoints": [{"addresses": ["::1"]}]},
            "endpoints[0].addresses[0]",
        ),
        ("io.k8s.api.discovery.v1.EndpointSlice", {"addressType": "IPv5"}, "addressType"),
        (RBAC + "Role", {"rules": [{"apiGroups": [""], "resources": ["pods"]}]}, "rules[0].verbs"),
        (RBAC + "Role", {"metadata": {"name": "a/b", "namespace": "x"}}, "metadata.name"),
        (RBAC + "RoleBinding", {"roleRef": {"kind": "Rule", "name": "r"}}, "roleRef.kind"),
        (
            RBAC + "ClusterRoleBinding",
            {
                "roleRef": {"kind": "ClusterRole", "name": "r"},
                "subjects": [{"kind": "ServiceAccount", "name": "s"}],
            },
            "subjects[0].namespace",
        ),
        (
            "io.k8s.api.authentication.v1.TokenRequest",
            {"spec": {"expirationSeconds": 5}},
            "spec.expirationSeconds",
        ),
        (SUBJECT_REVIEW, {"spec": {"user": "u"}}, "spec.resourceAttributes"),
        (SUBJECT_REVIEW, {"spec": {"resourceAttributes": {}}}, "spec.user"),
        (
            "io.k8s.api.events.v1.Event",
            {
                "type": "Normal",
                "reason": "r",
                "action": "a",
                "reportingController": "c",
                "reportingInstance": "i",
            },
            "eventTime",
        ),
    ],
)
def test_other_kinds_are_refused(type_name: str, document: dict[str, Any], field: str) -> None:
    """One example of each rule."""
    assert field in faults(type_name, document)


def test_what_is_sealed_stays_sealed() -> None:
    """Immutable ConfigMaps, secret types, role references, address types."""
    sealed = {"immutable": True, "data": {"a": "b"}}
    changed = {"immutable": True, "data": {"a": "c"}}
    for new, field in ((changed, "data"), ({"data": sealed["data"]}, "immutable")):
        assert list(update_faults(CORE + "ConfigMap", new, sealed)) == [field]
    assert list(update_faults(CORE + "Secret", {"type": "x"}, {"type": "y"})) == ["type"]
    binding, other = ({"roleRef": {"kind": "Role", "name": name}} for name in "rs")
    assert list(update_faults(RBAC + "RoleBinding", other, binding)) == ["roleRef"]


def crd(**spec: Any) -> dict[str, Any]:
    return {**VALID[CRD], "spec": {**VALID[CRD]["spec"], **spec}}


@pytest.mark.parametrize(
    ("document", "field"),
    [
        (crd(group="x"), "spec.group"),
        (crd(scope="Everywhere"), "spec.scope"),
        (crd(versions=[]), "spec.versions"),
        (crd(names={"kind": "Foo", "plural": "bars"}), "metadata.name"),
        (crd(names={"kind": "Foo", "plural": "foos", "shortNames": ["F"]}), "spec.names.shortNames[0]"),
        (crd(versions=[{"name": "v1", "storage": True}]), "spec.versions[0].schema.openAPIV3Schema"),
        (
            crd(
                versions=[{"name": "v1", "storage": True, "schema": {"openAPIV3Schema": {"type": "string"}}}]
            ),
            "spec.validation.openAPIV3Schema.type",
        ),
        (crd(conversion={"strategy": "Webhook"}), "spec.conversion.webhook.clientConfig"),
        *(
            (
                crd(
                    conversion={
                        "strategy": "Webhook",
                        "webhook": {
                            "clientConfig": {"url": "https://hooks.test/convert"},
                            "conversionReviewVersions": ["v1"],
                            **webhook,
                        },
                    }
                ),
                f"spec.conversion.webhook.{path}",
            )
            for path, webhook in (
                ("conversionReviewVersions", {"conversionReviewVersions": []}),
                ("conversionReviewVersions", {"conversionReviewVersions": ["v2"]}),
                ("conversionReviewVersions[1]", {"conversionReviewVersions": ["v1", "v1"]}),
                ("clientConfig", {"clientConfig": {}}),
                ("clientConfig.url", {"clientConfig": {"url": "http://hooks.test"}}),
                ("clientConfig.url", {"clientConfig": {"url": "https://"}}),
                ("clientConfig.url", {"clientConfig": {"url": "https://hooks.test?a=b"}}),
                ("clientConfig.url", {"clientConfig": {"url": "https://me@hooks.test"}}),
                ("clientConfig.service.name", {"clientConfig": {"service": {"namespace": "d", "port": 443}}}),
                (
                    "clientConfig.service.port",
                    {"clientConfig": {"service": {"name": "s", "namespace": "d", "port": 70000}}},
                ),
                (
                    "clientConfig.service.path",
                    {"clientConfig": {"service": {"name": "s", "namespace": "d", "port": 1, "path": "x"}}},
                ),
            )
        ),
        *(
            (
                crd(
                    versions=[{**VALID[CRD]["spec"]["versions"][0], "selectableFields": [{"jsonPath": path}]}]
                ),
                "spec.versions[0].selectableFields[0].jsonPath",
            )
            for path in ("", "spec", ".spec", ".spec.none", ".metadata.uid")
        ),
    ],
)
def test_a_crd_is_refused_for_one_thing(document: dict[str, Any], field: str) -> None:
    """Names, versions, schemas, conversion."""
    assert field in faults(CRD, document)


def test_a_stored_version_stays_in_the_crd() -> None:
    """Objects may still be stored in it."""
    renamed = {**VALID[CRD]["spec"]["versions"][0], "name": "v2"}
    assert list(update_faults(CRD, crd(versions=[renamed]), crd())) == ["status.storedVersions[0]"]
