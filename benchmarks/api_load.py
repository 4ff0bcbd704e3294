"""Loads the API server over TLS with sixteen connections of one process and counts answers a second."""

from __future__ import annotations

import asyncio
import base64
import ssl
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import yaml

CONNECTIONS = 16
SECONDS = 5.0
NAMESPACE = "default"
DATA = "x" * 430  # with its metadata the object is about 600 bytes


def measure(kubeconfig: Path) -> dict[str, float]:
    """Answers a second for create, get and list of 500."""
    return asyncio.run(_measure(yaml.safe_load(kubeconfig.read_text(encoding="utf-8"))))


async def _measure(config: dict[str, object]) -> dict[str, float]:
    cluster = config["clusters"][0]["cluster"]  # type: ignore[index]
    host, _, port = str(cluster["server"]).removeprefix("https://").partition(":")
    context = tls(cluster, config["users"][0]["user"])  # type: ignore[index]
    loads = [Load(host, int(port), context, number) for number in range(CONNECTIONS)]
    await asyncio.gather(*(load.open() for load in loads))
    path = f"/api/v1/namespaces/{NAMESPACE}/configmaps"
    names = iter(range(10**9))
    rates = {"create": await _rate(loads, lambda: _create(path, f"bench-{next(names)}"))}
    rates["get"] = await _rate(loads, lambda: _get(f"{path}/bench-0"))
    rates["list of 500"] = await _rate(loads, lambda: _get(f"{path}?limit=500"))
    await loads[0].ask(request_of("DELETE", path + "?labelSelector=bench%3Dyes", b"{}"))
    for load in loads:
        load.close()
    return rates


async def _rate(loads: list[Load], request: Callable[[], bytes]) -> float:
    began = time.perf_counter()
    counts = await asyncio.gather(*(load.run(request, began + SECONDS) for load in loads))
    return sum(counts) / (time.perf_counter() - began)


class Load:
    """One kept-open connection that asks as fast as it is answered."""

    def __init__(self, host: str, port: int, context: ssl.SSLContext, number: int) -> None:
        self._target = (host, port, context)
        self.number = number

    async def open(self) -> None:
        host, port, context = self._target
        self.reader, self.writer = await asyncio.open_connection(host, port, ssl=context, limit=1 << 22)

    def close(self) -> None:
        self.writer.close()

    async def run(self, request: Callable[[], bytes], until: float) -> int:
        count = 0
        while time.perf_counter() < until:
            status = await self.ask(request())
            if status not in {200, 201}:
                raise SystemExit(f"the API server answered {status}")
            count += 1
        return count

    async def ask(self, request: bytes) -> int:
        self.writer.write(request)
        head = await self.reader.readuntil(b"\r\n\r\n")
        lines = head.lower().split(b"\r\n")
        length = next((int(line[15:]) for line in lines if line.startswith(b"content-length:")), None)
        if length is None:
            await self._chunks()
        else:
            await self.reader.readexactly(length)
        return int(head[9:12])

    async def _chunks(self) -> None:
        while size := int((await self.reader.readline()).strip(), 16):
            await self.reader.readexactly(size + 2)
        await self.reader.readline()


def request_of(method: str, path: str, body: bytes = b"") -> bytes:
    head = f"{method} {path} HTTP/1.1\r\nhost: api\r\naccept: application/json\r\n"
    if body:
        head += f"content-type: application/json\r\ncontent-length: {len(body)}\r\n"
    return head.encode() + b"\r\n" + body


def _create(path: str, name: str) -> bytes:
    body = (
        f'{{"apiVersion":"v1","kind":"ConfigMap","metadata":{{"name":"{name}","labels":{{"bench":"yes"}}}},'
        f'"data":{{"key":"{DATA}"}}}}'
    )
    return request_of("POST", path, body.encode())


def _get(path: str) -> bytes:
    return request_of("GET", path)


def tls(cluster: dict[str, str], user: dict[str, str]) -> ssl.SSLContext:
    context = ssl.create_default_context(
        cadata=base64.b64decode(cluster["certificate-authority-data"]).decode()
    )
    with tempfile.NamedTemporaryFile("wb", suffix=".pem") as file:
        file.write(base64.b64decode(user["client-certificate-data"]))
        file.write(base64.b64decode(user["client-key-data"]))
        file.flush()
        context.load_cert_chain(file.name)
    return context
