"""The gRPC edge of the xDS server: turns messages to and from the values of `mesh.xds`.

The only module that names gRPC. It serves one aggregated delta stream a client on a Unix socket or
an address; `Hub` holds the snapshot that every stream serves and hands what clients
accept or refuse to a callback. Run by the mesh controller.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, Protocol, TypeAlias

import anyio
import anyio.abc
import anyio.streams.memory
import grpc
import grpc.aio
from envoy.service.discovery.v3 import discovery_pb2 as discovery

from ondol.base import errors, log, unix_socket
from ondol.base.clock import Clock
from ondol.base.metrics import Family
from ondol.mesh.xds.metrics import Metrics
from ondol.mesh.xds.stream import Stream
from ondol.mesh.xds.types import Outcome, Request, Response, Snapshot

_SERVICE: Final = "envoy.service.discovery.v3.AggregatedDiscoveryService"
_STOP_GRACE_S: Final = 0.2
_OPTIONS: Final = (
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    ("grpc.so_reuseport", 0),
    # Envoy pings every half a minute whether anything is sent or not. A gRPC server allows one in five
    # minutes, counts the others and hangs up: "too many pings".
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_ping_interval_without_data_ms", 1000),
    ("grpc.http2.max_ping_strikes", 0),
)

_Inbox: TypeAlias = anyio.streams.memory.MemoryObjectReceiveStream[Response]
_Outbox: TypeAlias = anyio.streams.memory.MemoryObjectSendStream[Response]


class _Context(Protocol):
    """gRPC's context of a call: what of it is used."""

    async def write(self, message: discovery.DeltaDiscoveryResponse) -> None: ...


Observer = Callable[[Sequence[Outcome]], None]


class Hub:
    """The snapshot being served, and the streams that serve it."""

    def __init__(
        self,
        observer: Observer = lambda _: None,
        on_disconnect: Callable[[], None] = lambda: None,
        *,
        clock: Clock,
    ) -> None:
        """`on_disconnect` hears when the last client has gone."""
        self._clock = clock
        self._metrics = Metrics()
        self._published_s = 0.0
        self._converging: set[Stream] = set()
        """Clients that have yet to answer all of the last snapshot."""
        self._observer = observer
        self._on_disconnect = on_disconnect
        self._snapshot: Snapshot | None = None
        self._streams: dict[Stream, _Outbox] = {}

    def publish(self, snapshot: Snapshot) -> None:
        """Serve `snapshot` to every client, now and later."""
        self._snapshot = snapshot
        self._published_s = self._clock.monotonic()
        for stream in list(self._streams):
            self._send(stream, stream.publish(snapshot))
            if not stream.settled:
                self._converging.add(stream)

    def retry(self, type_url: str) -> None:
        """Send what clients refused once more."""
        for stream in list(self._streams):
            self._send(stream, stream.retry(type_url))

    def _send(self, stream: Stream, responses: Sequence[Response]) -> None:
        for response in responses:
            self._streams[stream].send_nowait(response)
        if outcomes := stream.outcomes():
            self._metrics.answered(outcomes)
            self._observer(outcomes)
        if stream in self._converging and stream.settled:
            self._converging.remove(stream)
            self._metrics.converged(self._clock.monotonic() - self._published_s)

    def families(self) -> Iterator[Family]:
        """A collector for a `metrics.Page`."""
        return self._metrics.families(clients=len(self._streams))

    @property
    def settled(self) -> bool:
        """Every connected client has answered everything it was sent."""
        return bool(self._streams) and all(stream.settled for stream in self._streams)

    @property
    def busy(self) -> bool:
        """Some client has yet to answer."""
        return any(not stream.settled for stream in self._streams)

    def _open(self, outbox: _Outbox) -> Stream:
        stream = Stream(self._snapshot)
        self._streams[stream] = outbox
        return stream

    def _close(self, stream: Stream) -> None:
        del self._streams[stream]
        self._converging.discard(stream)
        if not self._streams:
            self._on_disconnect()

    def _receive(self, stream: Stream, message: discovery.DeltaDiscoveryRequest) -> None:
        self._send(stream, stream.receive(_request(message)))

    async def converse(
        self, messages: AsyncIterator[discovery.DeltaDiscoveryRequest], context: _Context
    ) -> None:
        """Serve one stream until the client leaves."""
        outbox, responses = anyio.create_memory_object_stream[Response](math.inf)
        stream = self._open(outbox)
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._write, responses, context)
                async for message in messages:
                    self._receive(stream, message)
                outbox.close()
        finally:
            outbox.close()
            responses.close()
            self._close(stream)

    async def _write(self, responses: _Inbox, context: _Context) -> None:
        async for response in responses:
            began, message = self._clock.monotonic(), _message(response)
            await context.write(message)
            self._metrics.pushed(response, message.ByteSize(), self._clock.monotonic() - began)


def _request(message: discovery.DeltaDiscoveryRequest) -> Request:
    return Request(
        type_url=message.type_url,
        subscribe=tuple(message.resource_names_subscribe),
        unsubscribe=tuple(message.resource_names_unsubscribe),
        initial_versions=dict(message.initial_resource_versions),
        nonce=message.response_nonce,
        error=message.error_detail.message if message.HasField("error_detail") else "",
    )


def _message(response: Response) -> discovery.DeltaDiscoveryResponse:
    message = discovery.DeltaDiscoveryResponse(
        type_url=response.type_url, nonce=response.nonce, removed_resources=response.removed
    )
    for resource in response.resources:
        added = message.resources.add(name=resource.name, version=resource.version)
        added.resource.type_url = response.type_url
        added.resource.value = resource.body
    return message


async def serve(
    hub: Hub,
    address: str,
    *,
    task_status: anyio.abc.TaskStatus[None] = anyio.TASK_STATUS_IGNORED,
) -> None:
    """Serve `hub` at `127.0.0.1:port` or `unix:/path` until cancelled; started once it listens."""
    server = grpc.aio.server(options=_OPTIONS)
    handler = grpc.stream_stream_rpc_method_handler(
        hub.converse,
        request_deserializer=discovery.DeltaDiscoveryRequest.FromString,
        response_serializer=discovery.DeltaDiscoveryResponse.SerializeToString,
    )
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler(_SERVICE, {"DeltaAggregatedResources": handler}),)
    )
    _listen(server, address)
    await server.start()
    log.get("mesh").info("xds_serving", address=address)
    task_status.started()
    try:
        await anyio.sleep_forever()
    finally:
        with anyio.CancelScope(shield=True):
            await server.stop(_STOP_GRACE_S)


def _listen(server: Any, address: str) -> None:
    try:
        server.add_insecure_port(address)
        if address.startswith(unix_socket.PREFIX):
            Path(address.removeprefix(unix_socket.PREFIX)).chmod(0o600)
    except (RuntimeError, OSError) as error:
        raise errors.HostError(
            f"the xDS server cannot listen on {address}: {error}",
            remedy="free the address, or give the platform another data directory",
        ) from error
