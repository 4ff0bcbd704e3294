"""The protocol under kubectl: statuses, media types, watches that are too old."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.e2e.harness import ApiServer, Http, Kubectl, eventually

pytestmark = pytest.mark.e2e


def status(http: Http, method: str, path: str, code: int, **request: Any) -> dict[str, Any]:
    """Send a request that fails with `code`: its Status, checked for form."""
    answer = http(method, path, **request)
    assert answer.status == code, answer
    document = answer.document
    assert (document["kind"], document["apiVersion"], document["status"]) == ("Status", "v1", "Failure")
    assert document["code"] == code
    assert document["message"]
    return dict(document)


@pytest.mark.parametrize(
    ("method", "path", "code", "reason"),
    [
        ("GET", "/nowhere", 404, "NotFound"),
        ("GET", "/api/v1/spaceships", 404, "NotFound"),
        ("GET", "/apis/none.example.com/v1/things", 404, "NotFound"),
        ("GET", "/api/v1/namespaces/default/pods/none", 404, "NotFound"),
        ("DELETE", "/api", 405, "MethodNotAllowed"),
        ("PUT", "/api/v1/namespaces/default/pods", 405, "MethodNotAllowed"),
        ("POST", "/api/v1/namespaces/default/pods/one", 405, "MethodNotAllowed"),
        ("GET", "/api/v1/pods?limit=many", 400, "BadRequest"),
        ("GET", "/api/v1/pods?labelSelector=a,,b", 400, "BadRequest"),
        ("GET", "/api/v1/pods?fieldSelector=spec.colour%3Dred", 400, "BadRequest"),
        ("GET", "/api/v1/pods?continue=nonsense", 400, "BadRequest"),
        ("GET", "/api/v1/pods?resourceVersion=nonsense", 400, ""),
        ("GET", "/api/v1/pods?resourceVersion=99999999999", 504, "Timeout"),
    ],
)
def test_statuses(http: Http, method: str, path: str, code: int, reason: str) -> None:
    """Each fault has Kubernetes' code and reason."""
    body: Any = {} if method in {"PUT", "POST"} else None
    answer = status(http, method, path, code, body=body)
    assert reason in ("", answer["reason"])


def test_not_found_names_the_object(http: Http) -> None:
    """The details of a Status say which object was meant."""
    answer = status(http, "GET", "/apis/apps/v1/namespaces/default/deployments/none", 404)
    assert answer["details"] == {"name": "none", "group": "apps", "kind": "deployments"}


def test_media_types(http: Http) -> None:
    """A form that cannot be answered is 406, a body that cannot be read 415, each with what can."""
    place = "/api/v1/namespaces/default/configmaps"
    answer = status(http, "GET", place, 406, headers={"Accept": "image/png"})
    assert "application/json" in answer["message"]
    answer = status(http, "POST", place, 415, body=b"<a/>", headers={"Content-Type": "application/xml"})
    assert "application/json" in answer["message"]
    answer = status(http, "PATCH", f"{place}/none", 415, body={})
    assert "application/merge-patch+json" in answer["message"]


def test_yaml_both_ways(http: Http, kubectl: Kubectl) -> None:
    """Bodies and answers may be YAML."""
    place = f"/api/v1/namespaces/{kubectl.namespace}/configmaps"
    body = b"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: plain}\ndata: {a: 'yes'}\n"
    assert http("POST", place, body=body, headers={"Content-Type": "application/yaml"}).status == 201
    answer = http("GET", f"{place}/plain", headers={"Accept": "application/yaml"})
    assert answer.headers["content-type"].startswith("application/yaml")
    assert b"kind: ConfigMap" in answer.body


def test_openapi_documents(http: Http) -> None:
    """OpenAPI v3 is listed by group and v2 is there in JSON and protobuf, each declared as what it is."""
    paths = http("GET", "/openapi/v3").document["paths"]
    reference = paths["apis/apps/v1"]["serverRelativeURL"]
    assert "io.k8s.api.apps.v1.Deployment" in http("GET", reference).document["components"]["schemas"]
    assert http("GET", "/openapi/v2").document["swagger"] == "2.0"
    protobuf = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf"
    answer = http("GET", "/openapi/v2", headers={"Accept": protobuf})
    assert "protobuf" in answer.headers["content-type"]
    assert not answer.body.startswith(b"{")


def test_tables_and_metadata(http: Http, kubectl: Kubectl) -> None:
    """A list is answered as a Table or as metadata alone to those who ask."""
    place = f"/api/v1/namespaces/{kubectl.namespace}/configmaps"
    table = http("GET", place, headers={"Accept": "application/json;as=Table;v=v1;g=meta.k8s.io"}).document
    assert (table["kind"], table["columnDefinitions"][0]["name"]) == ("Table", "Name")
    partial = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io"
    document = http("GET", place, headers={"Accept": partial}).document
    assert document["kind"] == "PartialObjectMetadataList"
    assert "data" not in document["items"][0]


def events(http: Http, path: str) -> list[dict[str, Any]]:
    """A watch to its end."""
    answer = http("GET", path)
    assert answer.status == 200, answer
    return [json.loads(line) for line in answer.body.splitlines()]


def test_watch_resumes_where_a_list_ended(http: Http, kubectl: Kubectl) -> None:
    """List, then watch from its version: every change in between is told, once and in order."""
    place = f"/api/v1/namespaces/{kubectl.namespace}/configmaps"
    version = http("GET", place).document["metadata"]["resourceVersion"]
    kubectl("create", "configmap", "one")
    kubectl("label", "configmap", "one", "a=b")
    kubectl("delete", "configmap", "one")
    changes = events(http, f"{place}?watch=1&resourceVersion={version}&timeoutSeconds=1")
    assert [event["type"] for event in changes] == ["ADDED", "MODIFIED", "DELETED"]
    versions = [int(event["object"]["metadata"]["resourceVersion"]) for event in changes]
    assert versions == sorted(set(versions))


def test_watch_with_initial_events(http: Http, kubectl: Kubectl) -> None:
    """A streaming list gives all objects, then a bookmark that says it is complete."""
    query = "watch=1&sendInitialEvents=true&allowWatchBookmarks=true&resourceVersionMatch=NotOlderThan"
    kubectl("create", "configmap", "one")
    changes = events(http, f"/api/v1/namespaces/{kubectl.namespace}/configmaps?{query}&timeoutSeconds=1")
    assert [event["type"] for event in changes][:3] == ["ADDED", "ADDED", "BOOKMARK"]
    assert changes[2]["object"]["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}


@pytest.fixture
def forgetful(tmp_path: Path) -> Iterator[Http]:
    """A server that forgets history every half second."""
    server = ApiServer(tmp_path, compaction_interval_s=0.5)
    server.start()
    yield Http(server.kubeconfig)
    server.close()


def test_watch_from_forgotten_history(forgetful: Http) -> None:
    """A watch from before what is remembered is told 410 Gone, and a new list heals it."""
    http, place = forgetful, "/api/v1/namespaces/default/configmaps"
    version = http("GET", place).document["metadata"]["resourceVersion"]
    assert http("POST", place, body={"metadata": {"name": "one"}}).status == 201

    def compacted() -> bool:
        answer = http("GET", f"{place}?watch=1&resourceVersion={version}&timeoutSeconds=1")
        if answer.status == 410:
            assert answer.document["reason"] == "Expired"
            return True
        lines = [json.loads(line) for line in answer.body.splitlines()]
        return any(line["type"] == "ERROR" and line["object"]["code"] == 410 for line in lines)

    eventually(compacted, "410 Gone", every_s=0.5)
    version = http("GET", place).document["metadata"]["resourceVersion"]
    assert events(http, f"{place}?watch=1&resourceVersion={version}&timeoutSeconds=1") == []


def test_list_in_pages(http: Http, kubectl: Kubectl) -> None:
    """`continue` pages through one consistent state, with a count of what is left."""
    for number in range(4):
        kubectl("create", "configmap", f"n{number}")
    place = f"/api/v1/namespaces/{kubectl.namespace}/configmaps"
    first = http("GET", f"{place}?limit=2").document
    assert first["metadata"]["remainingItemCount"] == 3
    kubectl("delete", "configmap", "n3")
    token = first["metadata"]["continue"]
    second = http("GET", f"{place}?limit=9&continue={token}").document
    names = [o["metadata"]["name"] for o in (*first["items"], *second["items"])]
    assert names == ["kube-root-ca.crt", "n0", "n1", "n2", "n3"]


def test_every_answer_can_be_found_again(http: Http) -> None:
    """Each answer has an Audit-Id of its own."""
    first, second = (http("GET", "/version").headers["audit-id"] for _ in range(2))
    assert first != second
