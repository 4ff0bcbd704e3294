"""What the API server alone can do, by kind of request: `python benchmarks/apiserver.py`.

In process: every filter and the durable store, without sockets, TLS and HTTP parsing. The rates over
TLS, which are the ones to reach, are measured by `api_load` against a running platform; give its
kubeconfig with --kubeconfig to see them here beside the others.
"""

from __future__ import annotations

import argparse
import random
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import anyio
import api_load
import msgspec

from ondol import apiserver, store
from ondol.base.clock import SystemClock
from ondol.client.asgi import lifespan

CONFIG_MAPS = "/api/v1/namespaces/default/configmaps"
WORKERS = 16
SECONDS = 3.0
WATCHERS = 50
HEADERS = [
    (b"accept", b"application/json"),
    (b"content-type", b"application/json"),
    (b"user-agent", b"bench"),
]
MERGE = (b"content-type", b"application/merge-patch+json")
IDENTITY = {"name": "bench", "groups": ["system:masters"]}


class Caller:
    """Calls the application as an ASGI server would."""

    def __init__(self, app: Any) -> None:
        self._app = app

    async def ask(
        self, method: str, path: str, body: bytes = b"", query: bytes = b"", *headers: Any
    ) -> bytes:
        sent: list[dict[str, Any]] = []

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: dict[str, Any]) -> None:
            sent.append(message)

        scope = {
            "type": "http",
            "method": method,
            "path": path,
            "query_string": query,
            "headers": list({**dict(HEADERS), **dict(headers)}.items()),
            "ondol.identity": IDENTITY,
        }
        await self._app(scope, receive, send)
        answer = b"".join(message.get("body", b"") for message in sent[1:])
        if sent[0]["status"] >= 300:
            raise RuntimeError(answer.decode())
        return answer


def config_map(number: int) -> bytes:
    """About 600 bytes once the server has added its part."""
    document = {"metadata": {"name": f"c{number}"}, "data": {"a": "x" * 300}}
    return msgspec.json.encode({"apiVersion": "v1", "kind": "ConfigMap", **document})


async def rate(work: Callable[[], Awaitable[object]]) -> float:
    """How often a second sixteen workers get it done."""
    done = 0
    began = time.perf_counter()

    async def repeat() -> None:
        nonlocal done
        while time.perf_counter() - began < SECONDS:
            await work()
            done += 1

    async with anyio.create_task_group() as group:
        for _ in range(WORKERS):
            group.start_soon(repeat)
    return done / (time.perf_counter() - began)


async def in_process(data: Path) -> dict[str, float]:
    """Answers a second by kind of request."""
    log = store.open_file(data / "store.db")
    app = apiserver.build(apiserver.ApiConfig(), log, SystemClock(), random.Random(1))
    rates: dict[str, float] = {}
    async with lifespan(app, clock=SystemClock()):
        caller = Caller(app)
        names = iter(range(10**9))
        rates["create"] = await rate(lambda: caller.ask("POST", CONFIG_MAPS, config_map(next(names))))
        rates["get"] = await rate(lambda: caller.ask("GET", f"{CONFIG_MAPS}/c0"))
        rates["list of 500"] = await rate(lambda: caller.ask("GET", CONFIG_MAPS, b"", b"limit=500"))
        values = iter(range(10**9))

        async def patch() -> None:
            value = next(values)
            body = b'{"data":{"b":"%d"}}' % value
            await caller.ask("PATCH", f"{CONFIG_MAPS}/c{value % 500}", body, b"", MERGE)

        rates["merge patch"] = await rate(patch)
        watches = [log.watch("configmaps", after=log.revision) for _ in range(WATCHERS)]
        seen = 0

        async def follow(watch: Any) -> None:
            nonlocal seen
            while True:
                await watch.changed()
                seen += len(watch.take())

        async with anyio.create_task_group() as group:
            for watch in watches:
                group.start_soon(follow, watch)
            rates[f"merge patch, {WATCHERS} watches"] = await rate(patch)
            group.cancel_scope.cancel()
        rates[f"events to {WATCHERS} watches"] = seen / SECONDS
    log.close()
    return rates


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kubeconfig", type=Path, help="also load a running server, over TLS")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as data:
        rates = anyio.run(in_process, Path(data), backend_options={"use_uvloop": True})
    for name, rate in rates.items():
        print(f"{'in process':12}{name:28}{rate:>10.0f} /s")
    if options.kubeconfig:
        for name, rate in api_load.measure(options.kubeconfig).items():
            print(f"{'TLS':12}{name:28}{rate:>10.0f} /s")


if __name__ == "__main__":
    main()
