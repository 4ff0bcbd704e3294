"""A step of load on one replica: how soon there are twenty, and whether any request fails meanwhile.

Clients ask one request after the other through the ingress gateway, over connections that live; a request
takes the pod half a second of waiting, so that twenty pods are wanted for what they hold and not for what
they compute. The same load goes on while a new revision is rolled out, and while the activator is killed.
An answer other than 200 is a failure, and so is a connection that ends in the midst of one. A connection
that the server had closed between two requests is opened anew, as every HTTP client does.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import aclosing, contextmanager, suppress
from functools import partial
from typing import Any

import anyio

from ondol import client as clients
from ondol.api import conditions, objects
from ondol.api import resources as kinds
from ondol.client import Client
from ondol.compose import platform
from ondol.compose.instance import Instance
from ondol.contracts import serving

CLIENTS = 100
REPLICAS = 20
WORK_MS = 500
LOAD_S = 12.0
NAMESPACE = "bench-scaling"


def measure(instance: Instance, image: str) -> dict[str, Any]:
    """Seconds from the step to twenty ready pods, and failed requests of each story with the number asked."""
    return anyio.run(_measure, instance, image)


async def _measure(instance: Instance, image: str) -> dict[str, Any]:
    figures: dict[str, Any] = {}
    async with aclosing(clients.from_kubeconfig(instance.kubeconfig)) as client:
        space = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}
        await client.apply(kinds.NAMESPACE, space)
        for name, limit in (("direct", 0), ("limited", 1)):
            document = _service(name, image, limit)
            await client.apply(serving.SERVICE, document)
            await _until(partial(_has, client, name, 1))
            with _load(instance, name) as load:
                figures[f"{name}: seconds to {REPLICAS}"] = await _seconds(
                    partial(_has, client, name, REPLICAS)
                )
            figures[f"{name}: scaling"] = load
            with _load(instance, name) as load:
                await _roll_out(client, document)
            figures[f"{name}: rolling out"] = load
            with _load(instance, name) as load:
                await anyio.sleep(LOAD_S / 4)
                await _kill_activator(instance)
            figures[f"{name}: activator killed"] = load
            await client.delete(serving.SERVICE, name, NAMESPACE)
            await _until(partial(_has, client, name, 0))
    return figures


def _service(name: str, image: str, limit: int) -> dict[str, Any]:
    annotations = {
        "autoscaling.knative.dev/min-scale": "1",
        "autoscaling.knative.dev/max-scale": str(REPLICAS),
        "autoscaling.knative.dev/target": "1",
        "autoscaling.knative.dev/window": "6s",
    }
    container = {"image": image, "env": [{"name": "WORK_MS", "value": str(WORK_MS)}]}
    return {
        "apiVersion": "serving.knative.dev/v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {
            "template": {
                "metadata": {"annotations": annotations},
                "spec": {"containerConcurrency": limit, "containers": [container]},
            }
        },
    }


async def _roll_out(client: Client, document: dict[str, Any]) -> None:
    """A second revision takes over, and the first one's pods go."""
    template = document["spec"]["template"]
    container = template["spec"]["containers"][0]
    container["env"] = [*container["env"], {"name": "VERSION", "value": "2"}]
    await client.apply(serving.SERVICE, document)
    name = document["metadata"]["name"]
    await _until(partial(_serves, client, name, f"{name}-00002"))


async def _serves(client: Client, name: str, revision: str) -> bool:
    live = await client.get(serving.SERVICE, name, NAMESPACE)
    is_latest = objects.status(live).get("latestReadyRevisionName") == revision
    return is_latest and conditions.is_true(live, "Ready")


async def _kill_activator(instance: Instance) -> None:
    parts = {part.name: part for part in platform.status(instance.data_dir).parts}
    os.kill(int(parts["gateway"].pid or 0), signal.SIGKILL)


async def _has(client: Client, name: str, count: int) -> bool:
    """Whether the service has as many ready pods, and no others."""
    selector = f"serving.knative.dev/service={name}"
    listed = (await client.list(kinds.POD, NAMESPACE, label_selector=selector)).items
    ready = [pod for pod in listed if conditions.is_true(pod, "Ready") and not objects.is_deleting(pod)]
    return len(ready) >= count if count else not listed


async def _seconds(test: Callable[[], Awaitable[bool]]) -> float:
    began = time.monotonic()
    await _until(test)
    return time.monotonic() - began


async def _until(test: Callable[[], Awaitable[bool]], *, wait_s: float = 120.0) -> None:
    deadline = time.monotonic() + wait_s
    while not await test():
        if time.monotonic() > deadline:
            raise SystemExit("waited in vain; see the logs of the platform")
        await anyio.sleep(0.1)


@contextmanager
def _load(instance: Instance, name: str) -> Any:
    """The step of load, from now on for some seconds; its report is there at the end."""
    host = f"{name}.{NAMESPACE}.localhost"
    command = [sys.executable, __file__, str(instance.ports.ingress), host]
    report: dict[str, Any] = {}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        yield report
        output, _ = process.communicate()
    report.update(json.loads(output))


class _Clients:
    """What one run of the load has seen."""

    def __init__(self, port: int, host: str) -> None:
        self._port = port
        self._request = f"GET / HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()
        self.answered = 0
        self.failures: list[str] = []

    async def ask(self, began: float, until: float) -> None:
        reader, writer = await self._connect()
        while time.monotonic() < until:
            for is_fresh in (False, True):
                failure = await self._once(reader, writer)
                if failure:
                    writer.close()
                    reader, writer = await self._connect()
                if failure != "closed" or is_fresh:
                    break
            if failure:
                self.failures.append(f"{time.monotonic() - began:.2f} s: {failure}")
            else:
                self.answered += 1
        writer.close()

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self._port)

    async def _once(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> str:
        """Empty, or what went wrong; `closed` before a byte of an answer."""
        try:
            writer.write(self._request)
            status = await reader.readline()
            if not status:
                return "closed"
            length = 0
            while (line := await reader.readline()).strip():
                if line.lower().startswith(b"content-length:"):
                    length = int(line.partition(b":")[2])
            body = await reader.readexactly(length)
        except (OSError, asyncio.IncompleteReadError) as error:
            return repr(error)
        return "" if status.split()[1] == b"200" else f"{status.decode().strip()} {body[:120]!r}"


async def _ask_all(port: int, host: str) -> None:
    load = _Clients(port, host)
    began = time.monotonic()
    with suppress(asyncio.CancelledError):
        await asyncio.gather(*(load.ask(began, began + LOAD_S) for _ in range(CLIENTS)))
    report = {"answered": load.answered, "failed": len(load.failures), "failures": load.failures[:5]}
    print(json.dumps(report))


if __name__ == "__main__":
    asyncio.run(_ask_all(int(sys.argv[1]), sys.argv[2]))
