"""The API server at real sockets, with an application that answers with what it saw: for the edge's tests."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import ssl
from collections.abc import AsyncIterator
from typing import Any

import anyio
import anyio.abc
import anyio.to_thread
import wsproto
import wsproto.events

from ondol.apiserver import listening, pki, server
from ondol.apiserver.ports import CONNECTION
from ondol.base import errors

LOOPBACK = listening.Listen("127.0.0.1", 0)


SEEN = ("ondol.certificate", "ondol.proxy", "ondol.identity", "path", "state")


class App:
    """Answers with what the scope says, streams on /watch, and remembers what happened to it."""

    def __init__(self) -> None:
        self.events: list[str] = []
        self.fail_at_startup = False
        self.starting: anyio.Event | None = None
        self.stuck = anyio.Event()

    async def __call__(self, scope: server.Scope, receive: server.Receive, send: server.Send) -> None:
        if scope["type"] == "lifespan":
            await self._live(scope, receive, send)
        elif scope["type"] == "websocket":
            await self._talk(scope, receive, send)
        elif scope["path"] == "/watch":
            await self._watch(receive, send)
        elif scope["path"] == "/known":
            scope[CONNECTION].authenticated(lambda: self.events.append("given back"))
            await self._answer(scope, send)
        elif scope["path"] == "/slow":
            await anyio.sleep(0.3)
            await self._answer(scope, send)
        elif scope["path"] == "/body":
            while (await receive()).get("more_body"):
                pass
            await self._answer(scope, send)
        elif scope["path"] == "/stuck":
            self.stuck.set()
            await anyio.sleep_forever()
        else:
            await self._answer(scope, send)

    async def _live(self, scope: server.Scope, receive: server.Receive, send: server.Send) -> None:
        assert (await receive())["type"] == "lifespan.startup"
        if self.fail_at_startup:
            raise errors.HostError("no store", remedy="make one")
        if self.starting is not None:
            self.starting.set()
            await anyio.sleep(0.05)
        scope["state"]["answer"] = 42
        await send({"type": "lifespan.startup.complete"})
        assert (await receive())["type"] == "lifespan.shutdown"
        self.events.append("shutdown")
        await send({"type": "lifespan.shutdown.complete"})

    async def _watch(self, receive: server.Receive, send: server.Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"first\n", "more_body": True})
        while (await receive())["type"] != "http.disconnect":
            pass
        self.events.append("disconnected")

    async def _talk(self, scope: server.Scope, receive: server.Receive, send: server.Send) -> None:
        assert (await receive())["type"] == "websocket.connect"
        scope[CONNECTION].authenticated(lambda: self.events.append("given back"))
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.send", "text": json.dumps(scope.get("ondol.certificate"))})
        await send({"type": "websocket.close"})

    async def _answer(self, scope: server.Scope, send: server.Send) -> None:
        seen = {key: scope.get(key) for key in SEEN}
        seen["headers"] = [[name.decode(), value.decode()] for name, value in scope["headers"]]
        body = json.dumps(seen).encode()
        headers = [(b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})


def config(issued: pki.Pki, *listen: listening.Listen, **changes: Any) -> server.ServeConfig:
    return server.ServeConfig(
        listen or (LOOPBACK,),
        issued.server_certificate_file,
        issued.server_key_file,
        issued.ca_file,
        **{"grace_s": 2.0, **changes},
    )


@contextlib.asynccontextmanager
async def serving(
    app: App, settings: server.ServeConfig
) -> AsyncIterator[tuple[tuple[server.Address, ...], anyio.CancelScope]]:
    """The server in the background; leaving stops it."""
    addresses: list[tuple[server.Address, ...]] = []
    ready = anyio.Event()

    def started(bound: tuple[server.Address, ...]) -> None:
        addresses.append(bound)
        ready.set()

    async with anyio.create_task_group() as group:

        async def run() -> None:
            await server.serve(app, settings, started=started)

        group.start_soon(run)
        await ready.wait()
        yield addresses[0], group.cancel_scope
        group.cancel_scope.cancel()


def tls(issued: pki.Pki, client: str = "", *, of: pki.Pki | None = None) -> ssl.SSLContext:
    """With the certificate of a client, or of the front proxy, of the same authority or that `of` another."""
    context = ssl.create_default_context(cafile=str(issued.ca_file))
    whose = of or issued
    if client:
        is_proxy = client == pki.FRONT_PROXY
        context.load_cert_chain(*(whose.front_proxy_files if is_proxy else whose.client_files(client)))
    return context


async def get(
    address: server.Address, context: ssl.SSLContext, path: str = "/", headers: dict[str, str] | None = None
) -> Any:
    def fetch() -> Any:
        connection = http.client.HTTPSConnection(*address, context=context, timeout=5)
        try:
            connection.request("GET", path, headers=headers or {})
            answer = connection.getresponse()
            assert answer.status == 200
            assert answer.headers["date"].endswith("GMT")
            return json.loads(answer.read())
        finally:
            connection.close()

    return await anyio.to_thread.run_sync(fetch)


def converse(address: server.Address, context: ssl.SSLContext, method: str = "GET") -> list[Any]:
    """Open a WebSocket and read it to its end: the events of the client's side."""
    client = wsproto.WSConnection(wsproto.ConnectionType.CLIENT)
    opening = client.send(wsproto.events.Request(host="api", target="/talk"))
    events: list[Any] = []
    with (
        socket.create_connection(address, timeout=5) as plain,
        context.wrap_socket(plain, server_hostname=address[0]) as secure,
    ):
        secure.sendall(opening.replace(b"GET", method.encode(), 1))
        while data := secure.recv(65536):
            if method != "GET":
                return [data]
            client.receive_data(data)
            events += client.events()
            if isinstance(events[-1], wsproto.events.CloseConnection):
                break
    return events


@contextlib.asynccontextmanager
async def raw(address: server.Address, issued: pki.Pki) -> AsyncIterator[anyio.abc.ByteStream]:
    async with await anyio.connect_tcp(
        *address, ssl_context=tls(issued), tls=True, tls_standard_compatible=False
    ) as stream:
        yield stream


async def until_closed(stream: anyio.abc.ByteStream) -> bytes:
    received = b""
    with anyio.fail_after(5), contextlib.suppress(anyio.EndOfStream, anyio.BrokenResourceError):
        while True:
            received += await stream.receive()
    return received
