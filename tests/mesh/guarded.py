"""Pods that serve within their own namespaces, and a node that turns what arrives at guarded ones."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
from tests.mesh.live import TRAFFIC, Live, run

from ondol.api import conditions, dataplane, objects, resources
from ondol.base import errors
from ondol.client import PatchType
from ondol.contracts import mesh
from ondol.node.network import rules


class Mesh:
    """What a test of guarded pods does to a live mesh."""

    def __init__(self, live: Live) -> None:
        self.live = live
        self.client = live.client
        self._servers: list[subprocess.Popen[bytes]] = []
        self._turned: set[str] = set()

    async def account(self, name: str) -> None:
        document = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name}}
        await self.client.create(resources.SERVICE_ACCOUNT, document, "default")

    async def server(self, name: str, *ports: tuple[str, int]) -> None:
        """A pod that serves at these ports, behind a Service of its name with the same ports."""
        await self.live.pod(name)
        netns, address = self.live.pods[name], self.live.addresses[name]
        numbers = [str(number) for _, number in ports]
        command = ["ip", "netns", "exec", netns, sys.executable, TRAFFIC, "serve", "0.0.0.0", *numbers]
        environment = {**os.environ, "SPANS": "/dev/null"}
        process = subprocess.Popen(command, stdout=subprocess.PIPE, env=environment)  # noqa: ASYNC220 - no time is spent
        self._servers.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == b"serving\n"
        listed = [{"name": port, "port": number, "targetPort": number} for port, number in ports]
        service = {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": name},
            "spec": {"selector": {"app": name}, "ports": listed},
        }
        await self.client.create(resources.SERVICE, service, "default")
        target = {"kind": "Pod", "name": name, "namespace": "default"}
        slice_ = {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {"name": name, "labels": {"kubernetes.io/service-name": name}},
            "addressType": "IPv4",
            "endpoints": [{"addresses": [address], "conditions": {"ready": True}, "targetRef": target}],
            "ports": [{"name": port, "port": number, "protocol": "TCP"} for port, number in ports],
        }
        await self.client.create(resources.ENDPOINT_SLICE, slice_, "default")

    async def cluster_address(self, name: str) -> str:
        """Of a Service."""
        service = await self.client.get(resources.SERVICE, name, "default")
        return str(objects.spec(service)["clusterIP"])

    async def rule(self, resource: Any, name: str, spec: dict[str, Any]) -> None:
        await self.live.rule(resource, name, spec)

    async def turned(self, *names: str) -> None:
        """Wait until what arrives at these pods is turned, and callers know."""
        for name in names:

            async def is_turned(name: str = name) -> bool:
                pod = await self.client.get(resources.POD, name, "default")
                return conditions.is_true(pod, mesh.POD_ARRIVALS_TURNED)

            await self.live.world.eventually(is_turned, why=f"{name} to be turned")
        await anyio.sleep(0.3)

    async def statuses(self, pod: str, *requests: dict[str, Any]) -> list[int]:
        return await self.live.statuses(pod, *requests)

    async def act_as_node(self) -> None:
        """Turn what arrives at guarded pods, as the node does; for ever."""
        while True:
            for name, uid in list(self.live.pods.items()):
                pod = await self.client.get(resources.POD, name, "default")
                if conditions.is_true(pod, mesh.POD_GUARDED) and uid not in self._turned:
                    text = rules.guard(dataplane.EVERYTHING, seals=False)
                    run("ip", "netns", "exec", uid, "nft", "-f", "-", text=text)
                    self._turned.add(uid)
                    turned = conditions.set((), mesh.POD_ARRIVALS_TURNED, "True", now=time.time())
                    try:
                        await self.client.patch(
                            resources.POD,
                            name,
                            "default",
                            patch={"metadata": {"uid": objects.uid(pod)}, "status": {"conditions": turned}},
                            patch_type=PatchType.STRATEGIC,
                            subresource="status",
                        )
                    except errors.NotFound:
                        continue
            await anyio.sleep(0.01)

    def close(self) -> None:
        for server in self._servers:
            server.kill()
            server.communicate()


@asynccontextmanager
async def guarding(live: Live) -> AsyncIterator[Mesh]:
    """The live mesh with a node that turns."""
    started = Mesh(live)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(started.act_as_node)
        try:
            yield started
        finally:
            started.close()
            tasks.cancel_scope.cancel()
