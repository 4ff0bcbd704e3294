"""A mesh for real: an API server, the controller, Envoy, and pods that are network namespaces."""

from __future__ import annotations

import ipaddress
import json
import os
import random
import shutil
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
from tests.ports import free_port

from ondol import apiserver, mesh, sdk, store
from ondol.api import conditions, objects, resources
from ondol.api.objects import Object
from ondol.base.clock import SystemClock
from ondol.client import PatchType
from ondol.contracts import mesh as mesh_contract
from ondol.mesh import process
from ondol.mesh.config import MeshConfig
from ondol.sdk.testing import World

MARKS = [
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
    meta mark & 0xdf000000 == 0x0d000000 return
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
        pods = ipaddress.IPv4Network(f"10.99.{octet}.0/24")
        run("ip", "-n", self.name, "route", "add", str(pods), "via", self.host)
        self.pods = pods.hosts()
        """Addresses that nobody has yet."""
        ports = ("8001", "8002", "9000", "9001", "9100", "9200", "9443", "9444")
        command = ["ip", "netns", "exec", self.name, sys.executable, TRAFFIC, "serve", self.address, *ports]
        self.spans_file = spans_file
        environment = {**os.environ, "SPANS": str(spans_file)}
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, env=environment)
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == b"serving\n"

    def spans(self, trace: str) -> list[Any]:
        """The spans of a trace that have arrived, with the name of the service that sent them."""
        data = self.spans_file.read_bytes() if self.spans_file.exists() else b""
        pairs = []
        while data:
            size = int.from_bytes(data[:4], "big")
            request = trace_service_pb2.ExportTraceServiceRequest.FromString(data[4 : 4 + size])
            data = data[4 + size :]
            for resource in request.resource_spans:
                names = {a.key: a.value.string_value for a in resource.resource.attributes}
                for scope in resource.instrumentation_library_spans:
                    pairs += [(names["service.name"], s) for s in scope.spans if s.trace_id.hex() == trace]
        return pairs

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()
        run("ip", "link", "del", self._link)
        run("ip", "netns", "del", self.name)


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    started = Servers(tmp_path_factory.mktemp("spans") / "spans")
    yield started
    started.close()


class Live:
    """One platform in small: what a test does to it goes through the API or a pod's namespace."""

    def __init__(self, world: World, config: MeshConfig, servers: Servers) -> None:
        self.world = world
        self.client = world.client
        self.config = config
        self.servers = servers
        self.envoy: subprocess.Popen[bytes] | None = None
        self.pods: dict[str, str] = {}
        self.addresses: dict[str, str] = {}

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

    async def pod(
        self, name: str, *, namespace_exists: bool = True, account: str = "default", **labels: str
    ) -> None:
        """A pod as the node leaves it once its sandbox is up."""
        metadata = {"name": name, "namespace": "default", "labels": {"app": name, **labels}}
        spec = {
            "nodeName": "here",
            "serviceAccountName": account,
            "containers": [{"name": "main", "image": "none"}],
        }
        created = await self.client.create(
            resources.POD, {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}, "default"
        )
        self.pods[name] = objects.uid(created)
        if namespace_exists:
            self.make_namespace(name)
        ready = conditions.set((), mesh_contract.SANDBOX_READY, "True", now=time.time())
        await self.client.patch(
            resources.POD,
            name,
            "default",
            patch={"status": {"phase": "Pending", "conditions": ready, "podIP": self.addresses.get(name)}},
            patch_type=PatchType.STRATEGIC,
            subresource="status",
        )

    def make_namespace(self, name: str) -> None:
        netns = self.pods[name]
        run("ip", "netns", "add", netns)
        run("ip", "-n", netns, "link", "set", "lo", "up")
        address, port = str(next(self.servers.pods)), f"mp{netns[:8]}"
        self.addresses[name] = address
        run("ip", "link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", netns)
        run("ip", "link", "set", port, "up")
        run("ip", "-n", netns, "addr", "add", f"{address}/32", "dev", "eth0")
        run("ip", "-n", netns, "link", "set", "eth0", "up")
        run("ip", "-n", netns, "route", "add", self.servers.host, "dev", "eth0")
        run("ip", "-n", netns, "route", "add", "default", "via", self.servers.host)
        run("ip", "route", "add", address, "dev", port)
        Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
        run("ip", "netns", "exec", netns, "nft", "-f", "-", text=REDIRECT)

    async def service(
        self, name: str = "web", *, port: tuple[str, int] = ("http", 80), to: Mapping[str, int]
    ) -> Object:
        """A service whose endpoints are the test servers' ports, each as the pod of that name."""
        spec = {"ports": [{"name": port[0], "port": port[1]}]}
        created = await self.client.create(
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
        return created

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

        async def reported() -> bool:
            condition = conditions.get(await self.client.get(resource, name, "default"), "Programmed") or {}
            return condition.get("observedGeneration") == generation and condition.get("status") == status

        await self.world.eventually(reported, why=f"{resource.kind} {name} to be Programmed={status}")
        return await self.client.get(resource, name, "default")

    async def programmed(self, *names: str) -> None:
        for name in names:

            async def reported(name: str = name) -> bool:
                return conditions.is_true(
                    await self.client.get(resources.POD, name, "default"), mesh_contract.POD_PROGRAMMED
                )

            await self.world.eventually(reported, why=f"pod {name} to be programmed")

    async def call(self, pod: str, *requests: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Send requests from inside a pod, one after the other."""
        lines = "".join(json.dumps(dict(request)) + "\n" for request in requests)
        command = ["ip", "netns", "exec", self.pods[pod], sys.executable, TRAFFIC, "call"]
        result = await anyio.run_process(command, input=lines.encode())
        return [json.loads(line) for line in result.stdout.splitlines()]

    async def statuses(self, pod: str, *requests: Mapping[str, Any]) -> list[int]:
        return [answer["status"] for answer in await self.call(pod, *requests)]

    def close(self) -> None:
        self.stop_envoy()
        for uid in self.pods.values():
            if Path(f"/run/netns/{uid}").exists():
                run("ip", "link", "del", f"mp{uid[:8]}")
                run("ip", "netns", "del", uid)


@pytest.fixture
async def live(tmp_path: Path, servers: Servers) -> AsyncIterator[Live]:
    outbound = tmp_path / "outbound"
    outbound.mkdir()
    config = MeshConfig(
        netns_dir=Path("/run/netns"),
        xds_address=f"unix:{tmp_path}/xds.sock",
        admin_address=f"unix:{tmp_path}/admin.sock",
        bootstrap_file=tmp_path / "envoy.json",
        outbound_dir=outbound,
        ingress_port=free_port(),
        ingress_tls_port=free_port(),
        observe_address=f"{servers.address}:8002",
        access_log=tmp_path / "access.log",
        access_log_is_on=False,
        resolvers=(f"{servers.address}:5353",),
    )
    # Uids name network namespaces of this machine: other runs at the same time must have others.
    app = apiserver.build(apiserver.ApiConfig(), store.open_memory(), SystemClock(), random.SystemRandom())
    async with World(app, clock=SystemClock()) as world:
        await sdk.install_crds(world.client, mesh.crds())
        started = Live(world, config, servers)
        try:
            started.start_envoy()
            await start_mesh(started)
            yield started
        finally:
            started.close()


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
    await live.rule(mesh_contract.DESTINATION_RULE, "web", {"host": "web", "subsets": subsets})
    await live.programmed("client")


def ports(answers: Sequence[Mapping[str, Any]]) -> Counter[int]:
    return Counter(answer["seen"]["port"] for answer in answers)


def counter(live: Live, name: str) -> int:
    """A statistic of the proxy, by a pattern of its name."""
    pattern = urllib.parse.quote(f"^{name}$")
    _, body = process.admin_get(live.config.admin_address, f"/stats?filter={pattern}")
    return int(body.decode().partition(": ")[2] or 0)
