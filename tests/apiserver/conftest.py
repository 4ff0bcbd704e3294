"""A server in process, and a caller that speaks ASGI to it and nothing more."""

from __future__ import annotations

import contextlib
import dataclasses
import random
import urllib.parse
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import anyio
import anyio.abc
import msgspec
import pytest
from tests.apiserver import edge

from ondol import apiserver, store
from ondol.api.objects import Object
from ondol.apiserver import pki
from ondol.base.clock import ManualClock, SystemClock
from ondol.store import Store

ADMIN = ("admin", ("system:masters",))


@dataclasses.dataclass
class Response:
    """What came back."""

    status: int
    headers: dict[str, str]
    warnings: list[str]
    body: bytes

    @property
    def json(self) -> Any:
        return msgspec.json.decode(self.body)


class Watching:
    """The frames of a stream, one at a time."""

    def __init__(self, send: anyio.abc.ObjectSendStream[bytes]) -> None:
        self.incoming = send
        self.status = 0
        self.headers: dict[str, str] = {}
        self.started = anyio.Event()
        self.closed = anyio.Event()
        self._receive: anyio.abc.ObjectReceiveStream[bytes]
        self._rest = b""

    def read_from(self, receive: anyio.abc.ObjectReceiveStream[bytes]) -> None:
        self._receive = receive

    async def next(self, within_s: float = 3.0) -> Any:
        """The next frame; `EndOfStream` when the server ended the stream."""
        with anyio.fail_after(within_s):
            while b"\n" not in self._rest:
                self._rest += await self._receive.receive()
        line, _, self._rest = self._rest.partition(b"\n")
        return msgspec.json.decode(line)

    async def quiet(self) -> bool:
        """Whether nothing is left to read once everybody rests."""
        await anyio.wait_all_tasks_blocked()
        with contextlib.suppress(anyio.WouldBlock):
            self._rest += self._receive.receive_nowait()  # type: ignore[attr-defined]  # a memory stream
        return not self._rest


class Caller:
    """Sends requests to an application as one user."""

    def __init__(self, app: Any, user: tuple[str, Sequence[str]] = ADMIN) -> None:
        self.app = app
        self.user = user
        self.agent = "test/1.0"

    def as_(self, name: str, *groups: str) -> Caller:
        return Caller(self.app, (name, groups))

    def _scope(self, method: str, target: str, headers: dict[str, str]) -> dict[str, Any]:
        path, _, query = target.partition("?")
        sent = {"accept": "application/json", "user-agent": self.agent, **headers}
        scope: dict[str, Any] = {
            "type": "http",
            "method": method,
            "path": urllib.parse.unquote(path),
            "query_string": query.encode(),
            "headers": [(k.lower().encode(), v.encode()) for k, v in sent.items()],
        }
        if self.user[0]:
            scope["ondol.identity"] = {"name": self.user[0], "groups": list(self.user[1])}
        return scope

    async def __call__(
        self, method: str, target: str, body: Any = None, headers: dict[str, str] | None = None
    ) -> Response:
        raw = body if isinstance(body, bytes) else b"" if body is None else msgspec.json.encode(body)
        typed = {"content-type": "application/json"} if raw else {}
        sent: list[dict[str, Any]] = []

        is_received = False

        async def receive() -> dict[str, Any]:
            nonlocal is_received
            if is_received:
                await anyio.sleep_forever()  # the client stays
            is_received = True
            return {"type": "http.request", "body": raw, "more_body": False}

        async def send(message: dict[str, Any]) -> None:
            sent.append(message)

        await self.app(self._scope(method, target, {**typed, **(headers or {})}), receive, send)
        start, *chunks = sent
        pairs = [(k.decode(), v.decode()) for k, v in start["headers"]]
        return Response(
            start["status"],
            dict(pairs),
            [value for name, value in pairs if name == "warning"],
            b"".join(chunk.get("body", b"") for chunk in chunks),
        )

    async def get(self, target: str, **headers: str) -> Response:
        return await self("GET", target, headers={k.replace("_", "-"): v for k, v in headers.items()})

    async def post(self, target: str, body: Any) -> Response:
        return await self("POST", target, body)

    async def put(self, target: str, body: Any) -> Response:
        return await self("PUT", target, body)

    async def patch(self, target: str, body: Any, kind: str = "merge-patch+json") -> Response:
        return await self("PATCH", target, body, {"content-type": f"application/{kind}"})

    async def apply(self, target: str, body: Any, manager: str, *, force: bool = False) -> Response:
        query = f"{target}?fieldManager={manager}&force={'true' if force else 'false'}"
        return await self.patch(query, body, "apply-patch+yaml")

    async def delete(self, target: str, body: Any = None) -> Response:
        return await self("DELETE", target, body)

    @asynccontextmanager
    async def watch(self, target: str, **headers: str) -> AsyncIterator[Watching]:
        outgoing, incoming = anyio.create_memory_object_stream[bytes](1000)
        watching = Watching(outgoing)
        watching.read_from(incoming)

        async def receive() -> dict[str, Any]:
            await watching.closed.wait()
            return {"type": "http.disconnect"}

        async def send(message: dict[str, Any]) -> None:
            if message["type"] == "http.response.start":
                watching.status = message["status"]
                watching.headers = {k.decode(): v.decode() for k, v in message["headers"]}
                watching.started.set()
            elif body := message.get("body"):
                await outgoing.send(body)

        named = {k.replace("_", "-"): v for k, v in headers.items()}

        async def run() -> None:
            async with outgoing:
                await self.app(self._scope("GET", target, named), receive, send)

        async with incoming, anyio.create_task_group() as group:
            group.start_soon(run)
            await watching.started.wait()
            yield watching
            watching.closed.set()
            with anyio.fail_after(3):
                await anyio.wait_all_tasks_blocked()
            group.cancel_scope.cancel()


class Server(Caller):
    """A running application with the parts a test may turn."""

    def __init__(self, app: Any, log: Store, clock: ManualClock) -> None:
        super().__init__(app)
        self.store = log
        self.clock = clock

    async def settle(self) -> None:
        """Let background tasks finish what they can do now."""
        await anyio.wait_all_tasks_blocked()

    async def overdue(self, asking: Awaitable[Response], *, seconds: float = 60.0) -> Response:
        """What is answered to a request that has waited for so long for something that does not come."""
        answers: list[Response] = []

        async def ask() -> None:
            answers.append(await asking)

        async with anyio.create_task_group() as group:
            group.start_soon(ask)
            await anyio.wait_all_tasks_blocked()
            assert answers == [], "it waits for nothing"
            await self.clock.advance(seconds)
        return answers[0]


@asynccontextmanager
async def serving(
    log: Store | None = None, config: apiserver.ApiConfig | None = None, **parts: Any
) -> AsyncIterator[Server]:
    """A server that was started and is stopped afterwards."""
    owned = log or store.open_memory()
    clock = ManualClock()
    app = apiserver.build(config or apiserver.ApiConfig(), owned, clock, random.Random(7), **parts)
    started, stopping, stopped = anyio.Event(), anyio.Event(), anyio.Event()

    async def receive() -> dict[str, Any]:
        if started.is_set():
            await stopping.wait()
            return {"type": "lifespan.shutdown"}
        return {"type": "lifespan.startup"}

    async def send(message: dict[str, Any]) -> None:
        assert message["type"] in ("lifespan.startup.complete", "lifespan.shutdown.complete"), message
        (started if message["type"].startswith("lifespan.startup") else stopped).set()

    async with anyio.create_task_group() as group:
        group.start_soon(app, {"type": "lifespan"}, receive, send)
        await started.wait()
        yield Server(app, owned, clock)
        stopping.set()
        await stopped.wait()
    if log is None:
        owned.close()


@pytest.fixture
async def api() -> AsyncIterator[Server]:
    """A server over a store in memory, by a clock the test moves."""
    async with serving() as server:
        yield server


@pytest.fixture
def start() -> Callable[..., Any]:
    """Starts servers with parts of the test's own choice."""
    return serving


def config_map(name: str, data: dict[str, str] | None = None, **metadata: Any) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, **metadata},
        "data": data or {},
    }


@pytest.fixture(name="config_map")
def config_map_fixture() -> Callable[..., Object]:
    """Makes ConfigMaps."""
    return config_map


def pod(name: str, **spec: Any) -> Object:
    containers = [{"name": "main", "image": "example.org/app:1"}]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {"containers": containers, **spec},
    }


@pytest.fixture(name="pod")
def pod_fixture() -> Callable[..., Object]:
    """Makes Pods with one container."""
    return pod


@pytest.fixture(scope="session")
def issued(tmp_path_factory: pytest.TempPathFactory) -> pki.Pki:
    """The certificates of a server and of its administrator, who is in a second group, too."""
    admin = pki.Client("admin", "kubernetes-admin", ("system:masters", "team"))
    return pki.ensure(tmp_path_factory.mktemp("pki"), clock=SystemClock(), clients=(admin,))


@pytest.fixture
def app() -> edge.App:
    """What a server of the network edge hands its requests to."""
    return edge.App()
