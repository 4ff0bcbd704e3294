"""The mesh for real: an API server, the controller, Envoy, and pods that are network namespaces."""

from __future__ import annotations

import json
import re
import socket
import sys
from typing import Any

import anyio
import anyio.to_thread
from tests.mesh import live as real
from tests.mesh.live import Live, counter, ports, split, start_mesh, web

from ondol.api import conditions, objects, resources
from ondol.base import errors
from ondol.base.unix_http import UnixConnection
from ondol.contracts import proxy
from ondol.contracts.mesh import GATEWAY, POD_PROGRAMMED, VIRTUAL_SERVICE
from ondol.mesh import process

pytestmark = real.MARKS


async def test_a_weighted_split_is_counted(live: Live) -> None:
    """Of 400 calls, about one in ten goes to the second version, and none fails."""
    await web(live)
    route = {"hosts": ["web"], "http": [split(("v1", 90), ("v2", 10))]}
    await live.rule(VIRTUAL_SERVICE, "web", route)
    counts = ports(await live.call("client", *[{}] * 400))
    assert counts[8001] + counts[8002] == 400
    assert 15 <= counts[8002] <= 75


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
    """Two failures are retried away, three are not; what is slow is cut off, or only what has not begun."""
    await web(live)
    retries = {"attempts": 2, "retryOn": "5xx", "backoff": "1ms"}
    spec = {"hosts": ["web"], "http": [split(("v1", 0), timeout="0.3s", retries=retries)]}
    await live.rule(VIRTUAL_SERVICE, "web", spec)
    answers = await live.call("client", {"path": "/fail/2/a"}, {"path": "/fail/3/b"}, {"path": "/slow/2"})
    assert [answer["status"] for answer in answers] == [200, 503, 504]
    assert 0.25 < answers[2]["took_s"] < 1
    # What Knative's `timeoutSeconds` becomes: an answer that has begun may go on.
    once = {"attempts": 2, "retryOn": "connect-failure", "perTryTimeout": "0.3s"}
    await live.rule(VIRTUAL_SERVICE, "web", {"hosts": ["web"], "http": [split(("v1", 0), retries=once)]})
    assert await live.statuses("client", {"path": "/slow/1"}, {"path": "/begun/0.6"}) == [504, 200]
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
    reported = await live.rule(VIRTUAL_SERVICE, "web", bad, status="False")
    condition = conditions.get(reported, "Accepted") or {}
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
    condition = await live.rule(VIRTUAL_SERVICE, "web", nonsense, status="False")
    assert "exactly one of" in (conditions.get(condition, "Accepted") or {})["message"]
    missing = {"hosts": ["web"], "http": [split(("v9", 0))]}
    condition = await live.rule(VIRTUAL_SERVICE, "web", missing)
    assert (conditions.get(condition, "PassedAnalysis") or {})["reason"] == "KIA1107"
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


async def test_a_busy_gateway_port_is_served_once_it_is_free(live: Live) -> None:
    """Refused while another holds it, without sharing it; tried again without a new write."""
    with socket.create_server(("127.0.0.1", 0), reuse_port=True) as blocker:
        port = blocker.getsockname()[1]
        server = {"port": {"number": port, "name": "http", "protocol": "HTTP"}, "hosts": ["*"]}
        spec = {"selector": {"istio": "ingressgateway"}, "servers": [server]}
        condition = await live.rule(GATEWAY, "own", spec, status="False")
        assert "in use" in (conditions.get(condition, "Accepted") or {})["message"]
        route = {"hosts": ["own.example"], "gateways": ["own"], "http": [{"directResponse": {"status": 203}}]}
        document = {"kind": "VirtualService", "metadata": {"name": "own", "namespace": "default"}}
        api = {"apiVersion": VIRTUAL_SERVICE.api_version}
        await live.client.apply(VIRTUAL_SERVICE, {**api, **document, "spec": route})

    async def served() -> bool:
        gateway = await live.client.get(GATEWAY, "own", "default")
        return conditions.is_true(gateway, "Programmed") and conditions.is_true(gateway, "Accepted")

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
    command = [sys.executable, real.TRAFFIC, "call"]
    requests = [
        {"address": "127.0.0.1", "port": live.config.ingress_port, "host": host}
        for host in ("shop.localhost", "x.localhost")
    ]
    result = await anyio.run_process(command, input="\n".join(map(json.dumps, requests)).encode())
    assert [json.loads(line)["status"] for line in result.stdout.splitlines()] == [200, 404]


async def test_parts_of_the_platform_call_services_as_pods_do(live: Live) -> None:
    """At a socket that only root may open: rules hold, names are short or whole, others are not served."""
    await web(live)
    await live.rule(VIRTUAL_SERVICE, "web", {"hosts": ["web"], "http": [split(("v1", 0))]})
    assert live.config.outbound_dir is not None
    place = live.config.outbound_dir / proxy.outbound_socket(80)
    assert not place.exists(), "nobody calls yet"
    caller = {"apiVersion": "v1", "kind": "Service", "spec": {"ports": [{"name": "http", "port": 80}]}}
    metadata = {"name": "caller", "labels": {proxy.CALLS_OUT: "true"}}
    await live.client.create(resources.SERVICE, {**caller, "metadata": metadata}, "default")

    async def is_open() -> bool:
        return place.exists()

    await live.world.eventually(is_open, why="the part that calls to have its socket")

    def call(host: str) -> tuple[int, bytes]:
        connection = UnixConnection(str(place), timeout=10)
        connection.request("GET", "/", headers={"Host": host})
        answer = connection.getresponse()
        body = answer.read()
        connection.close()
        return answer.status, body

    assert place.stat().st_mode & 0o777 == 0o600
    for host in ("web.default.svc.cluster.local", "web.default", "web.default.svc.cluster.local:80"):
        status, body = await anyio.to_thread.run_sync(call, host)
        assert (status, json.loads(body)["port"]) == (200, 8001)
    assert (await anyio.to_thread.run_sync(call, "elsewhere.example"))[0] == 503


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

    async def removed() -> bool:
        return await live.statuses("client", {}) == [503]

    await live.world.eventually(removed, why="the endpoints to be gone")


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
