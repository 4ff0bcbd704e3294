"""What real containers use, as the kubelet's pages tell it: also of those that live for a moment."""

from __future__ import annotations

import contextlib
import functools
import re
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest
from prometheus_client.parser import text_string_to_metric_families

from ondol.base.unix_http import UnixConnection
from ondol.node.config import NodeConfig

pytestmark = [pytest.mark.anyio, pytest.mark.root]

Page = dict[tuple[str, frozenset[tuple[str, str]]], float]
_BURN = "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done"


def _read(socket: Path, path: str) -> Page:
    headers = {"Authorization": "Bearer secret", "Connection": "close"}
    with contextlib.closing(UnixConnection(str(socket), timeout=10)) as connection:
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        text = answer.read().decode()
    assert answer.status == 200, text
    rows = [
        ((each.name, frozenset(each.labels.items())), each.value)
        for family in text_string_to_metric_families(text)
        for each in family.samples
    ]
    assert len(rows) == len(dict(rows)), "a series stands there twice"
    return dict(rows)


async def page(config: NodeConfig, name: str = "/cadvisor") -> Page:
    return await anyio.to_thread.run_sync(functools.partial(_read, config.api_socket, f"/metrics{name}"))


def total(read: Page, family: str, **labels: str) -> float:
    """The sum of the samples with these labels."""
    return sum(value for (name, own), value in read.items() if name == family and labels.items() <= set(own))


CPU = "container_cpu_usage_seconds_total"


async def test_the_use_of_a_moment_is_told_after_its_end(world: Any) -> None:
    """Of pods that have ended, and of one that is gone: to the last, and the same each time."""
    async with world.node():
        for name in ("a", "b"):
            await world.create(world.pod(name, _BURN, restartPolicy="Never"))
        for name in ("a", "b"):
            await world.phase(name, "Succeeded")
        await world.delete("b")
        first, second = await page(world.config), await page(world.config)
        for name in ("a", "b"):
            used = total(first, CPU, pod=name, container="main")
            assert used > 0
            assert used == total(second, CPU, pod=name, container="main")
            assert total(first, CPU, pod=name, container="") >= used
            assert not total(first, "container_memory_usage_bytes", pod=name, container="main")
        own = total(first, CPU, id=world.config.cgroup)
        assert own >= sum(total(first, CPU, pod=name, container="main") for name in ("a", "b"))
        resource = await page(world.config, "/resource")
        assert total(resource, CPU, pod="a", container="main") == total(first, CPU, pod="a", container="main")


async def test_a_container_that_runs_is_told_with_its_limits_and_its_network(world: Any) -> None:
    """Memory, limits, open files, and what its interface has carried; each run is a series of its own."""
    limits = {"resources": {"limits": {"cpu": "500m", "memory": "64Mi"}}}
    async with world.node():
        await world.create(world.pod("a", f"{_BURN}; sleep 1000", container=limits))
        await world.ready("a")
        read = await page(world.config)
        main = {"pod": "a", "container": "main", "namespace": "default", "image": "ondol.test/tools:1"}
        assert total(read, "container_memory_working_set_bytes", **main) > 0
        assert total(read, "container_spec_memory_limit_bytes", **main) == 64 * 1024 * 1024
        assert total(read, "container_spec_cpu_quota", **main) == 50_000
        assert total(read, "container_spec_cpu_period", **main) == 100_000
        assert total(read, "container_processes", **main) >= 1
        assert total(read, "container_file_descriptors", **main) >= 1
        assert total(read, "container_start_time_seconds", **main) > 1_600_000_000
        interfaces = [
            dict(own)["interface"]
            for name, own in read
            if name == "container_network_receive_bytes_total"
            if ("pod", "a") in own
        ]
        assert interfaces == ["eth0"]
        assert (
            total(read, "machine_memory_bytes")
            > total(read, "container_memory_working_set_bytes", id="/")
            > 0
        )
        identities = {dict(own)["id"] for name, own in read if name == CPU and ("container", "main") in own}
        assert all(
            re.fullmatch(rf"{world.config.cgroup}/pod[-0-9a-f]+/[0-9a-f]{{64}}", each) for each in identities
        )


async def test_what_the_node_does_is_on_its_own_page(world: Any) -> None:
    """The kubelet's families; each answer of a probe is counted."""
    probe = {"readinessProbe": {"exec": {"command": ["true"]}, "periodSeconds": 1}}
    async with world.node():
        await world.create(world.pod("a", container=probe))
        await world.ready("a")
        read, probes = await page(world.config, ""), await page(world.config, "/probes")
        assert total(read, "kubelet_node_name", node=world.config.name) == 1
        assert total(read, "kubelet_running_pods") == 1
        assert total(read, "kubelet_running_containers", container_state="running") == 1
        assert total(read, "kubelet_pod_start_duration_seconds_count") == 1
        assert total(read, "kubelet_runtime_operations_total", operation_type="create_container") >= 1
        assert total(read, "kubelet_pod_worker_duration_seconds_count", operation_type="create") >= 1
        assert total(probes, "prober_probe_total", probe_type="Readiness", result="successful", pod="a") >= 1
