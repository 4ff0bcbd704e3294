"""The application of `observe`: the routes of every signal, health, and the platform's metrics."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping

import msgspec

from ondol.api import own_paths
from ondol.base import errors, metrics
from ondol.base.clock import Clock
from ondol.contracts import telemetry
from ondol.observe.metrics import parts
from ondol.observe.metrics.parts import Exposition
from ondol.observe.traces import exports, routes
from ondol.observe.traces.counters import Counters
from ondol.observe.traces.exports import Exports
from ondol.observe.traces.store import SpanStore
from ondol.web import exposition
from ondol.web.application import Application, Receive, Request, Response, Route, Scope, Send

PART = "observe"
"""The name of this part among those whose metrics it merges."""


def application(
    store: SpanStore, intake: Exports, clock: Clock, expositions: Mapping[str, Exposition]
) -> Application:
    """What the user who runs the platform may ask; `expositions` are the other parts' metrics, by part."""
    counters = Counters(store, intake)
    page = metrics.Page(counters.collect)

    async def healthz(_request: Request) -> Response:
        document = {"status": "ok", "spansReceived": intake.counts.spans_received}
        return Response(msgspec.json.encode(document), media_type="application/json")

    async def own(_request: Request) -> Response:
        await counters.refresh()
        return Response(page.text(), media_type=metrics.CONTENT_TYPE)

    async def platform(_request: Request) -> Response:
        await counters.refresh()
        text = await parts.page(expositions, {PART: page.text().decode()})
        return Response(text, media_type=metrics.CONTENT_TYPE)

    async def calls(_request: Request) -> Response:
        text = await parts.counted(expositions.get(parts.PROXY), telemetry.VERSION)
        return Response(text, media_type=metrics.CONTENT_TYPE)

    own_routes = [
        Route("/healthz", healthz),
        Route(exposition.PATH, own),
        Route(own_paths.METRICS, platform),
        Route(own_paths.MESH_METRICS, calls),
    ]
    return Application(
        [*routes.routes(store, intake, clock), *own_routes],
        error_document=routes.failure,
        unserved=_unserved,
    )


def _unserved(path: str) -> str:
    advice = "" if path.startswith("/api/") else "; see /api/services, /api/traces, /v1/traces"
    return f"{path} is not served{advice}"


class PodsOnly:
    """What pods see of an application: they hand in spans, and ask nothing. Nobody but pods is served.

    The bridge's address, the first of their network, is this machine itself: any of its users.
    """

    def __init__(self, application: Application, pods: ipaddress.IPv4Network) -> None:
        self._application = application
        self._pods = pods

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and (refusal := self._refusal(scope)):
            await routes.failure(refusal)(scope, receive, send)
        else:
            await self._application(scope, receive, send)

    def _refusal(self, scope: Scope) -> errors.ApiError | None:
        caller, _ = scope.get("client") or ("", 0)
        if not _is_pod(str(caller), self._pods):
            return errors.Forbidden("spans are taken from pods here")
        if str(scope["path"]).rstrip("/") != exports.PATH or scope["method"] != "POST":
            return errors.NotFound(f"only POST {exports.PATH} is served at this address")
        return None


def _is_pod(address: str, pods: ipaddress.IPv4Network) -> bool:
    try:
        caller = ipaddress.IPv4Address(address)
    except ValueError:
        return False
    return caller in pods and caller != pods[1]
