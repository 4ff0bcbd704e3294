"""Whose address a call has, and that nothing of a pod's network stays when the pod is gone."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.e2e import objects
from tests.e2e.harness import Kubectl, Platform, eventually, through

pytestmark = [pytest.mark.e2e, pytest.mark.root]

SERVER = """
import http.server
class H(http.server.BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'
    def do_GET(self):
        forwarded = self.headers.get('x-forwarded-for') or '-'
        body = f'"{self.client_address[0]} {forwarded}"'.encode()
        self.send_response(200); self.send_header('content-length', str(len(body))); self.end_headers()
        self.wfile.write(body)
    def log_message(self, *a): pass
http.server.ThreadingHTTPServer(('', 8080), H).serve_forever()
"""


@dataclass(frozen=True, slots=True)
class Callee:
    """A pod that answers with the address that called it."""

    kubectl: Kubectl
    platform: Platform

    def client(self, name: str, **labels: str) -> str:
        """A pod that calls; its address."""
        self.kubectl.apply(objects.pod(name, labels=labels))
        self.kubectl("wait", "--for=condition=Ready", f"pod/{name}", "--timeout=25s")
        return self.kubectl.path("pod", name, ".status.podIP")

    def seen(self, client: str) -> str:
        return str(through(client, "http://callee/").value)

    def witness(self, pod: str) -> str:
        """A link into the pod's network: it is there as long as that network is."""
        name = f"w{secrets.token_hex(5)}"
        uid = self.kubectl.path("pod", pod, ".metadata.uid")
        (place,) = Path("/run/ondol").glob(f"*/netns/{uid}")
        command = ["ip", "link", "add", name, "type", "veth", "peer", "name", "witness", "netns", str(place)]
        subprocess.run(command, check=True)
        return name


def links() -> str:
    return subprocess.run(["ip", "-o", "link"], check=True, capture_output=True, text=True).stdout


@pytest.fixture(scope="module")
def callee(space: Kubectl, platform: Platform) -> Callee:
    ready = {"httpGet": {"path": "/", "port": 8080}, "periodSeconds": 1}
    space.apply(
        objects.service("callee"),
        objects.pod("callee", objects.python(SERVER, ports=[{"containerPort": 8080}], readinessProbe=ready)),
    )
    space("wait", "--for=condition=Ready", "pod/callee", "--timeout=25s")
    return Callee(space, platform)


def test_callers_have_their_own_addresses(callee: Callee) -> None:
    """In the mesh and beside it; between pods nobody adds a header that says so."""
    inside, beside = callee.client("inside"), callee.client("beside", **{"sidecar.istio.io/inject": "false"})
    eventually(lambda: callee.seen(inside) == f"{inside} -", "the caller in the mesh is seen")
    eventually(lambda: callee.seen(beside) == f"{beside} -", "the caller beside the mesh is seen")


@pytest.mark.parametrize("killed", ["", "api", "envoy", "node"])
def test_nothing_of_a_pods_network_stays(callee: Callee, killed: str) -> None:
    """Although the proxy kept a connection in it, and whatever is started anew meanwhile."""
    name = f"gone-{killed or 'all-there'}"
    address = callee.client(name)
    eventually(lambda: callee.seen(address) == f"{address} -", "it is served")
    witness = callee.witness(name)
    assert witness in links()
    before = callee.platform.pids()
    if killed:
        os.kill(before[killed], signal.SIGKILL)
        eventually(lambda: callee.platform.pids()[killed] not in (0, before[killed]), f"{killed} is back")
        eventually(callee.platform.ready, "the platform is ready")
    callee.kubectl("delete", "pod", name, "--wait=false")
    eventually(lambda: witness not in links(), "the network is gone")
