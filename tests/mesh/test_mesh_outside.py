"""Hosts outside for real: names that Envoy resolves, TLS by server name, workloads, and closed scopes."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from tests.certificates import certify
from tests.mesh import live as real
from tests.mesh import outside
from tests.mesh.live import Live, Servers, counter, ports, web

from ondol.api import conditions
from ondol.contracts.mesh import DESTINATION_RULE, SERVICE_ENTRY, SIDECAR, VIRTUAL_SERVICE, WORKLOAD_ENTRY

pytestmark = real.MARKS
HOST: Final = "api.outside.test"
HTTP: Final = {"number": 80, "name": "http", "protocol": "HTTP", "targetPort": 8001}
TLS: Final = {"number": 443, "name": "tls", "protocol": "TLS", "targetPort": outside.TLS_PORT}


@pytest.fixture(scope="module", autouse=True)
def _outside(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """TLS and a name server beside the other servers."""
    folder = tmp_path_factory.mktemp("outside")
    certify(folder, HOST)
    script = str(Path(outside.__file__))
    command = ["ip", "netns", "exec", servers.name, sys.executable, script, servers.address]
    started = subprocess.Popen([*command, str(folder / "both.pem")], stdout=subprocess.PIPE)
    assert started.stdout is not None
    assert started.stdout.readline() == b"serving\n"
    yield
    started.kill()
    started.communicate()


def entry(**more: Any) -> dict[str, Any]:
    return {"hosts": [HOST], "ports": [HTTP, TLS], "resolution": "DNS", **more}


async def client(live: Live) -> None:
    await live.pod("client")
    await live.programmed("client")


async def address(live: Live, name: str = "api") -> str:
    """The automatic address of an entry."""

    async def is_there() -> bool:
        written = await live.client.get(SERVICE_ENTRY, name, "default")
        return bool(written.get("status", {}).get("addresses"))

    await live.world.eventually(is_there, why="an address")
    (listed,) = (await live.client.get(SERVICE_ENTRY, name, "default"))["status"]["addresses"]
    return str(listed["value"])


async def test_a_host_outside_has_rules_as_a_service_has(live: Live) -> None:
    """Its name is resolved by the proxy; timeouts, faults and retries hold, and its calls are counted."""
    await client(live)
    await live.rule(SERVICE_ENTRY, "api", entry())
    here = {"address": "198.51.100.1", "host": HOST}
    assert ports(await live.call("client", here)) == {8001: 1}
    route = [{"destination": {"host": HOST, "port": {"number": 80}}}]
    abort = {"abort": {"httpStatus": 418, "percentage": {"value": 100}}}
    spec = {
        "hosts": [HOST],
        "http": [
            {"match": [{"uri": {"prefix": "/tea"}}], "fault": abort, "route": route},
            {
                "route": route,
                "timeout": "0.3s",
                "retries": {"attempts": 2, "retryOn": "5xx", "backoff": "1ms"},
            },
        ],
    }
    await live.rule(VIRTUAL_SERVICE, "api", spec)
    paths = ({**here, "path": path} for path in ("/tea", "/slow/2", "/fail/2/outside"))
    assert await live.statuses("client", *paths) == [418, 504, 200]

    async def counted() -> bool:
        return counter(live, rf"cluster.outbound\|80\|\|{HOST}\|default.upstream_rq_total") >= 2

    await live.world.eventually(counted, why="its calls to be counted")


async def test_tls_is_begun_for_it(live: Live) -> None:
    """Plain HTTP of the pod goes on as TLS with the host's name (egress TLS origination)."""
    await client(live)
    await live.rule(SERVICE_ENTRY, "api", entry(ports=[{**HTTP, "targetPort": outside.TLS_PORT}]))
    tls = {"mode": "SIMPLE", "insecureSkipVerify": True}
    policy = {"portLevelSettings": [{"port": {"number": 80}, "tls": tls}]}
    await live.rule(DESTINATION_RULE, "api", {"host": HOST, "trafficPolicy": policy})
    (answer,) = await live.call("client", {"address": "198.51.100.1", "host": HOST})
    assert (answer["status"], answer["seen"]["host"], answer["seen"]["sni"]) == (200, HOST, HOST)
    # Against the authorities of this machine the test's own certificate does not hold.
    policy = {"portLevelSettings": [{"port": {"number": 80}, "tls": {"mode": "SIMPLE"}}]}
    await live.rule(DESTINATION_RULE, "api", {"host": HOST, "trafficPolicy": policy})
    assert await live.statuses("client", {"address": "198.51.100.1", "host": HOST}) == [503]


def tls_call(live: Live, name: str, to: str, port: int = 443) -> str:
    """What a TLS client of the pod is told: the answer's first line, or why there was none."""
    program = (
        "import ssl, socket, sys\n"
        "context = ssl._create_unverified_context()\n"
        "with socket.create_connection((sys.argv[2], int(sys.argv[3])), timeout=5) as raw:\n"
        "    with context.wrap_socket(raw, server_hostname=sys.argv[1]) as tls:\n"
        "        tls.sendall(b'GET / HTTP/1.1\\r\\nhost: ' + sys.argv[1].encode() + b'\\r\\n\\r\\n')\n"
        "        print(tls.recv(100).splitlines()[0].decode())\n"
    )
    command = ["ip", "netns", "exec", live.pods["client"], sys.executable, "-c", program, name, to, str(port)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=20)
    return done.stdout.strip() or (done.stderr.strip().splitlines() or [""])[-1].partition(":")[0]


async def test_tls_goes_by_address_and_by_name(live: Live) -> None:
    """At the entry's own address, and by the name with which it begins at any other."""
    await client(live)
    await live.rule(SERVICE_ENTRY, "api", entry())
    own = await address(live)
    assert tls_call(live, HOST, own) == "HTTP/1.1 200 OK"
    assert tls_call(live, HOST, "198.51.100.1") == "HTTP/1.1 200 OK"


async def test_names_resolved_when_they_are_called(live: Live) -> None:
    """DYNAMIC_DNS: whatever is below the domain, by Host header and by server name."""
    await client(live)
    dynamic = {"hosts": ["*.outside.test"], "resolution": "DYNAMIC_DNS", "location": "MESH_EXTERNAL"}
    plain = {"number": 8001, "name": "http", "protocol": "HTTP"}
    secure = {"number": outside.TLS_PORT, "name": "tls", "protocol": "TLS"}
    await live.rule(SERVICE_ENTRY, "api", {**dynamic, "ports": [plain, secure]})
    calls = [{"address": "198.51.100.1", "port": 8001, "host": f"{name}.outside.test:8001"} for name in "ab"]
    assert ports(await live.call("client", *calls)) == {8001: 2}
    assert tls_call(live, "c.outside.test", "198.51.100.1", outside.TLS_PORT) == "HTTP/1.1 200 OK"


async def test_what_is_not_registered_is_refused(live: Live) -> None:
    """502 for HTTP and an end for connections under REGISTRY_ONLY; a wildcard's names pass where they go."""
    await client(live)
    closed = {"outboundTrafficPolicy": {"mode": "REGISTRY_ONLY"}}
    plain = {"address": live.servers.address, "port": 80, "host": "x.example"}
    raw = {"address": live.servers.address, "port": 9000, "raw": True}
    assert (await live.call("client", raw))[0]["text"].startswith("hello")
    await live.rule(SIDECAR, "closed", closed)
    await live.programmed("client")
    answers = await live.call("client", plain, raw)
    assert answers[0]["status"] == 502
    assert not answers[1].get("text")
    wild = {"hosts": ["*.outside.test"], "resolution": "NONE"}
    secure = {"number": outside.TLS_PORT, "name": "tls", "protocol": "TLS"}
    await live.rule(SERVICE_ENTRY, "wild", {**wild, "ports": [secure]})
    there = (live.servers.address, outside.TLS_PORT)
    assert tls_call(live, "a.outside.test", *there) == "HTTP/1.1 200 OK"
    assert not tls_call(live, "a.example", *there).startswith("HTTP")
    mail = {"hosts": ["mail.example"], "addresses": [f"{live.servers.address}/32"], "resolution": "NONE"}
    await live.rule(
        SERVICE_ENTRY, "mail", {**mail, "ports": [{"number": 9000, "name": "tcp", "protocol": "TCP"}]}
    )
    assert (await live.call("client", raw))[0]["text"].startswith("hello")


async def test_a_workload_of_a_service(live: Live) -> None:
    """A process that is no pod is called as one of the Service's pods, and is a subset by its labels."""
    await web(live)
    selector = {"metadata": {"labels": {"x": "y"}}, "spec": {"selector": {"app": "web"}}}
    from ondol.api import resources  # noqa: PLC0415
    from ondol.client import PatchType  # noqa: PLC0415

    await live.client.patch(resources.SERVICE, "web", "default", patch=selector, patch_type=PatchType.MERGE)
    labels = {"app": "web", "version": "vm"}
    machine = {"address": live.servers.address, "labels": labels, "ports": {"http": 8002}}
    await live.rule(WORKLOAD_ENTRY, "vm", machine)
    subsets = [{"name": "vm", "labels": {"version": "vm"}}]
    await live.rule(DESTINATION_RULE, "web", {"host": "web", "subsets": subsets})
    route = [{"destination": {"host": "web", "subset": "vm"}}]
    await live.rule(VIRTUAL_SERVICE, "web", {"hosts": ["web"], "http": [{"route": route}]})
    assert ports(await live.call("client", *[{}] * 5)) == {8002: 5}


async def test_a_refused_entry_is_told(live: Live) -> None:
    """In words, and nothing is made of it."""
    spec = entry(resolution="STATIC", endpoints=[{"address": "127.0.0.1"}])
    reported = await live.rule(SERVICE_ENTRY, "api", spec, status="False")
    assert "machine's own address" in (conditions.get(reported, "Accepted") or {})["message"]
