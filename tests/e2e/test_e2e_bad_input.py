"""Bad input: each case gives a clear message and a failing exit status, and the server lives on."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.e2e.harness import Http, Kubectl, run

pytestmark = pytest.mark.e2e


def config_map(**fields: Any) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "bad"}, **fields}


def pod(**spec: Any) -> dict[str, Any]:
    full = {"containers": [{"name": "main", "image": "app:1"}], **spec}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "bad"}, "spec": full}


def named(name: str, kind: str = "ConfigMap") -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": kind, "metadata": {"name": name}}


def refused(kubectl: Kubectl, document: Any, message: str) -> None:
    """Refused by the server itself, with this message; nothing of it is stored."""
    answer = kubectl.refused("create", "--validate=false", "-f", "-", stdin=document)
    assert message in answer
    names = {o["metadata"]["name"] for o in kubectl.list("pods,configmaps")}
    assert names <= {"kube-root-ca.crt"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [", "error parsing STDIN"),
        ("\tkind: ConfigMap", "error parsing STDIN"),
        ("just words", "error"),
        ('{"kind": "ConfigMap"', "error"),
        ("kind: ConfigMap\nmetadata: {name: x}\n", "apiVersion not set"),
        ("apiVersion: v1\nmetadata: {name: x}\n", "kind"),
    ],
)
def test_malformed_files(kubectl: Kubectl, text: str, message: str) -> None:
    """What is no YAML, or no object, is refused."""
    assert message in kubectl.refused("apply", "-f", "-", stdin=text)


@pytest.mark.parametrize("words", [("apply",), ("create",), ("apply", "--validate=false")])
def test_unknown_kind(kubectl: Kubectl, words: tuple[str, ...]) -> None:
    """A kind that nobody serves is named as such."""
    message = kubectl.refused(*words, "-f", "-", stdin=named("x", "Spaceship"))
    assert 'no matches for kind "Spaceship" in version "v1"' in message


def test_unknown_resource(kubectl: Kubectl) -> None:
    """So is a resource on the command line."""
    assert 'the server doesn\'t have a resource type "spaceships"' in kubectl.refused("get", "spaceships")


@pytest.mark.parametrize(
    ("document", "field"),
    [
        (config_map(dta={}), "dta"),
        (pod(kontainers=[]), "spec.kontainers"),
        (
            pod(containers=[{"name": "a", "image": "b", "ports": [{"prt": 1}]}]),
            "spec.containers[0].ports[0].prt",
        ),
    ],
)
def test_unknown_fields(kubectl: Kubectl, document: dict[str, Any], field: str) -> None:
    """A misspelt field is an error, not silence."""
    kubectl.version.need(25, "field validation by the server")
    message = kubectl.refused("create", "-f", "-", stdin=document)
    assert f'strict decoding error: unknown field "{field}"' in message


@pytest.mark.parametrize(
    ("document", "field"),
    [
        (config_map(data={"a": 1}), "data.a"),
        (config_map(data="words"), "data"),
        (pod(containers="none"), "spec.containers"),
        (pod(restartPolicy=["Always"]), "spec.restartPolicy"),
        (pod(terminationGracePeriodSeconds="soon"), "spec.terminationGracePeriodSeconds"),
    ],
)
def test_wrong_types(kubectl: Kubectl, document: dict[str, Any], field: str) -> None:
    """A value of the wrong type is refused with its path."""
    refused(kubectl, document, field)


@pytest.mark.parametrize("name", ["X", "under_score", "-lead", "a..b", "a/b", "x" * 254, "café"])
def test_bad_names(kubectl: Kubectl, name: str) -> None:
    """A name that breaks the rules is refused by the rule it breaks."""
    refused(kubectl, named(name), "metadata.name: Invalid value")


def test_a_bad_name_applied_by_the_server(kubectl: Kubectl) -> None:
    """Server-side apply of a new object is held to the same rules."""
    message = kubectl.refused("apply", "--server-side", "-f", "-", stdin=named("Bad_Name"))
    assert 'The ConfigMap "Bad_Name" is invalid: metadata.name: Invalid value' in message


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"containers": []}, "spec.containers: Required value"),
        ({"containers": [{"name": "A", "image": "b"}]}, 'spec.containers[0].name: Invalid value: "A"'),
        ({"containers": [{"name": "a", "image": ""}]}, "spec.containers[0].image: Required value"),
        ({"restartPolicy": "Sometimes"}, 'spec.restartPolicy: Unsupported value: "Sometimes"'),
        (
            {"volumes": [{"name": "v", "emptyDir": {}, "secret": {"secretName": "s"}}]},
            "may not specify more than 1",
        ),
        (
            {"containers": [{"name": "a", "image": "b"}, {"name": "a", "image": "b"}]},
            'spec.containers[1].name: Duplicate value: "a"',
        ),
        (
            {
                "containers": [
                    {"name": "a", "image": "b", "volumeMounts": [{"name": "no", "mountPath": "/x"}]}
                ]
            },
            'spec.containers[0].volumeMounts[0].name: Not found: "no"',
        ),
        (
            {"containers": [{"name": "a", "image": "b", "ports": [{"containerPort": 70000}]}]},
            "spec.containers[0].ports[0].containerPort: Invalid value: 70000",
        ),
        (
            {"containers": [{"name": "a", "image": "b", "resources": {"limits": {"memory": "lots"}}}]},
            "quantities must match the regular expression",
        ),
        (
            {
                "containers": [
                    {
                        "name": "a",
                        "image": "b",
                        "resources": {"limits": {"cpu": "1"}, "requests": {"cpu": "2"}},
                    }
                ]
            },
            "must be less than or equal to cpu limit",
        ),
    ],
)
def test_invalid_pods(kubectl: Kubectl, spec: dict[str, Any], message: str) -> None:
    """Rules of pods are checked with Kubernetes' own messages."""
    refused(kubectl, pod(**spec), message)


def test_every_fault_is_told_at_once(kubectl: Kubectl) -> None:
    """Two faults, two causes in one answer."""
    message = kubectl.refused(
        "create", "--validate=false", "-f", "-", stdin=pod(containers=[{"name": "A", "image": ""}])
    )
    assert "spec.containers[0].name" in message
    assert "spec.containers[0].image" in message


def test_immutable_fields(kubectl: Kubectl) -> None:
    """What may not change is refused by name, and stays as it was."""
    kubectl("create", "deployment", "web", "--image=web:1")
    kubectl("create", "service", "clusterip", "web", "--tcp=80:80")
    kubectl.apply(pod())
    selector = '{"spec":{"selector":{"matchLabels":{"more":"labels"}}}}'
    assert "field is immutable" in kubectl.refused("patch", "deployment", "web", "-p", selector)
    address = '{"spec":{"clusterIP":"10.96.0.77","clusterIPs":["10.96.0.77"]}}'
    message = kubectl.refused("patch", "service", "web", "--type=merge", "-p", address)
    assert "field is immutable" in message or "may not change once set" in message
    command = '{"spec":{"containers":[{"name":"main","command":["other"]}]}}'
    assert "pod updates may not change fields other than" in kubectl.refused(
        "patch", "pod", "bad", "-p", command
    )
    assert "command" not in kubectl.get("pod", "bad")["spec"]["containers"][0]


def test_immutable_config_map(kubectl: Kubectl) -> None:
    """A ConfigMap that is declared immutable is."""
    kubectl.apply(config_map(data={"a": "1"}, immutable=True))
    message = kubectl.refused("patch", "configmap", "bad", "--type=merge", "-p", '{"data":{"a":"2"}}')
    assert "field is immutable when `immutable` is set" in message


def test_too_large_object(kubectl: Kubectl) -> None:
    """A ConfigMap over one mebibyte is refused as such."""
    refused(kubectl, config_map(data={"a": "x" * 1_100_000}), "may not be more than 1048576 bytes")


def test_oversized_body(http: Http, kubectl: Kubectl) -> None:
    """A body over the limit is 413 as a Status, whether its length is announced or not."""
    body = json.dumps(config_map(data={"a": "x" * 4_000_000})).encode()
    path = f"/api/v1/namespaces/{kubectl.namespace}/configmaps"
    answer = http("POST", path, body=body)
    assert (answer.status, answer.document["reason"]) == (413, "RequestEntityTooLarge")
    assert "limit is 3145728" in answer.document["message"]
    refused(kubectl, config_map(data={"a": "x" * 4_000_000}), "limit is 3145728")


def test_deeply_nested_body(http: Http, kubectl: Kubectl) -> None:
    """Nesting without end is refused, not followed."""
    path = f"/api/v1/namespaces/{kubectl.namespace}/configmaps"
    answer = http("POST", path, body=b'{"a":' * 100_000 + b"1" + b"}" * 100_000)
    assert answer.status == 400
    assert answer.document["kind"] == "Status"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'"words"',
        b"\xff\xfe",
        b'{"metadata": 7}',
        b'{"metadata": {"labels": []}}',
        b"\x00" * 9,
    ],
)
def test_bodies_that_are_no_object(http: Http, kubectl: Kubectl, body: bytes) -> None:
    """Every such body is a 400 or 422 with a Status that says what is wrong."""
    answer = http("POST", f"/api/v1/namespaces/{kubectl.namespace}/configmaps", body=body)
    assert answer.status in {400, 422}, answer
    assert answer.document["kind"] == "Status"
    assert answer.document["message"]


def test_repeated_keys(http: Http, kubectl: Kubectl) -> None:
    """A key given twice is an error under strict validation and a warning by default."""
    body = b'{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"twice"},"data":{"a":"1","a":"2"}}'
    path = f"/api/v1/namespaces/{kubectl.namespace}/configmaps"
    strict = http("POST", f"{path}?fieldValidation=Strict", body=body)
    assert strict.status == 400
    assert 'duplicate field "data.a"' in strict.document["message"]
    warned = http("POST", path, body=body)
    assert warned.status == 201
    assert 'duplicate field \\"data.a\\"' in warned.headers["warning"]


def test_kind_in_the_wrong_place(http: Http, kubectl: Kubectl) -> None:
    """An object sent to another kind's address, or with another namespace than its address, is refused."""
    path = f"/api/v1/namespaces/{kubectl.namespace}/pods"
    assert http("POST", path, body=config_map()).status == 400
    document = config_map()
    document["metadata"]["namespace"] = "default"
    answer = http("POST", path.replace("pods", "configmaps"), body=document)
    assert answer.status == 400
    assert "does not match the namespace" in answer.document["message"]


def test_missing_and_protected_namespaces(kubectl: Kubectl, admin: Kubectl) -> None:
    """Nothing is created in a namespace that is not there; `default` is not deleted."""
    message = admin.inside("nowhere").refused("create", "configmap", "a")
    assert 'namespaces "nowhere" not found' in message
    assert "may not be deleted" in admin.refused("delete", "namespace", "default")


def test_stale_update(http: Http, kubectl: Kubectl) -> None:
    """A PUT of an old version is a conflict, and the newer one stays."""
    path = f"/api/v1/namespaces/{kubectl.namespace}/configmaps"
    old = http("POST", path, body=config_map(data={"a": "1"})).document
    newer = http("PUT", f"{path}/bad", body={**old, "data": {"a": "2"}})
    assert newer.status == 200
    stale = http("PUT", f"{path}/bad", body={**old, "data": {"a": "3"}})
    assert (stale.status, stale.document["reason"]) == (409, "Conflict")
    assert kubectl.get("configmap", "bad")["data"] == {"a": "2"}


def test_logs_of_a_pod_without_a_node(kubectl: Kubectl) -> None:
    """Logs of a pod that runs nowhere are refused, in words."""
    kubectl.apply(pod())
    assert "does not have a host assigned" in kubectl.refused("logs", "bad")


@pytest.mark.parametrize(
    "words", [("exec", "bad"), ("exec", "-i", "bad"), ("attach", "bad"), ("port-forward", "bad", ":80")]
)
def test_a_pod_without_a_node_cannot_be_spoken_with(
    http: Http, kubectl: Kubectl, words: tuple[str, ...]
) -> None:
    """It is one line of kubectl's, whichever protocol it would upgrade to."""
    kubectl.apply(pod())
    running = http(
        "PATCH",
        f"/api/v1/namespaces/{kubectl.namespace}/pods/bad/status",
        body={"status": {"phase": "Running"}},
        headers={"Content-Type": "application/merge-patch+json"},
    )
    assert running.status == 200
    command = kubectl.command(*words)
    result = run([*command, "--", "ls"] if words[0] == "exec" else command)
    assert result.status == 1, str(result)
    assert "pod bad does not have a host assigned" in result.err.splitlines()[-1]
