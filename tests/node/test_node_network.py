"""Pod networks with real packets: pods, Services, names, the mesh redirect, and what is left behind."""

from __future__ import annotations

import ipaddress
import os
import random
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest

from ondol.api import conditions, objects, resources
from ondol.api.objects import Object
from ondol.client import PatchType
from ondol.contracts import mesh
from ondol.node import agent
from ondol.node.config import NodeConfig
from ondol.node.dns import codec
from ondol.node.network import nft, rules, sandbox

pytestmark = [pytest.mark.anyio, pytest.mark.root]

SERVER = """
import http.server, os
class H(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = os.environ['HOSTNAME'].encode()
        self.send_response(200); self.send_header('content-length', str(len(body))); self.end_headers()
        self.wfile.write(body)
    def log_message(self, *a): pass
http.server.ThreadingHTTPServer(('', 8080), H).serve_forever()
"""


def python(world: Any, name: str, script: str, **more: Any) -> Object:
    """A pod that runs the machine's own Python."""
    container = {
        "command": ["/usr/bin/python3", "-c", script],
        "env": [{"name": "LD_LIBRARY_PATH", "value": "/usr/lib/x86_64-linux-gnu"}],
        "volumeMounts": [{"name": "usr", "mountPath": "/usr", "readOnly": True}],
    }
    container |= more.pop("container", {})
    volumes = [{"name": "usr", "hostPath": {"path": "/usr", "type": "Directory"}}]
    pod: Object = world.pod(name, container=container, volumes=volumes, **more)
    return pod


def server(world: Any, name: str, **more: Any) -> Object:
    probe = {"readinessProbe": {"httpGet": {"port": 8080}}}
    return python(world, name, SERVER, container=probe, **more)


async def fetch(url: str) -> str:
    def get() -> str:
        with urllib.request.urlopen(url, timeout=3) as answer:
            return str(answer.read().decode())

    return await anyio.to_thread.run_sync(get)


async def answers(url: str, *, is_served: bool) -> None:
    """Until the address answers, or refuses."""
    with anyio.fail_after(10):
        while True:
            try:
                await fetch(url)
            except urllib.error.URLError as error:
                if not is_served and "refused" in str(error):
                    return
            else:
                if is_served:
                    return
            await anyio.sleep(0.02)


async def expose(world: Any, name: str, address: str, targets: dict[str, str], **spec: Any) -> None:
    """A Service and its EndpointSlice, as controllers would make them."""
    port = {"name": "http", "port": 80, "protocol": "TCP", "targetPort": 8080}
    port |= spec.pop("port", {})
    service = {
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"clusterIP": address, "ports": [port], **spec},
    }
    await world.client.create(resources.SERVICE, service)
    endpoints = [
        {"addresses": [ip], "conditions": {"ready": True}, "hostname": host} for host, ip in targets.items()
    ]
    slice_ = {
        "metadata": {
            "name": f"{name}-1",
            "namespace": "default",
            "labels": {"kubernetes.io/service-name": name},
        },
        "addressType": "IPv4",
        "endpoints": endpoints,
        "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
    }
    await world.client.create(resources.ENDPOINT_SLICE, slice_)


def ip_of(pod: Object) -> str:
    return str(objects.status(pod)["podIP"])


async def test_services_names_and_pods(world: Any) -> None:
    """Host and pods reach pods, Services and node ports by name; one without endpoints refuses."""
    node_port = random.randint(30000, 32767)  # others may test on this machine, too
    async with world.node():
        await world.create(server(world, "one"))
        await world.create(server(world, "two"))
        one, two = ip_of(await world.ready("one")), ip_of(await world.ready("two"))
        assert await fetch(f"http://{one}:8080/") == "one"
        await expose(
            world, "web", "10.96.7.7", {"one": one, "two": two}, type="NodePort", port={"nodePort": node_port}
        )
        await expose(world, "empty", "10.96.7.8", {})
        await answers(f"http://127.0.0.1:{node_port}/", is_served=True)
        assert {await fetch("http://10.96.7.7/") for _ in range(20)} == {"one", "two"}
        assert await fetch(f"http://127.0.0.1:{node_port}/") in {"one", "two"}
        with pytest.raises(urllib.error.URLError, match="refused"):
            await fetch("http://10.96.7.8/")
        script = (
            "import socket, urllib.request as u\n"
            "def get(url): return u.urlopen(url, timeout=3).read().decode()\n"
            "print(socket.gethostbyname('web'), socket.gethostbyname('web.default.svc.cluster.local'))\n"
            "print({get('http://web/') for _ in range(20)} == {'one', 'two'})\n"
            f"print(get('http://{two}:8080/'))\n"
            "try: socket.gethostbyname('nothing.default.svc.cluster.local')\n"
            "except socket.gaierror as e: print(e.errno)\n"
        )
        await world.create(python(world, "caller", script, restartPolicy="Never"))
        await world.phase("caller", "Succeeded")
        assert (await world.log("caller")).split("\n")[:4] == ["10.96.7.7 10.96.7.7", "True", "two", "-2"]


async def test_host_ports(world: Any) -> None:
    """A container's hostPort is reached at the host, as long as its pod lives."""
    host_port = random.randint(28000, 29999)
    ports = {"ports": [{"containerPort": 8080, "hostPort": host_port}]}
    pod = server(world, "ported")
    pod["spec"]["containers"][0] |= ports
    async with world.node():
        await world.create(pod)
        await world.ready("ported")
        await answers(f"http://127.0.0.1:{host_port}/", is_served=True)
        assert await fetch(f"http://127.0.0.1:{host_port}/") == "ported"
        await world.delete("ported")
        await answers(f"http://127.0.0.1:{host_port}/", is_served=False)


async def reported_lost(world: Any, resource: Any, name: str, *, lost: str) -> None:
    """Until the object says what it did not get; nothing if it has all."""
    with anyio.fail_after(10):
        while True:
            condition = conditions.get(
                await world.client.get(resource, name, "default"), mesh.ADDRESSES_PROGRAMMED
            )
            if condition is not None and (condition.get("message") or "") == lost:
                assert condition["status"] == ("False" if lost else "True")
                return
            await anyio.sleep(0.02)


def is_over(pod: Object) -> bool:
    return objects.status(pod).get("phase") in ("Succeeded", "Failed")


async def test_who_asks_for_what_is_somebody_elses_loses_that_alone(world: Any) -> None:
    """Services with one external IP: the other goes on, and the loser knows."""
    external = f"203.0.113.{random.randint(1, 254)}"
    async with world.node():
        for name in ("first", "second"):
            await world.create(server(world, name))
        one, two = ip_of(await world.ready("first")), ip_of(await world.ready("second"))
        await expose(world, "a-web", "10.96.8.1", {"first": one}, externalIPs=[external])
        await expose(world, "b-web", "10.96.8.2", {"second": two}, externalIPs=[external])
        await answers("http://10.96.8.2/", is_served=True)
        lost = f"{external}:80/TCP is in use by Service default/a-web"
        await reported_lost(world, resources.SERVICE, "b-web", lost=lost)
        assert await fetch(f"http://{external}/") == "first"
        await world.until_events("b-web", {"AddressInUse"})
        await world.client.delete(resources.SERVICE, "a-web", "default")
        await reported_lost(world, resources.SERVICE, "b-web", lost="")
        assert await fetch(f"http://{external}/") == "second"


async def test_a_host_port_is_one_pods_alone(world: Any) -> None:
    """Who names the node itself and asks for a port that another pod has is refused; who has it keeps it."""
    host_port = random.randint(28000, 29999)
    async with world.node():
        for name in ("first", "second"):
            pod = server(world, name)
            pod["spec"]["containers"][0]["ports"] = [{"containerPort": 8080, "hostPort": host_port}]
            await world.create(pod)
            await world.until(name, lambda p: conditions.is_true(p, "Ready") or is_over(p))
        assert objects.status(await world.get("second"))["reason"] == "NodePorts"
        assert await fetch(f"http://127.0.0.1:{host_port}/") == "first"


async def test_a_host_port_at_one_address(world: Any) -> None:
    """`hostIP` opens the port there and nowhere else; one that a program listens on is not taken over."""
    host_port = random.randint(26000, 27999)
    with socket.create_server(("127.0.0.1", host_port)):
        pod = server(world, "ported")
        pod["spec"]["containers"][0]["ports"] = [
            {"containerPort": 8080, "hostPort": host_port, "hostIP": str(world.config.gateway)},
            {"containerPort": 8081, "hostPort": host_port, "hostIP": "127.0.0.1"},
        ]
        async with world.node():
            await world.create(pod)
            await world.ready("ported")
            lost = f"127.0.0.1:{host_port}/TCP is in use by a program of this machine"
            await reported_lost(world, resources.POD, "ported", lost=lost)
            await answers(f"http://{world.config.gateway}:{host_port}/", is_served=True)


async def test_a_pod_reaches_itself_through_its_service(world: Any) -> None:
    """The way out and back in of one pod works."""
    loop = (
        "import threading, urllib.request as u, time\n"
        "threading.Thread(target=s.serve_forever, daemon=True).start()\n"
        "for _ in range(50):\n"
        "    try: print(u.urlopen('http://10.96.7.9/', timeout=1).read().decode()); break\n"
        "    except OSError: time.sleep(0.1)\n"
    )
    server_script = SERVER.replace("http.server.ThreadingHTTPServer", "s = http.server.ThreadingHTTPServer")
    script = server_script.replace(".serve_forever()", "\n" + loop)
    async with world.node():
        await world.create(python(world, "self", script, restartPolicy="Never"))
        pod = await world.until("self", lambda p: bool(objects.status(p).get("podIP")))
        await expose(world, "self", "10.96.7.9", {"self": ip_of(pod)})
        await world.phase("self", "Succeeded")
        assert (await world.log("self")).strip() == "self"


async def test_mesh_pods_wait_and_are_redirected(world: Any) -> None:
    """A mesh pod starts only when its proxy is programmed, and its traffic never passes beside the proxy."""
    script = (
        "import socket\n"
        "def reach(address, port):\n"
        "    try: socket.create_connection((address, port), 2).close(); return 'open'\n"
        "    except OSError as e: return type(e).__name__\n"
        "print(reach('TARGET', 8080))\n"
        "l = socket.create_server(('127.0.0.1', 15001))\n"
        "print(reach('TARGET', 8080))\n"
        "c, _ = l.accept()\n"
        "raw = c.getsockopt(socket.SOL_IP, 80, 16)\n"
        "print(socket.inet_ntoa(raw[4:8]), int.from_bytes(raw[2:4], 'big'))\n"
        "l2 = socket.create_server(('127.0.0.1', 7777)); print(reach('127.0.0.1', 7777))\n"
        "print(socket.gethostbyname('kubernetes.default'))\n"
    )
    async with world.node():
        await world.create(server(world, "target"))
        target = ip_of(await world.ready("target"))
        pod = python(world, "mesh", script.replace("TARGET", target), restartPolicy="Never")
        del pod["metadata"]["labels"]
        await world.create(pod)
        waiting = await world.until("mesh", lambda p: conditions.is_true(p, mesh.SANDBOX_READY))
        await world.until_events("mesh", {"MeshNotProgrammed"})
        waiting = await world.get("mesh")
        assert objects.status(waiting)["phase"] == "Pending"
        await programmed(world, "mesh", is_true=True)
        done = await world.phase("mesh", "Succeeded")
        assert (await world.events("mesh")).count("MeshNotProgrammed") == 1
        assert conditions.is_true(done, mesh.POD_PROGRAMMED), "the node keeps others' conditions"
        api = await world.client.get(resources.SERVICE, "kubernetes", "default")
        assert (await world.log("mesh")).split("\n")[:5] == [
            *("ConnectionRefusedError", "open", f"{target} 8080", "open", objects.spec(api)["clusterIP"])
        ]


async def test_a_pod_that_has_ended_waits_for_nothing(world: Any) -> None:
    """There is no word of a proxy that is missing in a pod that is over."""
    pod = world.pod("brief", "exit 0", restartPolicy="Never")
    del pod["metadata"]["labels"]
    async with world.node():
        await world.create(pod)
        await world.until("brief", lambda p: conditions.is_true(p, mesh.SANDBOX_READY))
        await programmed(world, "brief", is_true=True)
        await world.phase("brief", "Succeeded")
        before = (await world.events("brief")).count("MeshNotProgrammed")  # of a machine that was busy
        await anyio.sleep(2 * world.config.mesh_patience_s)
        assert (await world.events("brief")).count("MeshNotProgrammed") == before


async def test_a_lost_sandbox_is_told_before_it_is_made_anew(world: Any) -> None:
    """The mesh hears that a namespace is gone, takes its listener away, and only then comes the next."""
    pod = world.pod("mesh")
    del pod["metadata"]["labels"]
    async with world.node():
        await world.create(pod)
        await world.until("mesh", lambda p: conditions.is_true(p, mesh.SANDBOX_READY))
        await programmed(world, "mesh", is_true=True)
        before = await world.ready("mesh")
    await anyio.to_thread.run_sync(agent.remove, world.config)
    async with world.node():
        await world.until("mesh", lambda p: not conditions.is_true(p, mesh.SANDBOX_READY))
        await world.until_events("mesh", {"MeshNotProgrammed"})
        assert sandbox.existing(agent._network(world.config)) == []
        await programmed(world, "mesh", is_true=False)
        await world.until("mesh", lambda p: conditions.is_true(p, mesh.SANDBOX_READY))
        waiting = await world.get("mesh")
        assert not conditions.is_true(waiting, "Ready")
        assert sandbox.existing(agent._network(world.config)) == [objects.uid(before)]
        await programmed(world, "mesh", is_true=True)
        after = await world.ready("mesh")
        assert objects.status(after)["containerStatuses"][0]["restartCount"] == 1


async def programmed(world: Any, name: str, *, is_true: bool) -> None:
    """What the mesh says once its proxy listens in the pod, or no longer does."""
    condition = {
        "type": mesh.POD_PROGRAMMED,
        "status": "True" if is_true else "False",
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }
    await world.client.patch(
        resources.POD,
        name,
        "default",
        patch={"status": {"conditions": [condition]}},
        patch_type=PatchType.STRATEGIC,
        subresource="status",
    )


async def test_host_network(world: Any) -> None:
    """A pod in the host's network has the host's address and name."""
    async with world.node():
        script = "import socket; print(socket.gethostname())"
        await world.create(python(world, "host", script, hostNetwork=True, restartPolicy="Never"))
        pod = await world.phase("host", "Succeeded")
        assert ip_of(pod) == world.config.host_ip
        assert (await world.log("host")).strip() == socket.gethostname()


async def test_names_over_tcp_and_upstream_silence(world: Any) -> None:
    """The name server speaks TCP too, and a name it cannot forward fails quickly as SERVFAIL."""
    gateway = str(world.config.gateway)
    question = b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00"
    async with world.node():
        inside = question + codec.encode_name("dns-version.cluster.local") + b"\0\x10\0\1"
        async with await anyio.connect_tcp(gateway, 53) as stream:
            await stream.send(len(inside).to_bytes(2, "big") + inside)
            assert b"1.1.0" in await stream.receive()


async def test_pods_go_on_sending_after_a_restart(world: Any) -> None:
    """The next agent binds those that live to their addresses, whatever became of the rules meanwhile."""
    table = rules.bridge_table(world.config.instance)

    def bound() -> set[str]:
        return {str(each.address) for each in rules.bindings(nft.run(f"list set {table} bound"))}

    async with world.node():
        await world.create(server(world, "stays"))
        address = ip_of(await world.ready("stays"))
        assert await anyio.to_thread.run_sync(bound) == {address}
    await anyio.to_thread.run_sync(nft.run, rules.removed(table))
    async with world.node():
        assert await anyio.to_thread.run_sync(bound) == {address}
        assert await fetch(f"http://{address}:8080/") == "stays"
        await world.delete("stays")
        with anyio.fail_after(10):
            while True:
                if not await anyio.to_thread.run_sync(bound):
                    break
                await anyio.sleep(0.02)


async def test_nothing_is_left_behind(world: Any) -> None:
    """After removal no bridge, table, mount, namespace, process or control group of the instance exists."""
    async with world.node():
        await world.create(world.pod("left"))
        await world.ready("left")
    await anyio.to_thread.run_sync(agent.remove, world.config)
    assert await anyio.to_thread.run_sync(traces, world.config) == []


def traces(config: NodeConfig) -> list[str]:
    """What still exists of the instance on this host."""
    instance = config.instance
    tables = subprocess.run(["nft", "list", "tables"], capture_output=True, text=True, check=True).stdout
    places = [Path("/sys/class/net", config.bridge), config.run_dir]
    paths = [str(place) for place in places if place.exists()]
    paths += [str(group) for group in Path("/sys/fs/cgroup").glob(f"*/ondol-{instance}")]
    paths += ["mounts"] if instance in Path("/proc/self/mountinfo").read_text() else []
    return paths + (["tables"] if instance in tables else [])


RULES_AMONG_MANY_DESCRIPTORS = """
import os, resource
from ondol.node import linux
from ondol.node.network import nft
resource.setrlimit(resource.RLIMIT_NOFILE, (2048, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
held = [os.open(os.devnull, os.O_RDONLY) for _ in range(1100)]
def program():
    linux.unshare(linux.CLONE_NEWNET)
    nft.run("add table ip among-many")
    return nft.run("list tables")
print(linux.in_own_thread(program))
"""


def test_rules_are_programmed_however_many_descriptors_are_open() -> None:
    """A process with more descriptors than select() can watch programs rules and lives on."""
    if os.geteuid() != 0:
        pytest.skip("needs root")
    done = subprocess.run(
        [sys.executable, "-c", RULES_AMONG_MANY_DESCRIPTORS], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout.strip()) == (0, "table ip among-many"), done.stderr


def test_port_names_fit_the_kernel() -> None:
    """Interface names have at most 15 characters."""
    network = sandbox.Network(
        "abcdef",
        "ondolabcdef",
        ipaddress.IPv4Address("10.0.0.1"),
        ipaddress.IPv4Network("10.0.0.0/24"),
        Path("/x"),
        ipaddress.IPv4Network("10.0.1.0/24"),
    )
    assert len(network.port("b6f6d1a2-0000-0000-0000-000000000000")) == 15
