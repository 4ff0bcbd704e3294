"""An operator as its user runs it: a process of its own, over TLS, by a kubeconfig."""

from __future__ import annotations

import json
import os
import random
import signal
import sys
from pathlib import Path

import anyio
import anyio.abc
import pytest

from ondol import apiserver, store
from ondol.api import resources
from ondol.api.objects import Resource
from ondol.apiserver import listening, pki, server
from ondol.apiserver.auth.authenticate import Authenticator
from ondol.base import errors
from ondol.base.clock import SystemClock
from ondol.client import Client, from_kubeconfig

pytestmark = pytest.mark.anyio

SCRIPT = Path(__file__).parents[2] / "examples" / "cache-operator" / "cache_operator.py"
CACHE = Resource("shop.ondol.dev", "v1", "caches", "Cache")


class NoTokens:
    """Stands where the token checker does, for a server that only knows certificates."""


async def wait_for(client: Client, resource: Resource, name: str) -> None:
    with anyio.fail_after(30):
        while True:
            try:
                await client.get(resource, name, "default")
            except errors.NotFound:
                await anyio.sleep(0.05)
            else:
                return


async def create_once_served(client: Client) -> None:
    """Create the object as soon as the operator has installed its kind."""
    with anyio.fail_after(30):
        while True:
            try:
                await client.create(CACHE, {"metadata": {"name": "a", "namespace": "default"}, "spec": {}})
            except errors.NotFound:
                await anyio.sleep(0.05)
            else:
                return


async def test_an_operators_process_installs_its_kind_works_and_stops(tmp_path: Path) -> None:
    """`sdk.run` needs nothing but a kubeconfig, and ends well at SIGTERM."""
    admin = pki.Client("admin", "kubernetes-admin", ("system:masters",))
    issued = pki.ensure(tmp_path / "pki", clock=SystemClock(), clients=(admin,))
    app: server.Application = apiserver.build(
        apiserver.ApiConfig(),
        store.open_memory(),
        SystemClock(),
        random.Random(0),
        authenticator=Authenticator(NoTokens()),  # type: ignore[arg-type]  # no request here has a token
    )
    config = server.ServeConfig(
        (listening.Listen("127.0.0.1", 0),),
        issued.server_certificate_file,
        issued.server_key_file,
        issued.ca_file,
    )

    async def serve(*, task_status: anyio.abc.TaskStatus[int]) -> None:
        await server.serve(app, config, started=lambda sockets: task_status.started(sockets[0][1]))

    async with anyio.create_task_group() as tasks:
        port = await tasks.start(serve)
        path = tmp_path / "kubeconfig"
        address = f"https://127.0.0.1:{port}"
        path.write_text(
            json.dumps(pki.kubeconfig(address, issued.ca_file.read_bytes(), issued.client("admin")))
        )
        environment = {**os.environ, "KUBECONFIG": str(path)}
        client = from_kubeconfig(path)
        with (tmp_path / "log").open("wb") as log:
            process = await anyio.open_process(
                [sys.executable, str(SCRIPT)], env=environment, stdout=log, stderr=log
            )
            async with process:
                await create_once_served(client)
                await wait_for(client, resources.DEPLOYMENT, "a")
                await wait_for(client, resources.SERVICE, "a")
                process.send_signal(signal.SIGTERM)
                with anyio.fail_after(10):
                    assert await process.wait() == 0, (tmp_path / "log").read_text()
        await client.aclose()
        tasks.cancel_scope.cancel()
