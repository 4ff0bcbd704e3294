"""A data plane on a real nats-server, in a world with the control plane; and somebody to send events to."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import ssl
import subprocess
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
from tests.ports import free_port

from ondol import apiserver, sdk, store
from ondol.api import conditions, objects, resources
from ondol.api.objects import Key, Object, Resource
from ondol.apiserver import pki
from ondol.base import errors
from ondol.base.clock import SystemClock
from ondol.contracts import eventing
from ondol.eventing import engine, tokens, wiring
from ondol.eventing.engine import EngineConfig
from ondol.eventing.journal.jetstream import JetStream
from ondol.eventing.journal.room import Room
from ondol.eventing.kinds.rules import Configuration, rules
from ondol.eventing.plane import wiring as plane_wiring
from ondol.eventing.plane.front import Certified
from ondol.eventing.plane.wiring import Plane, PlaneConfig
from ondol.eventing.wiring import EventingConfig
from ondol.sdk.testing import World
from ondol.web import serving
from ondol.web.application import Receive, Scope, Send
from ondol.web.calling import Answer, Caller, Place

NAMESPACE = "default"
HOST = "127.0.0.1"
INGRESS = f"{eventing.BROKER_INGRESS}.{eventing.NAMESPACE}.svc.cluster.local"
LIMIT_S = 20.0


class Server:
    """A nats-server that can be killed and started again."""

    def __init__(self, folder: Path) -> None:
        self.config = EngineConfig(folder / "events", folder / "nats.json", free_port())
        self.log = folder / "nats.log"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = engine.command(self.config)
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(command, stderr=log, env=dict(engine.environment(self.config)))

    def wait_ready(self) -> None:
        deadline = time.monotonic() + LIMIT_S
        while not engine.ready(self.config):
            assert time.monotonic() < deadline, self.log.read_text()[-2000:]
            time.sleep(0.01)

    def kill(self) -> None:
        """As a power cut would, for the process."""
        if self._process is not None:
            os.kill(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None


class Disk:
    """A small file system of its own, which can be filled to the last byte."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._filler = path / "filler"

    def fill(self) -> None:
        with self._filler.open("wb") as file:
            try:
                while True:
                    file.write(bytes(1 << 20))
                    file.flush()
            except OSError:
                return

    def make_room(self) -> None:
        self._filler.unlink()


@contextmanager
def small_disk(where: Path) -> Iterator[Disk]:
    """A file system of 96 MiB, for root."""
    where.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=96m", "tmpfs", where], check=True)
    try:
        yield Disk(where)
    finally:
        subprocess.run(["umount", where], check=True)


@asynccontextmanager
async def connected(server: Server, *, room: Room | None = None) -> AsyncIterator[JetStream]:
    """A journal on the server, beside whoever else has one."""
    journal = JetStream(engine.address(server.config), clock=SystemClock(), rng=random.Random(), room=room)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(journal.run)
        await until(lambda: journal.is_connected)
        yield journal
        tasks.cancel_scope.cancel()


@dataclass(slots=True)
class Received:
    """A request that a subscriber had."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def id(self) -> str:
        return self.headers.get("ce-id", "")


Respond = Callable[
    [Received], "tuple[int, Mapping[str, str], bytes] | Awaitable[tuple[int, Mapping[str, str], bytes]]"
]


@dataclass(slots=True)
class Sink:
    """Somebody to send events to: keeps what comes, and answers as `respond` says."""

    port: int = 0
    received: list[Received] = field(default_factory=list)
    respond: Respond = lambda _received: (200, {}, b"")

    def url(self, path: str = "/") -> str:
        return f"http://{HOST}:{self.port}{path}"

    def ids(self, path: str = "/") -> list[str]:
        return [each.id for each in self.received if each.path == path]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        received = Received(scope["path"], headers, body)
        self.received.append(received)
        answer = self.respond(received)
        status, extra, content = answer if isinstance(answer, tuple) else await answer
        listed = [(name.encode(), value.encode()) for name, value in extra.items()]
        listed.append((b"content-length", str(len(content)).encode()))
        await send({"type": "http.response.start", "status": status, "headers": listed})
        await send({"type": "http.response.body", "body": content})


@asynccontextmanager
async def sinking() -> AsyncIterator[Sink]:
    sink = Sink(free_port())
    listening = serving.listen_tcp(HOST, sink.port, name="sink")
    listening.listen(1024)
    async with serving.serving(sink, listening, grace_s=0):
        yield sink


class Rig:
    """What a test works with."""

    def __init__(self, world: World, server: Server, port: int, folder: Path) -> None:
        self.world = world
        self.client = world.client
        self.server = server
        self.port = port
        self.tls_port = free_port()
        self.pki = pki.ensure(folder / "pki", clock=world.clock)
        self.caller = Caller()
        self.plane: Plane | None = None

    async def start_control(self) -> sdk.Manager:
        manager = self.world.manager("ondol-control")
        config = EventingConfig("192.0.2.10", self.port, tls_port=self.tls_port, ca_certs=self.ca_certs)
        wiring.add_to(manager, config)
        return await self.world.start(manager)

    async def start_plane(self) -> sdk.Manager:
        manager = self.world.manager("ondol-events")
        names = eventing.certified_names()
        files = pki.ensure_server(self.pki.directory, "events", names, clock=self.world.clock)
        certified = Certified(self.tls_port, *files, self.ca_certs)
        journal = self.server.config
        address, folder = engine.address(journal), journal.data_dir
        config = PlaneConfig(HOST, self.port, address, tls=certified, journal_dir=folder)
        self.plane = plane_wiring.add_plane_to(manager, config, random.Random(1))
        return await self.world.start(manager)

    @property
    def ca_certs(self) -> str:
        return self.pki.ca_file.read_text()

    async def switch(self, **flags: str) -> None:
        """Set flags, whose names have dashes."""
        data = {name.replace("_", "-"): value for name, value in flags.items()}
        name, namespace = eventing.CONFIG_FEATURES, eventing.NAMESPACE

        async def is_there() -> bool:
            with contextlib.suppress(errors.NotFound):
                await self.client.patch(resources.CONFIG_MAP, name, namespace, patch={"data": data})
                return True
            return False

        await eventually(is_there)

    async def token(self, namespace: str, account: str, audience: str) -> str:
        """A token of an account, which is made if it is not there."""
        document = {"apiVersion": "v1", "kind": "ServiceAccount"}
        metadata = {"name": account, "namespace": namespace}
        with contextlib.suppress(errors.AlreadyExists):
            await self.client.create(resources.SERVICE_ACCOUNT, {**document, "metadata": metadata})
        token, _ = await tokens.issue(self.client, Key(namespace, account), audience)
        return token

    async def create(
        self, resource: Resource, name: str, spec: Mapping[str, Any], **annotations: str
    ) -> Object:
        metadata = {"name": name, "namespace": NAMESPACE, "annotations": annotations}
        document = {"apiVersion": resource.api_version, "kind": resource.kind, "metadata": metadata}
        return await self.client.create(resource, {**document, "spec": dict(spec)})

    async def ready(self, resource: Resource, name: str) -> Object:
        """The object, once it is ready."""

        async def is_ready() -> bool:
            return conditions.is_true(await self.client.get(resource, name, NAMESPACE), "Ready")

        try:
            await eventually(is_ready)
        except TimeoutError:
            live = await self.client.get(resource, name, NAMESPACE)
            raise AssertionError(f"{name} is not ready: {objects.status(live)}") from None
        return await self.client.get(resource, name, NAMESPACE)

    async def send(
        self,
        id_: str,
        body: bytes = b"{}",
        *,
        path: str = f"/{NAMESPACE}/b",
        host: str = INGRESS,
        token: str = "",
        tls: ssl.SSLContext | None = None,
        **attributes: str,
    ) -> Answer:
        """Send an event to the ingress; its answer."""
        values = {"specversion": "1.0", "id": id_, "source": "/test", "type": "t", **attributes}
        headers = {f"ce-{name}": value for name, value in values.items()}
        if token:
            headers["authorization"] = f"Bearer {token}"
        return await self.post(
            body, path=path, host=host, headers={**headers, "content-type": "application/json"}, tls=tls
        )

    async def post(
        self,
        body: bytes,
        *,
        path: str,
        host: str,
        headers: Mapping[str, str],
        method: str = "POST",
        tls: ssl.SSLContext | None = None,
    ) -> Answer:
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        head = f"{method} {path} HTTP/1.1\r\nhost: {host}\r\n{lines}content-length: {len(body)}\r\n\r\n"
        place = Place(HOST, self.tls_port, tls=tls, server_name=host) if tls else Place(HOST, self.port)
        return await self.caller.call(place, head.encode() + body, timeout_s=LIMIT_S, bytes_max=1 << 20)

    async def broker(self, name: str = "b", **delivery: Any) -> Object:
        spec = {"delivery": delivery} if delivery else {}
        await self.create(eventing.BROKER, name, spec, **{eventing.BROKER_CLASS: eventing.MT_BROKER_CLASS})
        return await self.ready(eventing.BROKER, name)

    async def trigger(
        self, name: str, url: str, spec: Mapping[str, Any] | None = None, **annotations: str
    ) -> Object:
        full = {"broker": "b", "subscriber": {"uri": url}, **(spec or {})}
        await self.create(eventing.TRIGGER, name, full, **annotations)
        return await self.ready(eventing.TRIGGER, name)


async def eventually(holds: Callable[[], Awaitable[bool]], *, limit_s: float = LIMIT_S) -> None:
    """Wait until it holds; `TimeoutError` after a while."""
    with anyio.fail_after(limit_s):
        while not await holds():  # noqa: ASYNC110 - what is waited for is in other processes
            await anyio.sleep(0.02)


async def until(holds: Callable[[], bool], *, limit_s: float = LIMIT_S) -> None:
    async def asked() -> bool:
        return holds()

    await eventually(asked, limit_s=limit_s)


@asynccontextmanager
async def rig(folder: Path, *, plane: bool = True) -> AsyncIterator[Rig]:
    """A world with both planes, and a journal."""
    server = Server(folder)
    server.start()
    try:
        server.wait_ready()
        clock = SystemClock()
        configuration = Configuration()
        app = apiserver.build(
            apiserver.ApiConfig(),
            store.open_memory(),
            clock,
            random.Random(1),
            rules=rules(configuration),
            service_account_key=pki.ensure(folder / "pki", clock=clock).service_account_key_file.read_bytes(),
        )
        configuration.lookup = app.core.lookup
        async with World(app, clock=clock) as world:
            for crd in wiring.crds():
                await world.client.create(resources.CUSTOM_RESOURCE_DEFINITION, crd)
            rigged = Rig(world, server, free_port(), folder)
            await rigged.start_control()
            if plane:
                await rigged.start_plane()
            yield rigged
            rigged.caller.close()
    finally:
        server.kill()
