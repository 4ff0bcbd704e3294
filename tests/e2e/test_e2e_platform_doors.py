"""Every way by which something reaches a pod, when the pod takes mutual TLS alone and lets few in."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from tests.e2e import objects
from tests.e2e.harness import Kubectl, Platform, eventually, get
from tests.ports import free_port

pytestmark = [pytest.mark.e2e, pytest.mark.root]

BALANCED, HOST_PORT = 28090, 28091
NOTED, GRPC = 9090, 9191
NOTES = f"""
import http.server
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.send_header("content-length", "0"); self.end_headers()
    def log_message(self, _, *words): print(*words, flush=True)
http.server.ThreadingHTTPServer(("", {NOTED}), Handler).serve_forever()
"""
"""Writes down what it is asked."""
HEALTH = f"""
import socketserver
class Handler(socketserver.StreamRequestHandler):
    def send(self, kind, flags, stream, payload=b""):
        head = len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big")
        self.wfile.write(head + payload)
    def handle(self):
        self.rfile.read(24)
        self.send(4, 0, 0)
        while len(head := self.rfile.read(9)) == 9:
            kind, flags, stream = head[3], head[4], int.from_bytes(head[5:], "big")
            payload = self.rfile.read(int.from_bytes(head[:3], "big"))
            if kind in (4, 6) and not flags & 1: self.send(kind, 1, 0, payload if kind == 6 else b"")
            if kind in (0, 1) and flags & 1:
                self.send(1, 4, stream, bytes([0x88, 0x0F, 0x10, 16]) + b"application/grpc")
                self.send(0, 0, stream, bytes([0, 0, 0, 0, 2, 8, 1]))
                self.send(1, 5, stream, bytes([0, 11]) + b"grpc-status" + bytes([1]) + b"0")
socketserver.ThreadingTCPServer.allow_reuse_address = True
socketserver.ThreadingTCPServer(("", {GRPC}), Handler).serve_forever()
"""
"""The gRPC service of health checks, just enough: it serves."""
WAIT = f"""
import socket, time
while socket.socket().connect_ex(("127.0.0.1", {NOTED})): time.sleep(0.02)
"""


def strict(app: str) -> dict[str, Any]:
    selector = {"matchLabels": {"app": app}}
    head = {"apiVersion": "security.istio.io/v1", "kind": "PeerAuthentication", "metadata": {"name": app}}
    return {**head, "spec": {"selector": selector, "mtls": {"mode": "STRICT"}}}


def allowed(app: str, *principals: str) -> dict[str, Any]:
    selector = {"matchLabels": {"app": app}}
    head = {"apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy", "metadata": {"name": app}}
    rules = [{"from": [{"source": {"principals": list(principals)}}]}] if principals else []
    return {**head, "spec": {"selector": selector, "rules": rules}}


def asked(port: int, path: str = "/") -> dict[str, Any]:
    return {"httpGet": {"port": port, "path": path}}


def test_probes_and_hooks_are_answered(space: Kubectl) -> None:
    """Of every kind, by a pod that lets nobody in: the node asks past the policies, as Istio has it."""
    notes = objects.python(
        NOTES,
        name="notes",
        lifecycle={"postStart": {"exec": {"command": ["python3", "-c", WAIT]}}},
        livenessProbe={"tcpSocket": {"port": NOTED}, "periodSeconds": 1},
    )
    health = objects.python(
        HEALTH, name="health", readinessProbe={"grpc": {"port": GRPC}, "periodSeconds": 1}
    )
    hooks = {"postStart": asked(NOTED, "/started"), "preStop": asked(NOTED, "/stopping")}
    main = objects.container(
        lifecycle=hooks,
        startupProbe={**asked(objects.PORT), "periodSeconds": 1},
        livenessProbe={**asked(objects.PORT), "periodSeconds": 1},
    )
    space.apply(strict("probed"), allowed("probed"), objects.pod("probed", notes, health, main))
    space("wait", "--for=condition=Ready", "pod/probed", "--timeout=30s")
    pod = space.get("pod", "probed")
    assert [each["restartCount"] for each in pod["status"]["containerStatuses"]] == [0, 0, 0]
    conditions = {each["type"]: each["status"] for each in pod["status"]["conditions"]}
    assert conditions["mesh.ondol.dev/ArrivalsTurned"] == "True"
    address = pod["status"]["podIP"]
    assert [get(f"http://{address}:{port}/").status for port in (NOTED, objects.PORT)] == [0, 0]
    with space.started("logs", "-f", "pod/probed", "-c", "notes") as log:
        log.says("GET /started")
        space("delete", "pod", "probed", "--wait=false")
        log.says("GET /stopping")


def test_a_probe_of_another_guarded_pod_is_a_call_from_outside(space: Kubectl) -> None:
    """A `host` names whom to ask: the node has no certificate, and is none of that pod's own probes."""
    space.apply(objects.pod("named"))
    space("wait", "--for=condition=Ready", "pod/named", "--timeout=30s")
    address = space.path("pod", "named", ".status.podIP")
    probe = {"httpGet": {"port": objects.PORT, "host": address}, "periodSeconds": 1}
    space.apply(objects.pod("asks", objects.container(readinessProbe=probe)))
    space("wait", "--for=condition=Ready", "pod/asks", "--timeout=30s")
    space.apply(strict("named"))
    space("wait", "--for=condition=Ready=false", "pod/asks", "--timeout=30s")
    assert space.path("pod", "named", ".status.conditions[?(@.type=='Ready')].status") == "True"


Door = Callable[[], int]


class House:
    """A guarded server, with all the ways to it from outside."""

    def __init__(self, space: Kubectl, platform: Platform) -> None:
        self.space, self.platform = space, platform
        ports = [{"name": "http", "port": 80, "targetPort": objects.PORT}]
        balanced = [{"name": "http", "port": BALANCED, "targetPort": objects.PORT}]
        main = objects.container(ports=[{"containerPort": objects.PORT, "hostPort": HOST_PORT}])
        backend = {"service": {"name": "web", "port": {"number": 80}}}
        path = {"path": "/", "pathType": "Prefix", "backend": backend}
        ingress = {
            "apiVersion": "networking.k8s.io/v1",
            "kind": "Ingress",
            "metadata": {"name": "web"},
            "spec": {"rules": [{"host": self.host("ingress"), "http": {"paths": [path]}}]},
        }
        listener = {"name": "http", "port": 80, "protocol": "HTTP"}
        gateway = {
            "apiVersion": "gateway.networking.k8s.io/v1",
            "kind": "Gateway",
            "metadata": {"name": "web"},
            "spec": {"gatewayClassName": "ondol", "listeners": [listener]},
        }
        route = {
            "apiVersion": "gateway.networking.k8s.io/v1",
            "kind": "HTTPRoute",
            "metadata": {"name": "web"},
            "spec": {
                "parentRefs": [{"name": "web"}],
                "hostnames": [self.host("gateway-api")],
                "rules": [{"backendRefs": [{"name": "web", "port": 80}]}],
            },
        }
        rule = {"route": [{"destination": {"host": "web"}}]}
        hosts = [self.host("istio")]
        virtual = objects.virtual_service("web", rule, hosts=hosts, gateways=["ondol-system/ingress"])
        space.apply(
            objects.pod("web", main),
            objects.service("web", ports=ports),
            objects.service("balanced", type="LoadBalancer", ports=balanced, selector={"app": "web"}),
            *(ingress, gateway, route, virtual),
        )
        space("wait", "--for=condition=Ready", "pod/web", "--timeout=30s")
        self.address = space.path("pod", "web", ".status.podIP")
        place = ".status.loadBalancer.ingress[0].ip"
        self.machine = eventually(lambda: space.path("service", "balanced", place), "it has an address")
        self.node_port = space.path("service", "balanced", ".spec.ports[0].nodePort")

    def host(self, door: str) -> str:
        return f"{door}.{self.space.namespace}.example"

    def at_ingress(self, door: str) -> int:
        return get(self.platform.ingress, headers={"Host": self.host(door)}).status

    def raw(self, kind: str, name: str) -> int:
        path = f"/api/v1/namespaces/{self.space.namespace}/{kind}/{name}/proxy/"
        return 200 if self.space.run("get", "--raw", path).status == 0 else 0

    def forwarded(self) -> int:
        port = free_port()
        with self.space.started("port-forward", "pod/web", f"{port}:{objects.PORT}") as forward:
            forward.says("Forwarding from")
            return get(f"http://127.0.0.1:{port}/").status

    def doors(self) -> dict[str, Door]:
        return {
            "istio": lambda: self.at_ingress("istio"),
            "ingress": lambda: self.at_ingress("ingress"),
            "gateway-api": lambda: self.at_ingress("gateway-api"),
            "load balancer": lambda: get(f"http://{self.machine}:{BALANCED}/").status,
            "node port": lambda: get(f"http://{self.machine}:{self.node_port}/").status,
            "host port": lambda: get(f"http://{self.machine}:{HOST_PORT}/").status,
            "pod proxy": lambda: self.raw("pods", f"web:{objects.PORT}"),
            "service proxy": lambda: self.raw("services", "web:80"),
            "port-forward": self.forwarded,
        }

    def statuses(self) -> dict[str, int]:
        return {name: door() for name, door in self.doors().items()}

    def settles(self, **others: int) -> None:
        """All are open but those named, by their status."""
        expected = {name: others.get(name.replace(" ", "_").replace("-", "_"), 200) for name in self.doors()}
        eventually(lambda: self.statuses() == expected, f"the doors are {expected}", every_s=0.5)


def test_which_doors_are_open(space: Kubectl, platform: Platform) -> None:
    """The ingress has an identity, what comes in the open is refused, what ends in the pod is not asked."""
    house = House(space, platform)
    house.settles()
    space.apply(strict("web"))
    house.settles(load_balancer=0, node_port=0, host_port=0, pod_proxy=0, service_proxy=0)
    space.apply(allowed("web", "cluster.local/ns/istio-system/sa/istio-ingressgateway-service-account"))
    house.settles(load_balancer=0, node_port=0, host_port=0, pod_proxy=0, service_proxy=0)
    space.apply(allowed("web"))
    house.settles(
        istio=403,
        ingress=403,
        gateway_api=403,
        load_balancer=0,
        node_port=0,
        host_port=0,
        pod_proxy=0,
        service_proxy=0,
    )
    space("delete", "peerauthentication", "web")
    house.settles(
        istio=403,
        ingress=403,
        gateway_api=403,
        load_balancer=403,
        node_port=403,
        host_port=403,
        pod_proxy=0,
        service_proxy=0,
    )
