"""The mesh for real: an API server, the controller, Envoy, and pods that are network namespaces."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.parse
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2

from ondol import apiserver, mesh, sdk, store
from ondol.api import conditions, objects, resources
from ondol.api.objects import Object
from ondol.base import errors
from ondol.base.clock import SystemClock
from ondol.client import PatchType
from ondol.contracts.mesh import DESTINATION_RULE, GATEWAY, POD_PROGRAMMED, SANDBOX_READY, VIRTUAL_SERVICE
from ondol.mesh import process
from ondol.mesh.config import MeshConfig
from ondol.sdk.testing import World

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root"),
    pytest.mark.skipif(
        shutil.which("nft") is None, reason="nftables is not installed (apt install nftables)"
    ),
]

TRAFFIC = str(Path(__file__).with_name("traffic.py"))
REDIRECT = """
table ip mesh {
  chain output {
    type nat hook output priority -100
    ip protocol tcp ip daddr != 127.0.0.0/8 redirect to :15001
  }
}
"""


def run(*command: str, text: str = "") -> None:
    subprocess.run(command, input=text.encode(), check=True)


class Servers:
    """Real servers behind one address, in a namespace of their own beside the pods'."""

    def __init__(self, spans_file: Path) -> None:
        tag = uuid.uuid4().hex[:6]
        self.name = f"mesh-test-{tag}"
        octet = 1 + int(tag[:2], 16) % 250
        self.host, self.address = f"10.98.{octet}.1", f"10.98.{octet}.2"
        self._link = f"mt{tag}"
        run("ip", "netns", "add", self.name)
        run("ip", "link", "add", self._link, "type", "veth", "peer", "name", "eth0", "netns", self.name)
        run("ip", "addr", "add", f"{self.host}/24", "dev", self._link)
        run("ip", "link", "set", self._link, "up")
        run("ip", "-n", self.name, "addr", "add", f"{self.address}/24", "dev", "eth0")
        for device in ("eth0", "lo"):
            run("ip", "-n", self.name, "link", "set", device, "up")
        ports = ("8001", "8002", "9000", "9100", "9200")
        command = ["ip", "netns", "exec", self.name, sys.executable, TRAFFIC, "serve", self.address, *ports]
        self.spans_file = spans_file
        environment = {**os.environ, "SPANS": str(spans_file)}
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, env=environment)
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == b"serving\n"

    def spans(self, trace: str) -> list[Any]:
        """The spans of a trace that have arrived, with the name of the service that sent them."""
        data = self.spans_file.read_bytes() if self.spans_file.exists() else b""
        found = []
        while data:
            size = int.from_bytes(data[:4], "big")
            request = trace_service_pb2.ExportTraceServiceRequest.FromString(data[4 : 4 + size])
            data = data[4 + size :]
            for resource in request.resource_spans:
                names = {a.key: a.value.string_value for a in resource.resource.attributes}
                for scope in resource.instrumentation_library_spans:
                    found += [(names["service.name"], s) for s in scope.spans if s.trace_id.hex() == trace]
        return found

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()
        run("ip", "link", "del", self._link)
        run("ip", "netns", "del", self.name)


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    made = Servers(tmp_path_factory.mktemp("spans") / "spans")
    yield made
    made.close()


class Live:
    """One platform in small: what a test does to it goes through the API or a pod's namespace."""

    def __init__(self, world: World, config: MeshConfig, servers: Servers) -> None:
        self.world = world
        self.client = world.client
        self.config = config
        self.servers = servers
        self.envoy: subprocess.Popen[bytes] | None = None
        self.pods: dict[str, str] = {}

    def start_envoy(self) -> None:
        log = self.config.bootstrap_file.with_suffix(".log")
        with log.open("ab") as output:
            self.envoy = subprocess.Popen(
                process.command(self.config), env=process.ENVIRONMENT, stdout=output, stderr=output
            )

    def stop_envoy(self) -> None:
        if self.envoy is not None:
            self.envoy.kill()
            self.envoy.wait()

    async def pod(self, name: str, *, namespace_exists: bool = True, **labels: str) -> None:
        """A pod as the node leaves it once its sandbox is up."""
        metadata = {"name": name, "namespace": "default", "labels": {"app": name, **labels}}
        spec = {"nodeName": "here", "containers": [{"name": "main", "image": "none"}]}
        made = await self.client.create(
            resources.POD, {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}, "default"
        )
        self.pods[name] = objects.uid(made)
        if namespace_exists:
            self.make_namespace(name)
        ready = conditions.set((), SANDBOX_READY, "True", now=time.time())
        await self.client.patch(
            resources.POD,
            name,
            "default",
            patch={"status": {"phase": "Pending", "conditions": ready}},
            patch_type=PatchType.STRATEGIC,
            subresource="status",
        )

    def make_namespace(self, name: str) -> None:
        netns = self.pods[name]
        run("ip", "netns", "add", netns)
        run("ip", "-n", netns, "link", "set", "lo", "up")
        run("ip", "-n", netns, "addr", "add", "10.98.0.2/32", "dev", "lo")
        run("ip", "-n", netns, "route", "add", "default", "dev", "lo")
        run("ip", "netns", "exec", netns, "nft", "-f", "-", text=REDIRECT)

    async def service(
        self, name: str = "web", *, port: tuple[str, int] = ("http", 80), to: Mapping[str, int]
    ) -> Object:
        """A service whose endpoints are the test servers' ports, each as the pod of that name."""
        spec = {"ports": [{"name": port[0], "port": port[1]}]}
        made = await self.client.create(
            resources.SERVICE,
            {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec},
            "default",
        )
        for pod, number in to.items():
            target = {"kind": "Pod", "name": pod, "namespace": "default"}
            await self.client.create(
                resources.ENDPOINT_SLICE,
                {
                    "apiVersion": "discovery.k8s.io/v1",
                    "kind": "EndpointSlice",
                    "metadata": {"name": f"{name}-{number}", "labels": {"kubernetes.io/service-name": name}},
                    "addressType": "IPv4",
                    "endpoints": [
                        {
                            "addresses": [self.servers.address],
                            "conditions": {"ready": True},
                            "targetRef": target,
                        }
                    ],
                    "ports": [{"name": port[0], "port": number, "protocol": "TCP"}],
                },
                "default",
            )
        return made

    async def rule(self, resource: Any, name: str, spec: Mapping[str, Any], status: str = "True") -> Object:
        """Apply an Istio object and wait until it says whether the proxy runs it."""
        document = {
            "apiVersion": resource.api_version,
            "kind": resource.kind,
            "metadata": {"name": name, "namespace": "default"},
            "spec": dict(spec),
        }
        written = await self.client.apply(resource, document)
        generation = objects.generation(written)

        async def told() -> bool:
            found = conditions.get(await self.client.get(resource, name, "default"), "Programmed") or {}
            return found.get("observedGeneration") == generation and found.get("status") == status

        await self.world.eventually(told, why=f"{resource.kind} {name} to be Programmed={status}")
        return await self.client.get(resource, name, "default")

    async def programmed(self, *names: str) -> None:
        for name in names:

            async def told(name: str = name) -> bool:
                return conditions.is_true(
                    await self.client.get(resources.POD, name, "default"), POD_PROGRAMMED
                )

            await self.world.eventually(told, why=f"pod {name} to be programmed")

    async def call(self, pod: str, *requests: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Send requests from inside a pod, one after the other."""
        lines = "".join(json.dumps(dict(request)) + "\n" for request in requests)
        command = ["ip", "netns", "exec", self.pods[pod], sys.executable, TRAFFIC, "call"]
        found = await anyio.run_process(command, input=lines.encode())
        return [json.loads(line) for line in found.stdout.splitlines()]

    async def statuses(self, pod: str, *requests: Mapping[str, Any]) -> list[int]:
        return [answer["status"] for answer in await self.call(pod, *requests)]

    def close(self) -> None:
        self.stop_envoy()
        for uid in self.pods.values():
            if Path(f"/run/netns/{uid}").exists():
                run("ip", "netns", "del", uid)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        port: int = found.getsockname()[1]
        return port


@pytest.fixture
async def live(tmp_path: Path, servers: Servers) -> AsyncIterator[Live]:
    config = MeshConfig(
        netns_dir=Path("/run/netns"),
        xds_address=f"unix:{tmp_path}/xds.sock",
        admin_address=f"unix:{tmp_path}/admin.sock",
        bootstrap_file=tmp_path / "envoy.json",
        ingress_port=free_port(),
        observe_address=f"{servers.address}:8002",
    )
    # Uids name network namespaces of this machine: other runs at the same time must have others.
    app = apiserver.build(apiserver.ApiConfig(), store.open_memory(), SystemClock(), random.SystemRandom())
    async with World(app, clock=SystemClock()) as world:
        await sdk.install_crds(world.client, mesh.crds())
        made = Live(world, config, servers)
        try:
            made.start_envoy()
            await start_mesh(made)
            yield made
        finally:
            made.close()


async def start_mesh(live: Live) -> sdk.Manager:
    manager = live.world.manager("mesh")
    mesh.add_to(manager, live.config)
    return await live.world.start(manager)


def split(*weights: tuple[str, int], **more: Any) -> dict[str, Any]:
    route = [{"destination": {"host": "web", "subset": name}, "weight": weight} for name, weight in weights]
    return {"route": route, **more}


async def web(live: Live) -> None:
    """A client, and a service with two versions behind it."""
    await live.pod("client")
    for version in ("v1", "v2"):
        await live.pod(f"web-{version}", version=version)
    await live.service(to={"web-v1": 8001, "web-v2": 8002})
    subsets = [{"name": version, "labels": {"version": version}} for version in ("v1", "v2")]
    await live.rule(DESTINATION_RULE, "web", {"host": "web", "subsets": subsets})
    await live.programmed("client")


def ports(answers: Sequence[Mapping[str, Any]]) -> Counter[int]:
    return Counter(answer["seen"]["port"] for answer in answers)


async def test_a_weighted_split_is_counted(live: Live) -> None:
    """Of 400 calls, about one in ten goes to the second version, and none fails."""
    await web(live)
    route = {"hosts": ["web"], "http": [split(("v1", 90), ("v2", 10))]}
    await live.rule(VIRTUAL_SERVICE, "web", route)
    found = ports(await live.call("client", *[{}] * 400))
    assert found[8001] + found[8002] == 400
    assert 15 <= found[8002] <= 75


async def test_a_header_chooses_the_version(live: Live) -> None:
    """One header value takes its own route, everyone else the other."""
    await web(live)
    spec = {
        "hosts": ["web"],
        "http": [split(("v2", 0), match=[{"headers": {"x-user": {"exact": "jason"}}}]), split(("v1", 0))],
    }
    await live.rule(VIRTUAL_SERVICE, "web", spec)
    assert ports(await live.call("client", *[{"headers": {"x-user": "jason"}}] * 10)) == {8002: 10}
    assert ports(await live.call("client", *[{}] * 10, {"headers": {"x-user": "ann"}})) == {8001: 11}


async def test_retries_and_timeouts(live: Live) -> None:
    """Two failures are retried away, three are not; a slow answer is cut off at the timeout."""
    await web(live)
    retries = {"attempts": 2, "retryOn": "5xx", "backoff": "1ms"}
    spec = {"hosts": ["web"], "http": [split(("v1", 0), timeout="0.3s", retries=retries)]}
    await live.rule(VIRTUAL_SERVICE, "web", spec)
    found = await live.call("client", {"path": "/fail/2/a"}, {"path": "/fail/3/b"}, {"path": "/slow/2"})
    assert [answer["status"] for answer in found] == [200, 503, 504]
    assert 0.25 < found[2]["took_s"] < 1
    # Rules say how long a call may take, not who calls: Istio's proxy takes Envoy's own headers away, too.
    await live.rule(VIRTUAL_SERVICE, "web", {"hosts": ["web"], "http": [split(("v1", 0))]})
    impatient = {"path": "/slow/0.5", "headers": {"x-envoy-upstream-rq-timeout-ms": "50"}}
    assert await live.statuses("client", impatient) == [200]


async def test_what_envoy_refuses_is_told_and_the_last_good_rule_serves(live: Live) -> None:
    """A regex that is none is reported with Envoy's words, and both the old and other rules go on."""
    await web(live)
    good = {"hosts": ["web"], "http": [split(("v1", 0))]}
    await live.rule(VIRTUAL_SERVICE, "web", good)
    bad = {"hosts": ["web"], "http": [split(("v2", 0), match=[{"uri": {"regex": "/(unclosed"}}])]}
    told = await live.rule(VIRTUAL_SERVICE, "web", bad, status="False")
    condition = conditions.get(told, "Accepted") or {}
    assert condition["reason"] == "RejectedByProxy"
    assert "missing )" in condition["message"]
    assert ports(await live.call("client", *[{}] * 5)) == {8001: 5}
    other = {"hosts": ["other.example"], "http": [{"directResponse": {"status": 418}}]}
    await live.rule(VIRTUAL_SERVICE, "other", other)
    assert await live.statuses("client", {"host": "other.example"}, {}) == [418, 200]
    await live.rule(VIRTUAL_SERVICE, "web", {"hosts": ["web"], "http": [split(("v2", 0))]})
    assert ports(await live.call("client", *[{}] * 5)) == {8002: 5}


async def test_what_cannot_be_meant_is_told(live: Live) -> None:
    """Nonsense is refused by us; a subset nobody defined is a warning, and served."""
    await web(live)
    nonsense = {"hosts": ["web"], "http": [split(("v1", 0), redirect={"uri": "/"})]}
    told = await live.rule(VIRTUAL_SERVICE, "web", nonsense, status="False")
    assert "exactly one of" in (conditions.get(told, "Accepted") or {})["message"]
    missing = {"hosts": ["web"], "http": [split(("v9", 0))]}
    told = await live.rule(VIRTUAL_SERVICE, "web", missing)
    assert (conditions.get(told, "PassedAnalysis") or {})["reason"] == "KIA1107"
    assert await live.statuses("client", {}) == [503]


async def test_envoy_killed_fails_closed_and_recovers(live: Live) -> None:
    """Without the proxy a pod reaches nobody; started again it is told everything again."""
    await web(live)
    live.stop_envoy()
    assert await live.statuses("client", {}) == [0]
    live.start_envoy()

    async def answered() -> bool:
        return await live.statuses("client", {}) == [200]

    await live.world.eventually(answered, why="the proxy to serve again")
    await live.pod("late")
    await live.programmed("late")
    assert await live.statuses("late", {}) == [200]


async def test_the_control_plane_may_come_and_go(live: Live) -> None:
    """Calls go on without it; a new one takes over what the proxy runs, last good rules included."""
    await web(live)
    good = {"hosts": ["web"], "http": [split(("v1", 0))]}
    await live.rule(VIRTUAL_SERVICE, "web", good)
    bad = {"hosts": ["web"], "http": [split(("v2", 0), match=[{"uri": {"regex": "/(unclosed"}}])]}
    await live.rule(VIRTUAL_SERVICE, "web", bad, status="False")
    for manager in list(live.world.managers):
        live.world.crash(manager)
    await anyio.sleep(0.1)
    assert await live.statuses("client", *[{}] * 3) == [200] * 3
    await start_mesh(live)
    await live.pod("late")
    await live.programmed("late")
    assert ports(await live.call("late", *[{}] * 5)) == {8001: 5}


async def test_a_pod_without_its_namespace_is_told_and_tried_again(live: Live) -> None:
    """Its listener is refused, alone; once the namespace is there, it is programmed."""
    await web(live)
    await live.pod("early", namespace_exists=False)

    async def refused() -> bool:
        pod = await live.client.get(resources.POD, "early", "default")
        return conditions.is_false(pod, POD_PROGRAMMED)

    await live.world.eventually(refused, why="the refusal to be told")
    await live.pod("other")
    await live.programmed("other")
    live.make_namespace("early")
    await live.programmed("early")
    assert await live.statuses("early", {}) == [200]


async def test_servers_that_speak_first_are_not_kept_waiting(live: Live) -> None:
    """On a port declared tcp the greeting comes at once; on an undeclared one, soon."""
    await live.pod("client")
    mail = await live.service("mail", port=("tcp-mail", 2500), to={"mail": 9000})
    odd = await live.service("odd", port=("odd", 2600), to={"odd": 9000})
    await live.programmed("client")
    addresses = [objects.spec(service)["clusterIP"] for service in (mail, odd)]
    declared = {"raw": True, "address": addresses[0], "port": 2500}
    undeclared = {"raw": True, "address": addresses[1], "port": 2600}
    found = await live.call("client", *[declared] * 4, *[undeclared] * 4)
    assert [answer["text"] for answer in found] == ["hello from the server\n"] * 8
    # A busy machine may keep one waiting, but the proxy would keep them all.
    took = [answer["took_s"] for answer in found]
    assert min(took[:4]) < 0.09 < min(took[4:])


async def test_a_client_may_end_its_side_first(live: Live) -> None:
    """The server's last words reach who said all: at once where the port is declared or no service's."""
    await live.pod("client")
    tcp = await live.service("tcp", port=("tcp-echo", 2700), to={"tcp": 9200})
    odd = await live.service("odd", port=("odd", 2701), to={"odd": 9200})
    await live.programmed("client")
    declared, undeclared = (objects.spec(service)["clusterIP"] for service in (tcp, odd))
    found = await live.call(
        "client",
        {"end_after_s": 0, "address": declared, "port": 2700},
        {"end_after_s": 0, "address": live.servers.address, "port": 9200},
        {"end_after_s": 0.5, "address": undeclared, "port": 2701},
    )
    assert [answer.get("text") for answer in found] == ["hello END"] * 3


async def test_a_busy_gateway_port_is_served_once_it_is_free(live: Live) -> None:
    """Refused while another holds it, without sharing it; tried again without a new write."""
    with socket.create_server(("127.0.0.1", 0), reuse_port=True) as held:
        port = held.getsockname()[1]
        server = {"port": {"number": port, "name": "http", "protocol": "HTTP"}, "hosts": ["*"]}
        spec = {"selector": {"istio": "ingressgateway"}, "servers": [server]}
        told = await live.rule(GATEWAY, "own", spec, status="False")
        assert "in use" in (conditions.get(told, "Accepted") or {})["message"]
        route = {"hosts": ["own.example"], "gateways": ["own"], "http": [{"directResponse": {"status": 203}}]}
        document = {"kind": "VirtualService", "metadata": {"name": "own", "namespace": "default"}}
        api = {"apiVersion": VIRTUAL_SERVICE.api_version}
        await live.client.apply(VIRTUAL_SERVICE, {**api, **document, "spec": route})

    async def served() -> bool:
        found = await live.client.get(GATEWAY, "own", "default")
        return conditions.is_true(found, "Programmed") and conditions.is_true(found, "Accepted")

    await live.world.eventually(served, why="the gateway to be served")


async def test_what_was_refused_is_refused_again_when_it_is_made_again(live: Live) -> None:
    """Deleted and made anew, or put in place of a good version: each time it is judged, and told."""
    bad = {"hosts": ["r.example"], "http": [split(("v2", 0), match=[{"uri": {"regex": "["}}])]}
    await live.pod("client")
    await live.service(to={"web-v1": 8001})
    await live.programmed("client")
    for _ in range(2):
        await live.rule(VIRTUAL_SERVICE, "r", bad, status="False")
        await live.client.delete(VIRTUAL_SERVICE, "r", "default")
    good = {"hosts": ["r.example"], "http": [{"directResponse": {"status": 203}}]}
    await live.rule(VIRTUAL_SERVICE, "r", good)
    await live.rule(VIRTUAL_SERVICE, "r", bad, status="False")
    assert await live.statuses("client", {"host": "r.example"}) == [203]


async def test_grpc_and_websockets(live: Live) -> None:
    """HTTP/2 without TLS and upgraded connections are carried, and follow routes."""
    await web(live)
    await live.service("api", port=("grpc", 80), to={"api": 9100})
    await live.service("odd", port=("odd", 2600), to={"odd": 9100})
    spec = {"hosts": ["web"], "http": [split(("v2", 0), match=[{"uri": {"prefix": "/ws"}}])]}
    await live.rule(VIRTUAL_SERVICE, "web", spec)
    found = await live.call(
        "client",
        {"grpc": True, "host": "api"},
        {"grpc": True, "host": "odd", "port": 2600},
        {"websocket": True},
    )
    assert [answer["text"] for answer in found] == ["HELLO"] * 3


async def test_unknown_destinations_and_empty_services(live: Live) -> None:
    """What is no service is reached as it was dialled; a service without endpoints answers 503 at once."""
    await live.pod("client")
    await live.service("empty", to={})
    await live.programmed("client")
    direct = {"address": live.servers.address, "port": 8001, "host": "whoever.example"}
    direct, empty = await live.call("client", direct, {"host": "empty"})
    assert direct["status"] == 200
    assert empty["status"] == 503
    assert empty["took_s"] < 0.5


async def test_a_pod_cannot_send_the_proxy_to_the_hosts_loopback(live: Live) -> None:
    """One that may change its own rules turns calls of its loopback to the proxy, which goes nowhere."""
    await live.pod("client")
    await live.programmed("client")
    turned = REDIRECT.replace("table ip mesh", "table ip turned").replace("ip daddr != 127.0.0.0/8 ", "")
    run("ip", "netns", "exec", live.pods["client"], "nft", "-f", "-", text=turned.replace("-100", "-150"))
    async with await anyio.create_tcp_listener(local_host="127.0.0.1") as host:
        reached: list[object] = []

        async def serve(stream: anyio.abc.SocketStream) -> None:
            reached.append(stream)
            await stream.aclose()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(host.serve, serve)
            ports = (host.extra(anyio.abc.SocketAttribute.local_port), 80)  # noqa: S610
            for address in ("127.0.0.1", "127.8.8.8"):
                for port in ports:
                    (answer,) = await live.call("client", {"address": address, "port": port})
                    assert answer["status"] != 200
            tasks.cancel_scope.cancel()
    assert reached == []


async def test_statistics_carry_the_clusters_whole_name(live: Live) -> None:
    """What counts calls by service reads requests, their time and their classes by cluster name."""
    await web(live)
    await live.call("client", *[{}] * 3)
    name = 'envoy_cluster_name="outbound|80||web.default.svc.cluster.local"'
    counted = f"envoy_cluster_upstream_rq_time_count{{{name}}} 3"
    lines: list[str] = []

    async def merged() -> bool:
        nonlocal lines
        _, page = process.admin_get(live.config.admin_address, "/stats/prometheus?usedonly")
        lines = page.decode().splitlines()
        return counted in lines

    await live.world.eventually(merged, why="the workers' times to be merged")
    assert f"envoy_cluster_upstream_rq_total{{{name}}} 3" in lines
    assert f"envoy_cluster_upstream_rq_active{{{name}}} 0" in lines
    assert any('envoy_response_code_class="2xx"' in line and name in line for line in lines), lines
    assert any('envoy_http_conn_manager_prefix="default/client"' in line for line in lines)
    assert not any(".external" in line for line in lines), "each request is counted once"
    assert len(lines) < 400


async def test_the_ingress_gateway(live: Live) -> None:
    """The mesh makes the default Gateway; a rule bound to it serves its host on the ingress port only."""
    await web(live)
    spec = {"hosts": ["shop.localhost"], "gateways": ["ondol-system/ingress"], "http": [split(("v1", 0))]}
    await live.rule(VIRTUAL_SERVICE, "shop", spec)
    command = [sys.executable, TRAFFIC, "call"]
    requests = [
        {"address": "127.0.0.1", "port": live.config.ingress_port, "host": host}
        for host in ("shop.localhost", "x.localhost")
    ]
    found = await anyio.run_process(command, input="\n".join(map(json.dumps, requests)).encode())
    assert [json.loads(line)["status"] for line in found.stdout.splitlines()] == [200, 404]


async def test_the_service_of_the_ingress_is_there_and_comes_back(live: Live) -> None:
    """Its status has the address and its port the number at which the ingress answers."""

    async def is_there() -> bool:
        try:
            service = await live.client.get(resources.SERVICE, "istio-ingressgateway", "istio-system")
        except errors.NotFound:
            return False
        at = objects.status(service).get("loadBalancer") or {}
        port = objects.spec(service)["ports"][0]["port"]
        return at.get("ingress") == [{"ip": "127.0.0.1", "ipMode": "VIP"}] and bool(
            port == live.config.ingress_port
        )

    await live.world.eventually(is_there, why="the service to be made")
    await live.client.delete(resources.SERVICE, "istio-ingressgateway", "istio-system")
    await live.world.eventually(is_there, why="the service to be made again")


async def test_each_attempt_is_a_span_in_the_callers_trace(live: Live) -> None:
    """A call is a span of the caller, each attempt a child of it; the callee is told the attempt's id."""
    await web(live)
    retries = {"attempts": 2, "retryOn": "5xx", "backoff": "1ms"}
    spec = {"hosts": ["web"], "http": [split(("v1", 0), retries=retries)]}
    await live.rule(VIRTUAL_SERVICE, "web", spec)
    trace, parent = uuid.uuid4().hex, "b7ad6b7169203331"
    headers = {"traceparent": f"00-{trace}-{parent}-01"}
    (answer,) = await live.call("client", {"path": f"/fail/1/{trace}", "headers": headers})

    async def arrived() -> bool:
        return len(live.servers.spans(trace)) == 3

    await live.world.eventually(arrived, why="the spans of the call")
    found = live.servers.spans(trace)
    assert {service for service, _ in found} == {"client"}
    (call,) = [span for _, span in found if span.parent_span_id.hex() == parent]
    attempts = [span for _, span in found if span.parent_span_id == call.span_id]
    told = answer["seen"]["headers"]["traceparent"].split("-")[2]
    assert told in {span.span_id.hex() for span in attempts}
    tags = {a.key: a.value.string_value for a in attempts[0].attributes}
    assert tags["upstream_cluster.name"] == "outbound|80|v1|web.default.svc.cluster.local"
    assert tags["upstream_address"] == f"{live.servers.address}:8001"


async def test_a_change_elsewhere_breaks_no_connection(live: Live) -> None:
    """A new TCP service changes every pod's listener in place; a request in flight ends well."""
    await web(live)
    answers: list[dict[str, Any]] = []

    async def slow() -> None:
        answers.extend(await live.call("client", {"path": "/slow/1.5"}))

    async def in_flight() -> bool:
        name = "cluster.outbound|80||web.default.svc.cluster.local.upstream_rq_active"
        return counter(live, re.escape(name)) == 1

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(slow)
        await live.world.eventually(in_flight, why="the request to be at the server")
        await live.service("db", port=("tcp", 5432), to={"db": 9000})
        await live.client.delete(resources.ENDPOINT_SLICE, "web-8001", "default")
        await live.client.delete(resources.ENDPOINT_SLICE, "web-8002", "default")
    assert [answer["status"] for answer in answers] == [200]

    async def gone() -> bool:
        return await live.statuses("client", {}) == [503]

    await live.world.eventually(gone, why="the endpoints to be gone")


async def test_callers_are_told_apart_by_their_labels(live: Live) -> None:
    """A rule for pods with a label is followed by those, and by nobody else; no listener is made anew."""
    await web(live)
    await live.pod("tester", tier="gold")
    await live.programmed("tester")
    spec = {
        "hosts": ["web"],
        "http": [split(("v2", 0), match=[{"sourceLabels": {"tier": "gold"}}]), split(("v1", 0))],
    }
    await live.rule(VIRTUAL_SERVICE, "web", spec)
    assert ports(await live.call("tester", *[{}] * 5)) == {8002: 5}
    assert ports(await live.call("client", *[{}] * 5)) == {8001: 5}
    assert counter(live, "listener_manager.listener_modified") == 0
    assert counter(live, "listener_manager.listener_in_place_updated") == 0


async def test_a_new_service_closes_no_connection(live: Live) -> None:
    """A port nobody had before, declared or not, adds chains to running listeners and drains none."""
    await web(live)
    await live.service("plain", port=("", 5001), to={"web-v1": 8001})
    await live.service("cache", port=("tcp-cache", 6379), to={"web-v1": 9000})
    await live.service("unheard-of", port=("tcp-new", 7777), to={"web-v1": 9000})

    async def served() -> bool:
        return await live.statuses("client", {"port": 5001, "host": "plain"}) == [200]

    await live.world.eventually(served, why="the new service to answer")
    assert counter(live, "listener_manager.listener_in_place_updated") > 0
    assert counter(live, "listener_manager.total_listeners_draining") == 0


async def test_http_1_0_without_a_host_goes_where_it_was_going(live: Live) -> None:
    """Old health checks name no host: the address they call is enough."""
    await web(live)
    called = {"address": live.servers.address, "port": 8001, "send": "GET / HTTP/1.0\r\n\r\n"}
    await live.service("direct", port=("http", 8001), to={"web-v1": 8001})

    async def served() -> bool:
        return await live.statuses("client", {"port": 8001, "host": "direct"}) == [200]

    await live.world.eventually(served, why="the new service to answer")
    assert await live.statuses("client", called) == [200]


@pytest.mark.parametrize("name", ["http", ""])
async def test_a_call_may_be_the_last_on_its_connection(live: Live, name: str) -> None:
    """The answer comes whole before the connection ends, on a declared and on an undeclared port."""
    await web(live)
    await live.service("once", port=(name, 5002), to={"web-v1": 8001})
    called = {"port": 5002, "host": "once"}

    async def served() -> bool:
        return await live.statuses("client", called) == [200]

    await live.world.eventually(served, why="the new service to answer")
    heads = [
        "GET / HTTP/1.1\r\nhost: once\r\nconnection: close\r\n\r\n",
        "GET / HTTP/1.0\r\nhost: once\r\n\r\n",
    ]
    assert await live.statuses("client", *({**called, "send": head} for head in heads)) == [200, 200]


async def test_the_server_says_whether_it_wants_a_body(live: Live) -> None:
    """`Expect: 100-continue` is answered by the application, not by the proxy in its place."""
    await web(live)
    await live.rule(VIRTUAL_SERVICE, "web", {"hosts": ["web"], "http": [split(("v1", 0))]})
    head = "PUT / HTTP/1.1\r\nhost: web\r\ncontent-length: 5\r\nexpect: 100-continue\r\n\r\n"
    assert await live.statuses("client", {"send": head}) == [417]


def counter(live: Live, name: str) -> int:
    """A statistic of the proxy, by a pattern of its name."""
    pattern = urllib.parse.quote(f"^{name}$")
    _, body = process.admin_get(live.config.admin_address, f"/stats?filter={pattern}")
    return int(body.decode().partition(": ")[2] or 0)
