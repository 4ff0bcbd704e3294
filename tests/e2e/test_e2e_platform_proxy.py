"""Servers in pods, behind the API server: `get --raw`, `kubectl proxy`, and the WebSockets of a page."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
from tests.e2e import objects
from tests.e2e.harness import Kubectl, Platform, eventually

pytestmark = pytest.mark.e2e

PORTER = """
import http.server, os, ssl, threading
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def answer(self):
        sent = self.rfile.read(int(self.headers.get("content-length") or 0))
        if self.path.startswith("/moved"):
            self.send_response(302); self.send_header("location", "/rewriteme")
            self.send_header("content-length", "0"); self.end_headers(); return
        if self.headers.get("upgrade"):
            self.send_response(101); self.send_header("Upgrade", "echo")
            self.send_header("Connection", "Upgrade"); self.end_headers()
            while data := self.connection.recv(100): self.connection.sendall(data.upper())
            return
        body = self.server.text or "%s %s %s" % (self.command, self.path, sent.decode())
        self.send_response(200); self.send_header("content-type", "text/html")
        self.send_header("content-length", str(len(body))); self.end_headers()
        if self.command != "HEAD": self.wfile.write(body.encode())
    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = do_OPTIONS = answer
for port, text in ((80, '<a href="/rewriteme">test</a>'), (160, "foo"), (162, "bar"), (8080, "")):
    server = http.server.ThreadingHTTPServer(("", port), Handler); server.text = text
    threading.Thread(target=server.serve_forever).start()
"""


@pytest.fixture(scope="module")
def porter(cluster: Kubectl) -> Iterator[Kubectl]:
    """A namespace with a pod that serves at several ports, and a Service of it."""
    cluster("create", "namespace", "porter")
    space = cluster.inside("porter")
    ports = [{"containerPort": 80}, {"name": "dest1", "containerPort": 160}, {"containerPort": 162}]
    main = objects.python(PORTER, ports=ports, readinessProbe={"tcpSocket": {"port": 8080}})
    listed = [
        {"name": "portname1", "port": 80, "targetPort": "dest1"},
        {"name": "portname2", "port": 81, "targetPort": 162},
        {"name": "echo", "port": 82, "targetPort": 8080},
    ]
    space.apply(objects.pod("web", main), objects.service("web", ports=listed))
    space("wait", "--for=condition=Ready", "pod/web", "--timeout=25s")
    eventually(lambda: space.path("endpoints", "web", ".subsets[0].addresses[0].ip"), "the endpoint is there")
    yield space
    cluster("delete", "namespace", "porter", "--wait=false")


def root(kind: str, name: str) -> str:
    return f"/api/v1/namespaces/porter/{kind}/{name}/proxy"


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (root("services", "web:portname1") + "/", "foo"),
        (root("services", "http:web:portname1") + "/", "foo"),
        (root("services", "web:portname2") + "/", "bar"),
        (root("services", "web:81") + "/", "bar"),
        (root("pods", "web") + "/", f'<a href="{root("pods", "web")}/rewriteme">test</a>'),
        (root("pods", "http:web:80") + "/", f'<a href="{root("pods", "http:web:80")}/rewriteme">test</a>'),
        (root("pods", "web:160") + "/", "foo"),
        (root("pods", "web:dest1") + "/", "foo"),
        (root("pods", "web:8080") + "/a/b?c=1", "GET /a/b?c=1 "),
    ],
)
def test_get_raw(porter: Kubectl, path: str, body: str) -> None:
    """By pod and Service, as conformance wants it."""
    assert porter("get", "--raw", path) == body


def test_what_is_not_there(porter: Kubectl) -> None:
    """Ports that nobody listens at, and Services without them."""
    assert "error trying to reach service" in porter.refused("get", "--raw", root("pods", "web:9") + "/")
    assert "no endpoints available" in porter.refused("get", "--raw", root("services", "web") + "/")


def test_every_method(porter: Kubectl, platform: Platform) -> None:
    """With its body, to both; a redirect is for the client to follow."""
    http = platform.http
    for where in (root("pods", "web:8080"), root("services", "web:echo")):
        for method in ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"):
            answer = http(method, f"{where}/some/path/with/{method}", body=b"sent")
            assert (answer.status, answer.body) == (200, f"{method} /some/path/with/{method} sent".encode())
        assert http("HEAD", f"{where}/x").status == 200


def test_kubectl_proxy(porter: Kubectl) -> None:
    """A browser behind it follows redirects that the pod knows nothing of; large bodies arrive whole."""
    with porter.started("proxy", "--port=0") as proxy:
        base = "http://" + proxy.says("Starting to serve on").split()[-1]
        with urllib.request.urlopen(base + root("pods", "web:8080") + "/moved", timeout=10) as answer:
            assert answer.url == base + root("pods", "web:8080") + "/rewriteme"
            assert answer.read() == b"GET /rewriteme "
        sent = b"x" * (5 << 20)
        request = urllib.request.Request(base + root("pods", "web:8080") + "/up", data=sent, method="POST")
        with urllib.request.urlopen(request, timeout=20) as answer:
            assert answer.read() == b"POST /up " + sent


def test_another_protocol(porter: Kubectl, platform: Platform) -> None:
    """What a server in a pod speaks after an upgrade passes through untouched, WebSockets among it."""
    for protocol in (b"websocket", b"echo"):
        with platform.http.connected() as connection:
            target = root("pods", "web:8080").encode()
            connection.sendall(
                b"GET "
                + target
                + b"/ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: "
                + protocol
                + b"\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
            )
            head = connection.recv(4096)
            assert head.startswith(b"HTTP/1.1 101 "), head
            connection.sendall(b"hello")
            assert connection.recv(100) == b"HELLO"


def test_nodes(cluster: Kubectl) -> None:
    """What the agent shows, by the port that clients know it by, too; no other machine."""
    (node,) = cluster.list("nodes")
    name = node["metadata"]["name"]
    for where in (name, f"{name}:10250"):
        assert cluster("get", "--raw", f"/api/v1/nodes/{where}/proxy/healthz") == "ok"
    pods = json.loads(cluster("get", "--raw", f"/api/v1/nodes/{name}/proxy/pods"))
    assert pods["kind"] == "PodList"
    summary: Any = json.loads(cluster("get", "--raw", f"/api/v1/nodes/{name}/proxy/stats/summary"))
    assert summary["node"]["nodeName"] == name
    assert "ondol" in cluster("get", "--raw", f"/api/v1/nodes/{name}/proxy/metrics")
    assert "not found" in cluster.refused("get", "--raw", "/api/v1/nodes/none/proxy/healthz")
    assert "is running at" in cluster("cluster-info")
