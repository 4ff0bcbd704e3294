"""The node's own HTTP interface, a subset of the kubelet's: logs, health, usage, pods and what they say.

The API server reaches it with a bearer token. Health needs none.
"""

from __future__ import annotations

import hmac
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import anyio
from anyio.abc import TaskStatus

from ondol.api import parameters
from ondol.base import errors, metrics, unix_socket
from ondol.base.clock import Clock, parse_rfc3339
from ondol.node import logs, web_streams
from ondol.web import serving
from ondol.web.application import (
    Application,
    Asgi,
    Headers,
    Mount,
    Receive,
    Request,
    Response,
    Route,
    Scope,
    Send,
    Streamed,
    query,
)

_TEXT = "text/plain; charset=utf-8"
LogPlace: TypeAlias = tuple[Path, Callable[[], bool]]


class Subject(web_streams.Speaking, Protocol):
    """What the interface tells about."""

    def log(self, namespace: str, pod: str, container: str, *, previous: bool) -> LogPlace:
        """The log's path and whether its writer has ended; `NotFound` or `BadRequest`."""

    def pods(self) -> Sequence[Mapping[str, Any]]:
        """The objects of the pods on this node."""

    async def metrics(self, page: str) -> bytes:
        """A page for Prometheus: `cadvisor`, `resource`, `probes`, or (empty) the agent's own.

        `NotFound` for any other.
        """

    async def settle(self) -> None:
        """Wait, for a second at most, until `summary` can tell rates."""

    def summary(self) -> Mapping[str, Any]:
        """CPU and memory of the node and each pod, in the kubelet's `/stats/summary` shape."""


def application(subject: Subject, clock: Clock, token: str) -> Application:
    """The interface; whoever has not the bearer `token` is shown health alone."""
    pages = _Pages(subject, clock)
    return Application(
        [
            Route("/healthz", Response(b"ok", media_type=_TEXT)),
            Mount("/", _Authorized(pages.application(), token)),
        ]
    )


async def serve(
    application: Asgi, path: Path, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED
) -> None:
    """Serve at the socket `path` until cancelled, which cuts followed logs; `started` once it listens."""
    async with serving.serving(application, unix_socket.listen(path), websockets=True, grace_s=0):
        task_status.started()
        await anyio.sleep_forever()


class _Authorized:
    """Lets requests with the bearer token through that read, and no others."""

    def __init__(self, application: Application, token: str) -> None:
        self._application = application
        self._token = token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        authorization = Headers(scope=scope).get("authorization", "")
        expected = f"Bearer {self._token}"
        if not self._token or not hmac.compare_digest(authorization.encode(), expected.encode()):
            raise errors.Unauthorized("a bearer token is needed")
        if scope["type"] == "http" and scope["method"] != "GET":
            raise errors.MethodNotAllowed("only GET is served here")
        await self._application(scope, receive, send)


class _Pages:
    """What is shown to who may see it."""

    def __init__(self, subject: Subject, clock: Clock) -> None:
        self._subject = subject
        self._clock = clock

    def application(self) -> Application:
        return Application(
            [
                Route("/containerLogs/{namespace}/{pod}/{container}", self._log),
                Route("/stats/summary", self._summary),
                Route("/pods", self._pods),
                Route("/metrics", self._metrics),
                Route("/metrics/{page}", self._metrics),
                *web_streams.Streams(self._subject).routes(),
            ],
            unserved="no such page: {}".format,
        )

    async def _log(self, request: Request) -> Response:
        values = query(request)
        options = log_options(values, self._clock.now())
        is_previous = parameters.is_true(values.get("previous"))
        path, is_over = self._subject.log(**request.path_params, previous=is_previous)
        return Streamed(logs.read(path, options, self._clock, is_over), media_type=_TEXT)

    async def _pods(self, _request: Request) -> Response:
        listed = {"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": self._subject.pods()}
        return Response(json.dumps(listed), media_type="application/json")

    async def _metrics(self, request: Request) -> Response:
        page = await self._subject.metrics(request.path_params.get("page", ""))
        return Response(page, media_type=metrics.CONTENT_TYPE)

    async def _summary(self, _request: Request) -> Response:
        await self._subject.settle()
        return Response(json.dumps(self._subject.summary()), media_type="application/json")


def log_options(query: Mapping[str, str], now: float) -> logs.LogOptions:
    """The `PodLogOptions` of a request; `BadRequest` names what cannot be read."""
    try:
        since = parse_rfc3339(query["sinceTime"]) if query.get("sinceTime") else None
        if query.get("sinceSeconds"):
            since = now - int(query["sinceSeconds"])
        tail = int(query["tailLines"]) if query.get("tailLines") else None
        limit = int(query["limitBytes"]) if query.get("limitBytes") else None
    except ValueError as error:
        raise errors.BadRequest(f"log options: {error}") from error
    if (tail is not None and tail < 0) or (limit is not None and limit < 1):
        raise errors.BadRequest("log options: tailLines must be at least 0 and limitBytes at least 1")
    stream = query.get("stream", "All")
    return logs.LogOptions(
        follow=parameters.is_true(query.get("follow")),
        timestamps=parameters.is_true(query.get("timestamps")),
        tail_lines=tail,
        since=since,
        limit_bytes=limit,
        stream="" if stream == "All" else stream.lower(),
    )
