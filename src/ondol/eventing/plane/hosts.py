"""The application of the data plane: which part of it a request is for, by the service that was called.

Every part is an application of its own: brokers, channels, and whatever is mounted beside them under the name
of a service. All listen at one socket.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from ondol.contracts import cluster, eventing
from ondol.eventing.configuration.features import DISABLED, STRICT
from ondol.eventing.plane.answers import Answered, answer
from ondol.web.application import Asgi, Receive, Scope, Send

_HOST: Final = b"host"
_STRANGERS: Final = f"{eventing.WEBHOOK_SERVICE}.{eventing.NAMESPACE}.svc".encode()
_OTHER_SCHEME: Final = Answered(
    404, "events are not taken in by this scheme (transport-encryption): see the addresses in the status"
)
"""As Knative answers: a sender tries again, and has the other address by then."""


class Hosts:
    """Routes by host: `services` are those of Eventing's namespace; `channels` is for all channels.

    `transport` says which schemes are taken in: `transport-encryption` as it is now.
    """

    def __init__(
        self, services: Mapping[str, Asgi], channels: Asgi, transport: Callable[[], str] = lambda: DISABLED
    ) -> None:
        self._transport = transport
        self._services = dict(services)
        self._channels = channels
        self._others: Asgi | None = None
        self._chosen: dict[bytes, Asgi | None] = {}

    def mount(self, name: str, application: Asgi) -> None:
        """Serve an application under the name of a service."""
        self._services[name] = application
        self._chosen.clear()

    def mount_others(self, application: Asgi) -> None:
        """Serve an application for the hosts of all other services: those of transforms."""
        self._others = application
        self._chosen.clear()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        host = next((value for name, value in scope["headers"] if name == _HOST), b"")
        if scope.get("scheme") == _refused(self._transport()) and not _is_for_strangers(host):
            await answer(send, _OTHER_SCHEME)
            return
        if host not in self._chosen:
            if len(self._chosen) > 1024:
                self._chosen.clear()
            self._chosen[host] = self._choose(host.decode("latin-1"))
        application = self._chosen[host]
        if application is None:
            await answer(send, Answered(404, _nothing_at(host.decode("latin-1"))))
            return
        await application(scope, receive, send)

    def _choose(self, host: str) -> Asgi | None:
        called = cluster.service_of(host)
        if called is None:
            return None
        namespace, name = called
        if namespace == eventing.NAMESPACE and name in self._services:
            return self._services[name]
        return self._channels if eventing.is_channel_service(name) else self._others


def _refused(transport: str) -> str:
    """The scheme that is not taken in."""
    if transport == STRICT:
        return "http"
    return "https" if transport == DISABLED else ""


def _is_for_strangers(host: bytes) -> bool:
    """Whether it is called from outside, through the ingress, where TLS has ended already."""
    return host.startswith(_STRANGERS)


def _nothing_at(host: str) -> str:
    return (
        f"nothing of Eventing is served at {host!r}: the header Host names the service that is meant, "
        f"for a broker {eventing.BROKER_INGRESS}.{eventing.NAMESPACE}.svc.cluster.local"
    )
