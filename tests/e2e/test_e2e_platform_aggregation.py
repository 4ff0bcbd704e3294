"""An API server in a pod, behind the platform's own: the real kubectl does not see that there are two."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any, Final

import pytest
from tests import certificates
from tests.e2e import objects
from tests.e2e.harness import HERE, Http, Kubectl, Platform, eventually

pytestmark = pytest.mark.e2e

GROUP: Final = "wardle.example.com"
NAME: Final = f"v1.{GROUP}"
SPACE: Final = "wardle"


def _text(content: bytes) -> str:
    return base64.b64encode(content).decode()


@pytest.fixture(scope="module")
def wardle(cluster: Kubectl, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kubectl]:
    """A namespace with the server's pod and Service, and the APIService."""
    folder = tmp_path_factory.mktemp("wardle")
    authority = certificates.certify(folder, f"api.{SPACE}.svc")
    cluster("create", "namespace", SPACE)
    space = cluster.inside(SPACE)
    key = r"{.data.requestheader-client-ca-file}"
    place = ("-n", "kube-system", "get", "configmap", "extension-apiserver-authentication")
    proxies = cluster(*place, "-o", f"jsonpath={key}")
    data = {
        "server.pem": _text((folder / "both.pem").read_bytes()),
        "front-proxy-ca.pem": _text(proxies.encode()),
    }
    main = objects.python(
        (HERE / "extension_server.py").read_text(encoding="utf-8"),
        readinessProbe={"tcpSocket": {"port": 8443}},
        volumeMounts=[{"name": "certs", "mountPath": "/certs"}],
    )
    ports = [{"name": "https", "port": 443, "targetPort": 8443}]
    space.apply(
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "certs"}, "data": data},
        objects.pod("api", main, volumes=[{"name": "certs", "secret": {"secretName": "certs"}}]),
        objects.service("api", ports=ports),
        _api_service(_text(authority)),
    )
    space("wait", "--for=condition=Available", f"apiservice/{NAME}", "--timeout=40s")
    yield space
    cluster("delete", "apiservice", NAME, "--ignore-not-found")
    cluster("delete", "namespace", SPACE, "--wait=false")


def _api_service(authority: str, name: str = "api") -> Any:
    spec = {
        "group": GROUP,
        "version": "v1",
        "groupPriorityMinimum": 1000,
        "versionPriority": 10,
        "caBundle": authority,
        "service": {"namespace": SPACE, "name": name},
    }
    return {
        "apiVersion": "apiregistration.k8s.io/v1",
        "kind": "APIService",
        "metadata": {"name": NAME},
        "spec": spec,
    }


def _flunder(name: str) -> Any:
    return {"apiVersion": f"{GROUP}/v1", "kind": "Flunder", "metadata": {"name": name}, "spec": {"a": 1}}


def test_kubectl_works_with_its_resources(wardle: Kubectl) -> None:
    """They are listed, created, read, explained and deleted like any."""
    listed = wardle("api-resources", f"--api-group={GROUP}", "--no-headers").split()
    assert listed == ["flunders", f"{GROUP}/v1", "true", "Flunder"]
    wardle("create", "--validate=false", "-f", "-", stdin=_flunder("one"))
    assert "one" in wardle("get", "flunders")
    assert wardle.path("flunder", "one", ".metadata.annotations.by") == "ondol:admin"
    assert "What it is meant to be." in wardle("explain", "flunders.spec")
    assert f'"{GROUP}/v1"' in wardle("get", "--raw", f"/apis/{GROUP}/v1")
    wardle("delete", "flunder", "one")
    assert "one" not in wardle("get", "flunders", "--ignore-not-found")


def test_a_watch_hears_at_once(wardle: Kubectl) -> None:
    """Nothing on the way gathers what comes."""
    with wardle.started("get", "flunders", "--watch", "-o", "name") as watching:
        eventually(lambda: not watching.text or True, "it runs")
        wardle("create", "--validate=false", "-f", "-", stdin=_flunder("seen"))
        watching.says("flunder.wardle.example.com/seen")


def test_access_is_decided_here_and_told_there(wardle: Kubectl) -> None:
    """Who may not does not get there; who may is known there by name."""
    refused = wardle.refused("get", "flunders", "--as=ann")
    assert 'User "ann" cannot list resource "flunders" in API group "wardle.example.com"' in refused
    wardle("create", "role", "wardle", "--verb=*", f"--resource=flunders.{GROUP}")
    wardle("create", "rolebinding", "wardle", "--role=wardle", "--user=ann")
    eventually(lambda: wardle.run("get", "flunders", "--as=ann").status == 0, "the role holds")
    wardle("create", "--as=ann", "--validate=false", "-f", "-", stdin=_flunder("anns"))
    assert wardle.path("flunder", "anns", ".metadata.annotations.by") == "ann"


def test_only_the_front_proxy_is_believed(wardle: Kubectl, platform: Platform) -> None:
    """A client's headers change nothing, to either server; its own certificate is none of a proxy."""
    http: Http = platform.http
    path = f"/apis/{GROUP}/v1/namespaces/{SPACE}/flunders"
    headers = {"X-Remote-User": "root", "X-Remote-Group": "system:masters"}
    assert http("POST", path, body=_flunder("mine"), headers=headers).status == 201
    assert wardle.path("flunder", "mine", ".metadata.annotations.by") == "ondol:admin"


@pytest.mark.parametrize("protocol", ["websocket", "SPDY/3.1"])
def test_other_protocols_go_through(wardle: Kubectl, platform: Platform, protocol: str) -> None:
    """The connection becomes one with the other server, whatever is spoken then."""
    with platform.http.connected() as connection:
        head = (
            f"GET /apis/{GROUP}/v1/namespaces/{SPACE}/flunders/one/shell HTTP/1.1\r\nHost: api\r\n"
            f"Connection: Upgrade\r\nUpgrade: {protocol}\r\nSec-WebSocket-Version: 13\r\n"
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
        connection.sendall(head.encode())
        answer = connection.recv(4096)
        assert answer.startswith(b"HTTP/1.1 101 "), answer
        connection.sendall(b"hello")
        assert connection.recv(100) == b"HELLO"


def test_a_namespace_waits_for_who_does_not_answer(wardle: Kubectl, cluster: Kubectl) -> None:
    """The pod is gone: kubectl says so in the words of Kubernetes, and all else is discovered as ever."""
    cluster("create", "namespace", "doomed")
    wardle("delete", "pod", "api", "--wait=true", "--timeout=25s")
    wardle("wait", "--for=condition=Available=False", f"apiservice/{NAME}", "--timeout=40s")
    assert wardle.path("apiservice", NAME, ".status.conditions[0].reason") == "MissingEndpoints"
    words = wardle.refused("get", "--raw", f"/apis/{GROUP}/v1/flunders")
    assert "the server is currently unable to handle the request" in words
    assert "deployments" in cluster.run("api-resources").out
    cluster("delete", "namespace", "doomed", "--wait=false")
    condition = '.status.conditions[?(@.type=="NamespaceDeletionDiscoveryFailure")].status'
    eventually(lambda: cluster.path("namespace", "doomed", condition) == "True", "it says what it waits for")
    cluster("delete", "apiservice", NAME)
    cluster("wait", "--for=delete", "namespace/doomed", "--timeout=25s")
