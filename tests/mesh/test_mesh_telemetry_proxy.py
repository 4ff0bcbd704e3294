"""Istio's standard metrics of real calls: what the proxy counts, as `observe` shows it."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Mapping
from typing import Any, Final

import anyio
import anyio.to_thread
from prometheus_client.parser import text_string_to_metric_families
from tests.mesh import live as real
from tests.mesh.guarded import guarding
from tests.mesh.live import Live, split, web

from ondol.api import conditions
from ondol.contracts import telemetry
from ondol.contracts.mesh import AUTHORIZATION_POLICY, TELEMETRY, VIRTUAL_SERVICE
from ondol.mesh import flags, lines, process
from ondol.observe.metrics import istio

pytestmark = real.MARKS
Series = Mapping[str, str]


def counted(live: Live, name: str, **labels: str) -> dict[str, float]:
    """The samples of a metric that bear the labels: their values by their labels, as JSON."""
    _, body = process.admin_get(live.config.admin_address, istio.COUNTED)
    page = istio.page(body.decode(), "test")
    return {
        json.dumps(sample.labels): sample.value
        for family in text_string_to_metric_families(page)
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    }


async def one(live: Live, name: str, value: float, **labels: str) -> Series:
    """The labels of the only series that bears these, once it has the value."""

    async def is_there() -> bool:
        return list(counted(live, name, **labels).values()) == [value]

    await live.world.eventually(is_there, why=f"{name} of {labels} to be {value}")
    (series,) = counted(live, name, **labels)
    parsed: Series = json.loads(series)
    return parsed


def greeting(address: str) -> str:
    """What a server that speaks first says to whoever is outside the mesh."""
    with socket.create_connection((address, 9000), timeout=5) as raw:
        return raw.recv(100).decode()


async def written(live: Live, count: int) -> list[str]:
    """The lines of the proxy's log, once there are so many."""
    assert live.config.access_log is not None
    log = anyio.Path(live.config.access_log)

    async def is_there() -> bool:
        return await log.exists() and len((await log.read_text()).splitlines()) >= count

    await live.world.eventually(is_there, why=f"{count} lines to be written")
    return (await log.read_text()).splitlines()


async def test_requests_have_all_of_istios_labels(live: Live) -> None:
    """Who calls, who is called and how it went; calls that reach nobody have an unknown destination."""
    await web(live)
    await live.rule(VIRTUAL_SERVICE, "web", {"hosts": ["web"], "http": [split(("v1", 1))]})
    (answer,) = await live.call("client", {})
    assert not any("ondol" in name for name in answer["seen"]["headers"])
    calls = [{}, {"host": "nobody.invalid", "address": "10.101.250.9"}]
    assert await live.statuses("client", *calls) == [200, 503]
    series = await one(live, telemetry.REQUESTS, 2, destination_service_name="web")
    assert series == {
        "reporter": "source",
        "source_workload": "client",
        "source_workload_namespace": "default",
        "source_principal": "spiffe://cluster.local/ns/default/sa/default",
        "source_app": "client",
        "source_version": "unknown",
        "source_canonical_service": "client",
        "source_canonical_revision": "latest",
        "source_cluster": "Kubernetes",
        "destination_workload": "web-v1",
        "destination_workload_namespace": "default",
        "destination_principal": "spiffe://cluster.local/ns/default/sa/default",
        "destination_app": "web-v1",
        "destination_version": "v1",
        "destination_canonical_service": "web-v1",
        "destination_canonical_revision": "v1",
        "destination_cluster": "Kubernetes",
        "destination_service": "web.default.svc.cluster.local",
        "destination_service_name": "web",
        "destination_service_namespace": "default",
        "request_protocol": "http",
        "response_code": "200",
        "grpc_response_status": "",
        "response_flags": "-",
        "connection_security_policy": "unknown",
    }
    assert set(series) == set(telemetry.LABELS)
    unknown = await one(live, telemetry.REQUESTS, 1, response_code="503")
    assert unknown["destination_workload"] == "unknown"
    assert unknown["destination_service_name"] == "PassthroughCluster"
    for name in (telemetry.DURATION, telemetry.REQUEST_BYTES, telemetry.RESPONSE_BYTES):
        of_web = await one(live, f"{name}_count", 2, destination_service_name="web")
        assert of_web["source_workload"] == "client"
        assert counted(live, f"{name}_bucket", le="+Inf", destination_service_name="web")


NAMES: Final = {
    "source_workload": "client",
    "source_version": "v7",
    "source_principal": "spiffe://cluster.local/ns/default/sa/client",
    "destination_workload": "web",
    "destination_principal": "spiffe://cluster.local/ns/default/sa/default",
    "destination_service": "web.default.svc.cluster.local",
    "request_protocol": "http",
}


async def tells_of_client(live: Live, reporter: str, security: str) -> None:
    """One side's series of what the client did: two requests, a call of gRPC, a connection."""
    by = {"reporter": reporter, "request_protocol": "http"}
    for code in ("200", "403"):
        series = await one(live, telemetry.REQUESTS, 1, response_code=code, **by)
        assert NAMES.items() <= series.items()
        assert series["connection_security_policy"] == security
    by["request_protocol"] = "grpc"
    assert (await one(live, telemetry.REQUESTS, 1, **by))["grpc_response_status"] == "0"
    for name in (telemetry.REQUEST_MESSAGES, telemetry.RESPONSE_MESSAGES):
        assert (await one(live, name, 1, **by))["source_workload"] == "client"
    by |= {"request_protocol": "tcp", "connection_security_policy": security}
    for name in (telemetry.TCP_OPENED, telemetry.TCP_CLOSED):
        series = await one(live, name, 1, **by)
        assert series["source_principal"] == NAMES["source_principal"]
        assert series["destination_service_name"] == "web"
        assert "response_code" not in series
    await one(live, telemetry.TCP_SENT, len("hello from the server\n"), **by)


async def lines_are_explained(live: Live) -> None:
    """The destination's says which policy refused, and the caller's where to look."""
    listed = {kind: (await live.client.list(each)).items for kind, each in flags.RESOURCES.items()}
    explainer = flags.Explainer(listed)
    shown = {
        (line.reporter, line.code): explainer.explain(line)
        for text in await written(live, 8)
        if (line := lines.parsed(text)) is not None
    }
    refusal = "RBAC: access denied: no rule lets it in of AuthorizationPolicy default/web"
    assert shown["destination", 403] == [refusal]
    assert shown["source", 200] == shown["destination", 200] == []
    assert "see its own lines" in shown["source", 403][0]


async def test_both_sides_of_a_guarded_pod_count(live: Live) -> None:
    """The destination knows the caller by its certificate, and its workload too where requests come."""
    async with guarding(live) as guarded:
        await guarded.account("client")
        await live.pod("client", account="client", version="v7")
        await guarded.server("web", ("http", 8001), ("tcp-greet", 9000), ("grpc", 9100))
        # A rule that asks for paths never holds for what is not HTTP, whatever else it has.
        operations = [{"paths": ["/ok", "/echo/*"]}, {"ports": ["9000"]}]
        rules = [{"to": [{"operation": each}]} for each in operations]
        spec = {"selector": {"matchLabels": {"app": "web"}}, "rules": rules}
        await guarded.rule(AUTHORIZATION_POLICY, "web", spec)
        await guarded.rule(TELEMETRY, "lines", {"accessLogging": [{"providers": [{"name": "json"}]}]})
        await live.programmed("client")
        await guarded.turned("web")
        address = await guarded.cluster_address("web")
        request = {"host": "web:8001", "port": 8001, "address": address}
        refused = {**request, "path": "/no", "headers": {"x-ondol-caller": "a|b|c|d|e|f|g"}}
        assert await live.statuses("client", {**request, "path": "/ok"}, refused) == [200, 403]
        (spoken, greeted) = await live.call(
            "client",
            {"host": "web:9100", "port": 9100, "address": address, "grpc": True},
            {"port": 9000, "address": address, "raw": True},
        )
        assert spoken["text"] == "HELLO"
        assert greeted["text"].startswith("hello")
        assert (await anyio.to_thread.run_sync(greeting, live.addresses["web"])).startswith("hello")
        for reporter, security in (("source", "unknown"), ("destination", "mutual_tls")):
            await tells_of_client(live, reporter, security)
        for name in (telemetry.TCP_OPENED, telemetry.TCP_CLOSED):
            series = await one(live, name, 1, reporter="destination", connection_security_policy="none")
            assert (series["source_principal"], series["destination_service_name"]) == ("unknown", "web")
        await lines_are_explained(live)


async def test_calls_through_the_ingress_come_from_its_gateway(live: Live) -> None:
    """Under the names that Istio's has; a request that no rule takes has no destination."""
    await web(live)
    await live.rule(
        VIRTUAL_SERVICE,
        "web",
        {"hosts": ["shop.example"], "gateways": ["ondol-system/ingress"], "http": [split(("v1", 1))]},
    )

    def ask(host: str) -> int:
        connection = http.client.HTTPConnection("127.0.0.1", live.config.ingress_port, timeout=5)
        connection.request("GET", "/", headers={"host": host})
        status = connection.getresponse().status
        connection.close()
        return status

    assert await anyio.to_thread.run_sync(ask, "shop.example") == 200
    assert await anyio.to_thread.run_sync(ask, "nobody.example") == 404
    series = await one(live, telemetry.REQUESTS, 1, response_code="200")
    assert series["source_workload"] == series["source_app"] == "istio-ingressgateway"
    assert series["source_workload_namespace"] == "istio-system"
    assert series["destination_workload"] == "web-v1"
    series = await one(live, telemetry.REQUESTS, 1, response_code="404")
    assert (series["destination_service"], series["response_flags"]) == ("unknown", "NR")


async def test_a_telemetry_changes_labels_lines_and_spans(live: Live) -> None:
    """In the proxy itself; an expression that it cannot read is told, and the last good version holds."""
    await web(live)
    await live.rule(VIRTUAL_SERVICE, "web", {"hosts": ["web"], "http": [split(("v1", 1))]})
    await live.pod("quiet")
    await live.programmed("quiet")
    overrides = [
        {
            "match": {"metric": "REQUEST_COUNT", "mode": "CLIENT"},
            "tagOverrides": {
                "request_host": {"value": "request.host"},
                "source_app": {"value": "'mine'"},
                "response_code": {"operation": "REMOVE"},
            },
        },
        {"match": {"metric": "REQUEST_DURATION"}, "disabled": True},
    ]
    spec: dict[str, Any] = {
        "selector": {"matchLabels": {"app": "client"}},
        "metrics": [{"overrides": overrides}],
        "accessLogging": [
            {"providers": [{"name": "json"}], "filter": {"expression": "response.code >= 400"}},
        ],
    }
    await live.rule(TELEMETRY, "client", spec)
    assert await live.statuses("client", {}, {"path": "/fail/1/told"}) == [200, 503]
    assert await live.statuses("quiet", {"path": "/fail/1/untold"}) == [503]
    series = await one(live, telemetry.REQUESTS, 2, request_host="web", destination_workload="web-v1")
    assert series["source_app"] == "mine"
    assert "response_code" not in series
    assert list(counted(live, f"{telemetry.DURATION}_count", source_workload="client")) == []
    (line,) = map(json.loads, await written(live, 1))
    assert (line["path"], line["workload"], line["response_code"]) == ("/fail/1/told", "default/client", 503)
    wrong = {**spec, "accessLogging": [{"filter": {"expression": "no such ("}}]}
    refused = await live.rule(TELEMETRY, "client", wrong, "False")
    condition = conditions.get(refused, "Programmed") or {}
    assert condition["reason"] == "RejectedByProxy"
