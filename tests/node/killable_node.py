"""An API server and a node in one process, to be killed: keeps two pods and prints what it sees of them.

Arguments: the node's configuration as JSON, and the database. One line of JSON is printed when the
pods `stay` and `end` have the state that the third argument asks for.
"""

from __future__ import annotations

import json
import random
import sys
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import anyio
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from ondol import apiserver, store
from ondol.api import objects, resources
from ondol.api.objects import Object
from ondol.base import clock, errors
from ondol.client import Client
from ondol.node import agent
from ondol.node.config import NodeConfig
from ondol.sdk import testing


def pod(config: NodeConfig, image: str, name: str, script: str) -> Object:
    return {
        "metadata": {"name": name, "namespace": "default", "labels": {"istio.io/dataplane-mode": "none"}},
        "spec": {
            "nodeName": config.name,
            "restartPolicy": "Never",
            "automountServiceAccountToken": False,
            "terminationGracePeriodSeconds": 1,
            "containers": [{"name": "main", "image": image, "command": ["/bin/sh", "-c", script]}],
        },
    }


async def seen(client: Client, name: str) -> dict[str, Any]:
    pod = await client.get(resources.POD, name, "default")
    listed = objects.status(pod).get("containerStatuses") or [{}]
    return {"phase": objects.status(pod).get("phase"), "uid": objects.uid(pod), **listed[0]}


async def main(config: NodeConfig, database: Path, image: str, pod_name: str) -> None:
    async with AsyncExitStack() as stack:
        log = store.open_file(database)
        stack.callback(log.close)
        key = ec.generate_private_key(ec.SECP256R1())
        pem = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        app = apiserver.build(
            apiserver.ApiConfig(), log, clock.SystemClock(), random.Random(), service_account_key=pem
        )
        world = await stack.enter_async_context(testing.World(app))
        await stack.enter_async_context(agent.running(config, world.client, clock.SystemClock()))
        for name, script in (
            ("stay", "i=0; while :; do i=$((i+1)); echo $i; sleep 0.05; done"),
            ("end", "while [ ! -e /go ]; do sleep 0.05; done; exit 6"),
        ):
            try:
                await world.client.create(resources.POD, pod(config, image, name, script))
            except errors.AlreadyExists:
                continue
        while True:
            stay, end = await seen(world.client, "stay"), await seen(world.client, "end")
            if stay["phase"] == "Running" and end["phase"] == pod_name:
                break
            await anyio.sleep(0.01)
        sys.stdout.write(json.dumps({"stay": stay, "end": end}) + "\n")
        sys.stdout.flush()
        await anyio.sleep_forever()


if __name__ == "__main__":
    options = json.loads(sys.argv[1])
    options["data_dir"] = Path(options["data_dir"])
    anyio.run(main, NodeConfig(**options), Path(sys.argv[2]), sys.argv[3], sys.argv[4])
