"""What grows with the size of the platform: a new Knative service beside many, a write watched by many."""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import re
import statistics
import time
from collections.abc import Awaitable, Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import anyio
import api_load
import yaml

from ondol.api import conditions
from ondol.api import resources as kinds
from ondol.client import Client
from ondol.compose import platform
from ondol.compose.instance import Instance
from ondol.contracts import serving

EXISTING = 300
NEW = 10
AT_ONCE = 10
"""Services that are created together while the platform is filled: each starts a pod."""
WATCHERS = 100
TIMED = 4
"""Watchers whose events are timed; the others only read, so that the reader is not what is measured."""
WRITES_A_SECOND = 500
WRITING_S = 10.0
_CONFIG_MAPS = "/api/v1/namespaces/default/configmaps"
_WRITTEN_AT = re.compile(rb'"writtenAt":"(\d+)"')


async def cost_of_services(
    client: Client, instance: Instance, namespace: str, image: str
) -> dict[int, dict[str, float]]:
    """Processor seconds of each part for one more Knative service, beside none and beside `EXISTING`.

    From the creation until the service is ready, one after the other: the median of `NEW`. Nothing else
    happens meanwhile, all services before it are at zero.
    """
    costs = {}
    for existing in (0, EXISTING):
        await _fill(client, namespace, image, existing)
        await _at_zero(client, namespace)
        samples = [
            await _one_more(client, instance, namespace, f"new-{existing}-{number}", image)
            for number in range(NEW)
        ]
        costs[existing] = {part: statistics.median(s[part] for s in samples) for part in samples[0]}
    return costs


async def _one_more(
    client: Client, instance: Instance, namespace: str, name: str, image: str
) -> dict[str, float]:
    before = _used(instance)
    await client.apply(serving.SERVICE, _service(namespace, name, image))
    await _until(lambda: _all_ready(client, namespace, [name]))
    after = _used(instance)
    await _at_zero(client, namespace)
    return {part: used - before[part] for part, used in after.items()}


def _used(instance: Instance) -> dict[str, float]:
    return {part.name: part.cpu_s for part in platform.status(instance.data_dir).parts}


async def _fill(client: Client, namespace: str, image: str, count: int) -> None:
    for first in range(0, count, AT_ONCE):
        names = [f"old-{number}" for number in range(first, min(first + AT_ONCE, count))]
        for name in names:
            await client.apply(serving.SERVICE, _service(namespace, name, image))
        await _until(lambda names=names: _all_ready(client, namespace, names))  # type: ignore[misc]


async def _all_ready(client: Client, namespace: str, names: list[str]) -> bool:
    for name in names:
        if not conditions.is_true(await client.get(serving.SERVICE, name, namespace), "Ready"):
            return False
    return True


async def _at_zero(client: Client, namespace: str) -> None:
    async def no_pods() -> bool:
        return not (await client.list(kinds.POD, namespace)).items

    await _until(no_pods)
    await anyio.sleep(1.0)  # what follows from the last pod's end is not the next service's


async def _until(test: Callable[[], Awaitable[bool]], *, wait_s: float = 180.0) -> None:
    with anyio.fail_after(wait_s):
        while not await test():  # noqa: ASYNC110 - what is asked is another process
            await anyio.sleep(0.25)


def _service(namespace: str, name: str, image: str) -> dict[str, Any]:
    return {
        "apiVersion": "serving.knative.dev/v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "template": {
                "metadata": {"annotations": {"autoscaling.knative.dev/window": "6s"}},
                "spec": {"containers": [{"image": image}]},
            }
        },
    }


def watch_delivery(kubeconfig: Path) -> dict[str, float]:
    """From before a write is sent until a watcher has its event: median and p99 in ms, and the rate reached.

    The watchers read in a process of their own.
    """
    here, there = multiprocessing.Pipe()
    readers = multiprocessing.get_context("spawn").Process(target=_read, args=(kubeconfig, there))
    readers.start()
    here.recv()  # all watchers are connected
    rate = asyncio.run(_write(kubeconfig))
    here.send("done")
    delays_ms: list[float] = here.recv()
    readers.join()
    ranks = statistics.quantiles(delays_ms, n=100)
    return {"p50": ranks[49], "p99": ranks[98], "rate": rate, "events": float(len(delays_ms))}


async def _write(kubeconfig: Path) -> float:
    """Writes at an even rate over sixteen connections; how many were answered a second."""
    loads = await _open(kubeconfig, api_load.CONNECTIONS)
    began = time.perf_counter()
    count = int(WRITES_A_SECOND * WRITING_S)

    async def work(load: api_load.Load, first: int) -> None:
        for number in range(first, count, len(loads)):
            await asyncio.sleep(began + number / WRITES_A_SECOND - time.perf_counter())
            if await load.ask(_create(f"watched-{number}")) != 201:
                raise SystemExit("a write was refused")

    await asyncio.gather(*(work(load, first) for first, load in enumerate(loads)))
    rate = count / (time.perf_counter() - began)
    await asyncio.sleep(1.0)  # the last events are under way
    await loads[0].ask(api_load.request_of("DELETE", _CONFIG_MAPS + "?labelSelector=bench%3Dyes", b"{}"))
    return rate


async def _open(kubeconfig: Path, count: int) -> list[api_load.Load]:
    config = yaml.safe_load(await anyio.Path(kubeconfig).read_text(encoding="utf-8"))
    cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
    host, _, port = str(cluster["server"]).removeprefix("https://").partition(":")
    context = api_load.tls(cluster, user)
    loads = [api_load.Load(host, int(port), context, number) for number in range(count)]
    for load in loads:
        await load.open()
    return loads


def _create(name: str) -> bytes:
    document = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "labels": {"bench": "yes"}},
        "data": {"key": api_load.DATA, "writtenAt": str(time.monotonic_ns())},
    }
    return api_load.request_of("POST", _CONFIG_MAPS, json.dumps(document, separators=(",", ":")).encode())


def _read(kubeconfig: Path, reader: Connection) -> None:
    asyncio.run(_watch(kubeconfig, reader))


async def _watch(kubeconfig: Path, reader: Connection) -> None:
    loads = await _open(kubeconfig, WATCHERS)
    delays_ms: list[float] = []
    tasks = [asyncio.create_task(_follow(load, delays_ms)) for load in loads]
    await asyncio.sleep(1.0)
    reader.send("connected")
    await asyncio.to_thread(reader.recv)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    reader.send(delays_ms)


async def _follow(load: api_load.Load, delays_ms: list[float]) -> None:
    load.writer.write(api_load.request_of("GET", f"{_CONFIG_MAPS}?watch=true", b""))
    rest = b""
    while data := await load.reader.read(1 << 20):
        if load.number >= TIMED:
            continue
        now = time.monotonic_ns()
        rest, _, lines = (rest + data).rpartition(b"\n")[::-1]
        delays_ms += [
            (now - int(match[1])) / 1e6
            for event in lines.split(b"\n")
            if b'{"type":"ADDED"' in event and (match := _WRITTEN_AT.search(event))
        ]
