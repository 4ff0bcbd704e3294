"""The listening sockets of the data plane, plain and TLS, and what is served at both.

The certificate is read once an hour, and shown from then on; connections that are open keep the one that they
began with.
"""

from __future__ import annotations

import socket
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import anyio

from ondol.base import log
from ondol.base.clock import Clock
from ondol.base.listeners import Listeners
from ondol.eventing.plane.hosts import Hosts
from ondol.web import serving
from ondol.web.calling import Place

_LISTENER: Final = "events"
_TLS_LISTENER: Final = "events-tls"
_GRACE_S: Final = 10
_BACKLOG: Final = 1024
_AGAIN_S: Final = 1.0
LOOK_S: Final = 3600.0
"""How often the certificate is looked at."""


@dataclass(frozen=True, slots=True)
class Certified:
    """Where TLS is spoken, with which certificate and key (files in PEM), which whoever makes them renews.

    `ca_certs` are those who issue it (PEM).
    """

    port: int
    certificate: Path
    key: Path
    ca_certs: str


class Front:
    """`run` serves; `retire` ends it in good order."""

    def __init__(
        self, hosts: Hosts, place: Place, tls: Certified | None, listeners: Listeners, clock: Clock
    ) -> None:
        self._hosts = hosts
        self._place = place
        self._tls = tls
        self._listeners = listeners
        self._clock = clock
        self._retiring = anyio.Event()
        self._retired = anyio.Event()
        self._log = log.get("events-front")

    async def run(self) -> None:
        plain = self._socket(_LISTENER, self._place.port)
        if self._tls is None:
            await self._serve(plain)
        else:
            await self._serve_both(plain, self._socket(_TLS_LISTENER, self._tls.port), self._tls)
        self._retired.set()

    async def _serve_both(self, plain: socket.socket, listening: socket.socket, tls: Certified) -> None:
        async with anyio.create_task_group() as others:
            others.start_soon(self._serve_tls, listening, tls)
            await self._serve(plain)

    async def _serve(self, listening: socket.socket, tls: ssl.SSLContext | None = None) -> None:
        async with serving.serving(self._hosts, listening, grace_s=_GRACE_S, tls=tls):
            await self._retiring.wait()

    async def _serve_tls(self, listening: socket.socket, tls: Certified) -> None:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        while not self._load(context, tls):  # an API server of the version before may not have made it
            with self._clock.move_on_after(_AGAIN_S):
                await self._retiring.wait()
            if self._retiring.is_set():
                listening.close()
                return
        async with anyio.create_task_group() as keeping:
            keeping.start_soon(self._keep, context, tls)
            await self._serve(listening, context)
            keeping.cancel_scope.cancel()

    async def _keep(self, context: ssl.SSLContext, tls: Certified) -> None:
        while True:
            await self._clock.sleep(LOOK_S)
            self._load(context, tls)

    def _load(self, context: ssl.SSLContext, tls: Certified) -> bool:
        """Show the certificate that is there now; whether there is one."""
        try:
            # First where nobody sees it: what does not belong together would leave the context without a key.
            ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(tls.certificate, tls.key)
            context.load_cert_chain(tls.certificate, tls.key)
        except OSError as error:  # also what is no certificate, or not of the key
            self._log.warning("certificate_not_loaded", file=str(tls.certificate), error=str(error))
            return False
        return True

    async def retire(self) -> None:
        """Accept no more: another process has the same ports. Returns when what was accepted is answered."""
        self._retiring.set()
        await self._retired.wait()

    def _socket(self, name: str, port: int) -> socket.socket:
        inherited = self._listeners.inherit(name)
        if inherited is not None:
            return inherited
        listening = serving.listen_tcp(self._place.host, port, name="Eventing")
        listening.listen(_BACKLOG)
        self._listeners.keep(name, listening)
        return listening
