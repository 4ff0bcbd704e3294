"""Edge: an application served with uvicorn on sockets that listen already, TCP or Unix."""

from __future__ import annotations

import contextlib
import errno
import socket
from collections.abc import AsyncIterator
from typing import Final

import anyio
import uvicorn

from ondol.base import errors
from ondol.web.application import Application, Asgi

_IP_FREEBIND: Final = 15
"""Linux's constant, which the socket module does not name."""


@contextlib.asynccontextmanager
async def serving(
    application: Asgi, *listening: socket.socket, websockets: bool = False, grace_s: int = 2
) -> AsyncIterator[None]:
    """Serve inside the block, and close the sockets after it; `grace_s` is for requests under way then.

    The lifespan of an `Application` is around it. Signals are left to the process, and an idle server does
    not tick.
    """
    lifespan = application.lifespan() if isinstance(application, Application) else contextlib.nullcontext()
    async with lifespan:
        server = _server(application, websockets=websockets, grace_s=grace_s)
        # Neither is cut short: a cancelled start or stop leaves its socket with the loop, which would take
        # the next descriptor of that number for one that it watches already.
        with anyio.CancelScope(shield=True):
            await server.startup(sockets=list(listening))
        try:
            yield
        finally:
            with anyio.CancelScope(shield=True):
                await server.shutdown(sockets=list(listening))


def _server(application: Asgi, *, websockets: bool, grace_s: int) -> uvicorn.Server:
    config = uvicorn.Config(
        application,
        http="httptools",
        ws="wsproto" if websockets else "none",
        ws_ping_interval=None,  # whoever speaks here is on this machine: its going is seen
        ws_per_message_deflate=False,
        lifespan="off",
        interface="asgi3",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        date_header=False,  # uvicorn makes it on its tick
        server_header=False,
        timeout_graceful_shutdown=grace_s,
    )
    config.load()
    server = uvicorn.Server(config)
    server.lifespan = config.lifespan_class(config)
    server.force_exit = not grace_s
    return server


def listen_tcp(host: str, port: int, *, name: str) -> socket.socket:
    """A TCP socket bound to an IPv4 address that may come up later (a bridge's).

    `HostError`, which calls the listener `name`, where that cannot be.
    """
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.setsockopt(socket.IPPROTO_IP, _IP_FREEBIND, 1)
        listening.bind((host, port))
    except OSError as error:
        listening.close()
        if error.errno == errno.EADDRINUSE:
            message, remedy = "it is in use", f"stop what listens on it: ss -ltnp 'sport = :{port}'"
        else:
            message, remedy = str(error.strerror), "choose an address of this machine (ip addr)"
        raise errors.HostError(f"{name} cannot listen on {host}:{port}: {message}", remedy=remedy) from error
    return listening
