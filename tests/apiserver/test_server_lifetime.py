"""The server from its start, on several addresses, to an orderly stop."""

from __future__ import annotations

import contextlib
import socket

import anyio
import pytest
from tests.apiserver.edge import LOOPBACK, App, config, get, raw, serving, tls

from ondol.apiserver import listening, pki, server
from ondol.base import errors
from ondol.base.listeners import Listeners


async def test_an_address_may_be_bound_before_it_exists(issued: pki.Pki, app: App) -> None:
    """The bridge's address is listened on although no interface has it; the other one serves."""
    to_come = listening.Listen("198.51.100.7", 0, free=True)
    async with serving(app, config(issued, LOOPBACK, to_come)) as (addresses, _):
        assert addresses[1][0] == "198.51.100.7"
        assert (await get(addresses[0], tls(issued)))["path"] == "/"
    with pytest.raises(errors.HostError, match="no such address") as caught:
        await server.serve(app, config(issued, listening.Listen("198.51.100.7", 0)), started=lambda _: None)
    assert "ip addr" in caught.value.remedy


async def test_a_port_in_use_is_reported_with_its_remedy(issued: pki.Pki, app: App) -> None:
    """And what was bound before it is released."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        listen = config(issued, LOOPBACK, listening.Listen("127.0.0.1", port))
        with pytest.raises(errors.HostError, match="in use") as caught:
            await server.serve(app, listen, started=lambda _: None)
    assert str(port) in caught.value.remedy
    assert app.events == ["shutdown"]


async def test_a_failing_start_raises_its_own_error(issued: pki.Pki, app: App) -> None:
    """Whoever starts the server sees what the application raised."""
    app.fail_at_startup = True
    with pytest.raises(errors.HostError, match="no store"):
        await server.serve(app, config(issued), started=lambda _: None)


async def test_a_stop_during_the_start(app: App, issued: pki.Pki) -> None:
    """One that is told to end while its application starts lets it start, tells it to end, and ends."""
    app.starting = anyio.Event()
    with anyio.fail_after(10):
        async with anyio.create_task_group() as group:

            async def run() -> None:
                await server.serve(app, config(issued), started=lambda _: None)

            group.start_soon(run)
            await app.starting.wait()
            group.cancel_scope.cancel()
    assert app.events == ["shutdown"]


async def test_a_stop_ends_watches_at_once_and_cleanly(issued: pki.Pki, app: App) -> None:
    """The stream is finished as by the server itself, then the application is shut down."""
    async with serving(app, config(issued)) as ((address,), scope), raw(address, issued) as stream:
        await stream.send(b"GET /watch HTTP/1.1\r\nhost: x\r\n\r\n")
        received = b""
        while b"first" not in received:
            received += await stream.receive()
        scope.cancel()
        with anyio.CancelScope(shield=True), anyio.fail_after(1), contextlib.suppress(anyio.EndOfStream):
            while True:
                received += await stream.receive()
    assert received.endswith(b"6\r\nfirst\n\r\n0\r\n\r\n")
    assert app.events == ["disconnected", "shutdown"]


async def test_a_stop_lets_short_requests_finish(issued: pki.Pki, app: App) -> None:
    """A request under way is answered; its connection is then closed."""
    async with serving(app, config(issued)) as ((address,), scope), raw(address, issued) as stream:
        await stream.send(b"GET /slow HTTP/1.1\r\nhost: x\r\n\r\n")
        await anyio.sleep(0.1)
        scope.cancel()
        received = b""
        with anyio.CancelScope(shield=True), anyio.fail_after(2), contextlib.suppress(anyio.EndOfStream):
            while True:
                received += await stream.receive()
    assert b"connection: close" in received
    assert b'"/slow"' in received


async def test_a_stop_cancels_what_does_not_end(issued: pki.Pki, app: App) -> None:
    """After the grace period nothing holds the server back."""
    with anyio.fail_after(3):
        async with (
            serving(app, config(issued, grace_s=0.1)) as ((address,), _),
            raw(address, issued) as stream,
        ):
            await stream.send(b"GET /stuck HTTP/1.1\r\nhost: x\r\n\r\n")
            with anyio.fail_after(2):
                await app.stuck.wait()
    assert app.events[-1] == "shutdown"


class _Kept(Listeners):
    """Sockets that one server leaves to the next."""

    def __init__(self) -> None:
        self.sockets: dict[str, socket.socket] = {}
        self.dropped: list[str] = []

    def inherit(self, name: str) -> socket.socket | None:
        kept = self.sockets.get(name)
        return kept.dup() if kept is not None else None

    def keep(self, name: str, listening: socket.socket) -> None:
        self.sockets[name] = listening.dup()

    def drop(self, name: str) -> None:
        self.dropped.append(name)

    def unclaimed(self) -> list[str]:
        return ["127.0.0.1:1"]


async def test_who_connects_between_two_servers_waits_for_the_next(issued: pki.Pki, app: App) -> None:
    """The socket outlives the first; what it was never asked for again is dropped."""
    kept, answers = _Kept(), list[object]()
    async with serving(app, config(issued, listeners=kept)) as ((address,), _):
        assert (await get(address, tls(issued)))["path"] == "/"

    async def ask() -> None:
        answers.append(await get(address, tls(issued)))

    with anyio.fail_after(10):
        async with anyio.create_task_group() as group:
            group.start_soon(ask)
            await anyio.wait_all_tasks_blocked()
            assert answers == []
            async with serving(app, config(issued, listeners=kept)) as ((again,), _):
                assert again == address
                while not answers:  # noqa: ASYNC110 - what is waited for comes from a thread
                    await anyio.sleep(0.01)
    assert kept.dropped == ["127.0.0.1:1", "127.0.0.1:1"]
    for each in kept.sockets.values():
        each.close()
