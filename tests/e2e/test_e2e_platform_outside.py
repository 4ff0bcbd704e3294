"""Hosts outside on a real platform: found by name, ruled as services are, and a process of the machine."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final

import pytest
from tests.certificates import certify
from tests.e2e import objects
from tests.e2e.harness import Kubectl, Reply, eventually, through
from tests.mesh import outside
from tests.mesh.live import Servers

pytestmark = [pytest.mark.e2e, pytest.mark.root]
API: Final = "networking.istio.io/v1"
HOST: Final = "api.outside.test"


def document(kind: str, name: str, **spec: Any) -> Any:
    return {"apiVersion": API, "kind": kind, "metadata": {"name": name}, "spec": spec}


@dataclass(frozen=True, slots=True)
class World:
    """A pod in the mesh, one outside of it, and servers that are no part of the platform."""

    kubectl: Kubectl
    servers: Servers
    client: str
    stranger: str

    def ask(self, url: str) -> Reply:
        return through(self.client, url)

    def settled(self, document: Any) -> None:
        """Apply and wait until the proxy has taken it."""
        self.kubectl.apply(document)
        kind, name = document["kind"], document["metadata"]["name"]

        def is_programmed() -> bool:
            obj = self.kubectl.get(kind, name)
            return any(
                each["type"] == "Programmed"
                and each["status"] == "True"
                and each["observedGeneration"] == obj["metadata"]["generation"]
                for each in obj.get("status", {}).get("conditions", [])
            )

        eventually(is_programmed, f"{kind} {name} is programmed")


class OfTheMachine(BaseHTTPRequestHandler):
    """A process that is no pod."""

    def do_GET(self) -> None:
        """Its name."""
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b'{"version": "machine"}')

    def log_message(self, format: str, *args: object) -> None:
        """Nothing."""


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    """In a network namespace of their own, to which this machine is the way."""
    folder = tmp_path_factory.mktemp("outside")
    started = Servers(folder / "spans")
    subprocess.run(["ip", "-n", started.name, "route", "add", "default", "via", started.host], check=True)
    certify(folder, HOST)
    script = [sys.executable, str(Path(outside.__file__)), started.address, str(folder / "both.pem")]
    tls = subprocess.Popen(["ip", "netns", "exec", started.name, *script], stdout=subprocess.PIPE)
    assert tls.stdout is not None
    assert tls.stdout.readline() == b"serving\n"
    yield started
    tls.kill()
    tls.communicate()
    started.close()


@pytest.fixture(scope="module")
def world(space: Kubectl, servers: Servers) -> World:
    stranger = objects.pod("stranger", labels={"sidecar.istio.io/inject": "false"})
    space.apply(objects.pod("client"), stranger)
    for name in ("client", "stranger"):
        space("wait", "--for=condition=Ready", f"pod/{name}", "--timeout=25s")
    addresses = [space.path("pod", name, ".status.podIP") for name in ("client", "stranger")]
    return World(space, servers, *addresses)


def entry(servers: Servers, port: int, protocol: str = "HTTP", **more: Any) -> dict[str, Any]:
    ports = [{"number": 80, "name": "main", "protocol": protocol, "targetPort": port}]
    endpoints = [{"address": servers.address}]
    return {"hosts": [HOST], "ports": ports, "resolution": "STATIC", "endpoints": endpoints, **more}


def test_a_host_outside_is_found_by_name_and_ruled(world: World) -> None:
    """Its name resolves for pods of the mesh alone; a timeout holds for it."""
    world.settled(document("ServiceEntry", "api", **entry(world.servers, 8001)))
    eventually(lambda: world.ask(f"http://{HOST}/").status == 200, "the name resolves")
    assert through(world.stranger, f"http://{HOST}/").status == 0
    route = {"route": [{"destination": {"host": HOST, "port": {"number": 80}}}], "timeout": "0.3s"}
    world.settled(document("VirtualService", "api", hosts=[HOST], http=[route]))
    eventually(lambda: world.ask(f"http://{HOST}/slow/2").status == 504, "the timeout holds")


def test_bytes_are_carried_by_the_address_of_the_name(world: World) -> None:
    """A TCP port of a host has nothing else to go by."""
    plain = entry(world.servers, 8001, "TCP", hosts=["tcp.outside.test"])
    world.settled(document("ServiceEntry", "tcp", **plain))
    eventually(lambda: world.ask("http://tcp.outside.test/").status == 200, "bytes arrive")


def test_tls_is_begun_by_the_mesh(world: World) -> None:
    """What the pod asks in the clear, the server gets by TLS under its name."""
    secure = entry(world.servers, outside.TLS_PORT, hosts=["tls.outside.test"])
    world.settled(document("ServiceEntry", "tls", **secure))
    tls = {"tls": {"mode": "SIMPLE", "insecureSkipVerify": True}}
    world.settled(document("DestinationRule", "tls", host="tls.outside.test", trafficPolicy=tls))

    def name() -> Any:
        reply = world.ask("http://tls.outside.test/")
        return reply.status == 200 and reply.value["sni"]

    assert eventually(name, "TLS is begun") == "tls.outside.test"


def test_a_process_of_the_machine_is_a_workload(world: World) -> None:
    """At one of the machine's own addresses, as an endpoint of a Service beside its pods."""
    server = ThreadingHTTPServer((world.servers.host, 0), OfTheMachine)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        world.kubectl.apply(objects.service("legacy"))
        machine = {"address": world.servers.host, "labels": {"app": "legacy"}}
        ports = {"http": server.server_address[1]}
        world.settled(document("WorkloadEntry", "machine", **machine, ports=ports))

        def version() -> Any:
            reply = world.ask("http://legacy/")
            return reply.status == 200 and reply.value["version"]

        assert eventually(version, "the process answers") == "machine"
    finally:
        server.shutdown()
        server.server_close()


def test_a_scope_refuses_what_is_not_registered(world: World) -> None:
    """What has an entry goes on; an address that nobody registered does not."""
    url = f"http://{world.servers.address}:8001/"
    assert world.ask(url).status == 200
    selector = {"labels": {"app": "client"}}
    closed = {"workloadSelector": selector, "outboundTrafficPolicy": {"mode": "REGISTRY_ONLY"}}
    world.settled(document("Sidecar", "closed", **closed))
    try:
        eventually(lambda: world.ask(url).status == 0, "the address is refused")
        assert world.ask(f"http://{HOST}/").status == 200
        assert world.ask("http://nobody.outside.test/").status != 200
    finally:
        world.kubectl("delete", "sidecar", "closed")
    eventually(lambda: world.ask(url).status == 200, "the address is let pass again")
