"""What the xDS server counts, as Prometheus reads it: clients, pushes, refusals, times and sizes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import anyio
import pytest
from envoy.service.discovery.v3 import discovery_pb2 as discovery
from prometheus_client.parser import text_string_to_metric_families

from ondol.base import metrics
from ondol.base.clock import ManualClock
from ondol.mesh.server import Hub
from ondol.mesh.xds import types
from ondol.mesh.xds.types import Resource, Snapshot

pytestmark = pytest.mark.anyio


def samples(hub: Hub) -> dict[tuple[str, str], float]:
    """By name and type; of buckets none."""
    page = metrics.text(hub.families()).decode()
    return {
        (sample.name, sample.labels.get("type", "")): sample.value
        for family in text_string_to_metric_families(page)
        for sample in family.samples
        if "le" not in sample.labels
    }


class Proxy:
    """A client of one stream: asks for clusters, and answers what it is sent when it is told to."""

    def __init__(self, clock: ManualClock, *, takes_s: float = 0.0) -> None:
        self._clock = clock
        self._takes_s = takes_s
        self.sent: list[discovery.DeltaDiscoveryResponse] = []
        self.outgoing, self._messages = anyio.create_memory_object_stream[Any](10)

    async def messages(self) -> AsyncIterator[discovery.DeltaDiscoveryRequest]:
        yield discovery.DeltaDiscoveryRequest(type_url=types.CLUSTER)
        async with self._messages:
            async for message in self._messages:
                yield message

    async def write(self, message: discovery.DeltaDiscoveryResponse) -> None:
        await self._clock.sleep(self._takes_s)
        self.sent.append(message)

    async def answer(self, error: str = "") -> None:
        message = discovery.DeltaDiscoveryRequest(type_url=types.CLUSTER, response_nonce=self.sent[-1].nonce)
        if error:
            message.error_detail.message = error
        await self.outgoing.send(message)
        await anyio.wait_all_tasks_blocked()


def clusters(version: str) -> Snapshot:
    return Snapshot({types.CLUSTER: {"a": Resource("a", version, b"x" * 2000)}})


async def test_pushes_refusals_and_times_are_counted() -> None:
    """By type under pilot's names; a client that has left is no longer among those connected."""
    clock = ManualClock()
    hub = Hub(clock=clock)
    proxy = Proxy(clock, takes_s=2.0)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(hub.converse, proxy.messages(), proxy)
        await anyio.wait_all_tasks_blocked()
        hub.publish(clusters("1"))
        await anyio.wait_all_tasks_blocked()
        await clock.advance(2.0)
        await clock.advance(1.0)
        await proxy.answer()
        hub.publish(clusters("2"))
        await anyio.wait_all_tasks_blocked()
        await clock.advance(2.0)
        await proxy.answer(error="no such filter")
        counted = samples(hub)
        proxy.outgoing.close()
    assert counted["pilot_xds", ""] == 1
    assert counted["pilot_xds_pushes", "cds"] == 2
    assert counted["pilot_xds_pushes", "lds"] == 0
    assert counted["pilot_total_xds_rejects", "cds"] == 1
    assert counted["pilot_xds_push_time_sum", "cds"] == 4.0
    assert counted["pilot_xds_config_size_bytes_count", "cds"] == 2
    assert counted["pilot_xds_config_size_bytes_sum", "cds"] == sum(m.ByteSize() for m in proxy.sent) > 4000
    assert counted["pilot_proxy_convergence_time_count", ""] == 2
    assert counted["pilot_proxy_convergence_time_sum", ""] == 5.0
    assert samples(hub)["pilot_xds", ""] == 0
