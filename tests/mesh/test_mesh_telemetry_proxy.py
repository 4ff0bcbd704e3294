"""Istio's standard metrics of real calls: what the proxy counts, as `observe` shows it."""

from __future__ import annotations

import http.client
import json
from collections.abc import Mapping
from typing import Any

import anyio.to_thread
from prometheus_client.parser import text_string_to_metric_families
from tests.mesh import live as real
from tests.mesh.guarded import guarding
from tests.mesh.live import Live, split, web

from ondol.contracts import telemetry
from ondol.contracts.mesh import AUTHORIZATION_POLICY, VIRTUAL_SERVICE
from ondol.mesh import process
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


async def test_requests_have_all_of_istios_labels(live: Live) -> None:
    """Who calls, who is called and how it went; calls that reach nobody have an unknown destination."""
    await web(live)
    await live.rule(VIRTUAL_SERVICE, "web", {"hosts": ["web"], "http": [split(("v1", 1))]})
    assert await live.statuses("client", {}, {}, {"host": "nobody.invalid", "address": "10.101.250.9"}) == [
        200,
        200,
        503,
    ]
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
