"""A StatefulSet under STRICT: its members call each other by their own names and addresses."""

from __future__ import annotations

from typing import Any

import pytest
from tests.e2e import objects
from tests.e2e.harness import Kubectl, eventually, get, through

pytestmark = [pytest.mark.e2e, pytest.mark.root]

UNDECLARED = 9090
"""At which every member serves, and no Service says so."""
BYTES = 9091
PLAIN_SERVER = (
    "import http.server, socketserver, threading\n"
    f"s = http.server.ThreadingHTTPServer(('', {UNDECLARED}), http.server.SimpleHTTPRequestHandler)\n"
    "threading.Thread(target=s.serve_forever).start()\n"
    "class E(socketserver.BaseRequestHandler):\n"
    "    def handle(self): self.request.sendall(self.request.recv(100).upper())\n"
    f"socketserver.ThreadingTCPServer(('', {BYTES}), E).serve_forever()\n"
)
CALL = "import sys, urllib.request; print(urllib.request.urlopen(sys.argv[1], timeout=9).status)"
SPEAK = (
    "import sys, socket; s = socket.create_connection((sys.argv[1], int(sys.argv[2])), 9)\n"
    "s.sendall(b'hello'); print(s.recv(100).decode())"
)


def members(name: str) -> Any:
    beside = objects.python(PLAIN_SERVER, name="beside")
    spec = {"containers": [objects.container(), beside], "terminationGracePeriodSeconds": 1}
    full = {
        "selector": {"matchLabels": {"app": name}},
        "serviceName": name,
        "replicas": 2,
        "template": {"metadata": {"labels": {"app": name}}, "spec": spec},
    }
    return {"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": name}, "spec": full}


def run(space: Kubectl, pod: str, code: str, *words: str) -> str:
    """What a line of Python prints in a pod; empty if it fails."""
    return space.run("exec", pod, "-c", "main", "--", "python3", "-c", code, *words).out.strip()


def test_members_call_each_other_under_strict(space: Kubectl) -> None:
    """By headless name and by address, at ports declared or not; who has no certificate is refused."""
    strict = {
        "apiVersion": "security.istio.io/v1",
        "kind": "PeerAuthentication",
        "metadata": {"name": "default"},
        "spec": {"mtls": {"mode": "STRICT"}},
    }
    ports = [{"name": "http", "port": objects.PORT}]
    space.apply(strict, objects.service("web", clusterIP="None", ports=ports), members("web"))
    space.apply(objects.pod("alien", labels={"sidecar.istio.io/inject": "false"}))
    space("rollout", "status", "statefulset/web", "--timeout=60s")
    space("wait", "--for=condition=Ready", "pod/alien", "--timeout=30s")
    alien = space.path("pod", "alien", ".status.podIP")
    address = space.path("pod", "web-1", ".status.podIP")
    full = f"web-1.web.{space.namespace}.svc.cluster.local"
    for host in (address, "web-1.web", full):
        for port in (objects.PORT, UNDECLARED):
            url = f"http://{host}:{port}/"
            eventually(lambda url=url: run(space, "web-0", CALL, url) == "200", f"web-0 reaches {url}")  # type: ignore[misc]
        assert run(space, "web-0", SPEAK, host, str(BYTES)) == "HELLO"
    assert run(space, "web-0", CALL, f"http://web:{objects.PORT}/") == "200"
    assert run(space, "web-1", CALL, f"http://{address}:{objects.PORT}/") == "200", "a member calls itself"
    for port in (objects.PORT, UNDECLARED):
        assert get(f"http://{address}:{port}/").status == 0
        assert through(alien, f"http://{address}:{port}/").status == 0
