"""The client against small ASGI applications: verbs, errors, watches and cancellation."""

from __future__ import annotations

from typing import Any

import anyio
import msgspec
import pytest

from ondol.api import resources
from ondol.base import errors
from ondol.base.clock import ManualClock, SystemClock
from ondol.client import AsgiTransport, Client, ConnectionLost, PatchType, Response
from ondol.client.asgi import App, lifespan

pytestmark = pytest.mark.anyio


class Recorder:
    """An application that answers with what it was told and remembers what it was asked."""

    def __init__(self, answer: Any, status: int = 200, headers: dict[str, str] | None = None) -> None:
        self.answer = answer if isinstance(answer, bytes) else msgspec.json.encode(answer)
        self.status = status
        self.headers = headers or {}
        self.requests: list[dict[str, Any]] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        body = (await receive())["body"]
        self.requests.append(
            {
                "method": scope["method"],
                "path": scope["path"],
                "query": scope["query_string"].decode(),
                "headers": {k.decode(): v.decode() for k, v in scope["headers"]},
                "body": msgspec.json.decode(body) if body else None,
                "identity": scope.get("ondol.identity"),
            }
        )
        headers = [(k.encode(), v.encode()) for k, v in self.headers.items()]
        await send({"type": "http.response.start", "status": self.status, "headers": headers})
        await send({"type": "http.response.body", "body": self.answer})


def client(app: App) -> Client:
    return Client(
        AsgiTransport(app, clock=SystemClock(), identity={"name": "test", "groups": ["system:masters"]})
    )


def streaming(*chunks: bytes, hold: bool = False, disconnects: list[str] | None = None) -> App:
    """An application that sends chunks and then ends, or waits for the client to leave."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for chunk in chunks:
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
        if hold:
            message = await receive()
            if disconnects is not None:
                disconnects.append(message["type"])
        else:
            await send({"type": "http.response.body", "body": b""})

    return app


async def test_reads_a_document_as_the_given_identity() -> None:
    """A get is one GET of the object's path, by the identity of the transport."""
    app = Recorder({"kind": "Pod", "metadata": {"name": "a"}})
    assert await client(app).get(resources.POD, "a", "default") == {"kind": "Pod", "metadata": {"name": "a"}}
    sent = app.requests[0]
    assert (sent["method"], sent["path"]) == ("GET", "/api/v1/namespaces/default/pods/a")
    assert sent["identity"] == {"name": "test", "groups": ["system:masters"]}


async def test_lists_fill_in_the_kind_of_items() -> None:
    """Items get the apiVersion and kind that servers leave out."""
    app = Recorder(
        {
            "kind": "PodList",
            "metadata": {"resourceVersion": "7", "continue": "more"},
            "items": [{"metadata": {"name": "a"}}],
        }
    )
    page = await client(app).list(resources.POD, label_selector="app=x", limit=1)
    assert (page.items[0]["kind"], page.items[0]["apiVersion"]) == ("Pod", "v1")
    assert (page.resource_version, page.continue_token) == ("7", "more")
    assert app.requests[0]["query"] == "labelSelector=app%3Dx&limit=1"


async def test_warnings_are_told_to_who_listens() -> None:
    """Each `Warning` header of an answer is one text, unquoted; several headers are all heard."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        texts = [b'299 - "spec.tty: no \\"terminal\\""', b'299 - "unknown field, x"']
        headers = [(b"warning", text) for text in texts]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"{}"})

    heard: list[str] = []
    listener = client(app)
    await listener.get(resources.POD, "a", "n")
    listener.on_warning = heard.append
    await listener.get(resources.POD, "a", "n")
    assert heard == ['spec.tty: no "terminal"', "unknown field, x"]


async def test_apply_sends_the_document_as_its_field_manager() -> None:
    """Server-side apply is a PATCH with its own content type, manager and force."""
    app = Recorder({})
    await client(app).apply(resources.POD, {"metadata": {"name": "a", "namespace": "n"}})
    sent = app.requests[0]
    assert sent["headers"]["content-type"] == PatchType.APPLY.value
    assert sent["query"] == "fieldManager=ondol&force=true"
    assert sent["body"] == {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a", "namespace": "n"}}


async def test_delete_sends_its_preconditions() -> None:
    """A delete names propagation, grace and the identity it expects."""
    app = Recorder({"kind": "Status"})
    await client(app).delete(resources.POD, "a", "n", grace_period_s=0, uid="u")
    assert app.requests[0]["body"] == {
        "apiVersion": "v1",
        "kind": "DeleteOptions",
        "propagationPolicy": "Background",
        "gracePeriodSeconds": 0,
        "preconditions": {"uid": "u"},
    }


async def test_subresources_of_a_name_are_posted_to() -> None:
    """Binding a pod is a POST below the pod."""
    app = Recorder({"kind": "Status"})
    await client(app).create(resources.POD, {"kind": "Binding"}, "n", name="a", subresource="binding")
    assert app.requests[0]["path"] == "/api/v1/namespaces/n/pods/a/binding"
    assert app.requests[0]["body"] == {"kind": "Binding"}


async def test_a_status_document_becomes_its_error() -> None:
    """The reason decides the class, and the details travel along."""
    status = {"kind": "Status", "reason": "AlreadyExists", "code": 409, "message": "there"}
    with pytest.raises(errors.AlreadyExists, match="there"):
        await client(Recorder(status, 409)).create(resources.POD, {"metadata": {"name": "a"}})


async def test_a_failure_without_a_status_keeps_its_text_and_its_delay() -> None:
    """Proxies answer with plain text; the code decides and Retry-After is read."""
    with pytest.raises(errors.TooManyRequests, match="slow down") as caught:
        await client(Recorder(b"slow down", 429, {"Retry-After": "3"})).get(resources.NODE, "a")
    assert caught.value.retry_after_s == 3


async def test_watch_joins_lines_over_chunks() -> None:
    """Where a chunk ends says nothing about where an event ends."""
    line = b'{"type":"ADDED","object":{"metadata":{"name":"a"}}}\n'
    app = streaming(line[:10], line[10:] + line, line[:-1], b"\n")
    async with client(app).watch(resources.POD) as events:
        received = [event async for event in events]
    assert [event.object["metadata"]["name"] for event in received] == ["a", "a", "a"]


async def test_watch_raises_expired_from_the_answer_and_from_the_stream() -> None:
    """410 has one meaning wherever it comes from: list again."""
    status = {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old"}
    with pytest.raises(errors.Expired):
        async with client(Recorder(status, 410)).watch(resources.POD):
            raise AssertionError
    line = b'{"type":"ERROR","object":' + msgspec.json.encode(status) + b"}\n"
    with pytest.raises(errors.Expired, match="too old"):
        async with client(streaming(line, hold=True)).watch(resources.POD) as events:
            await anext(events)


async def test_a_silent_watch_is_given_up() -> None:
    """Silence longer than the guard is an error, not a quiet stall."""
    clock, seen = ManualClock(), []
    silent = Client(
        AsgiTransport(streaming(b'{"type":"ADDED","object":{}}\n', hold=True), clock=clock), clock=clock
    )

    async def follow() -> None:
        async with silent.watch(resources.POD, inactivity_s=90) as events:
            seen.append((await anext(events)).type)
            with pytest.raises(errors.Timeout, match=r"silent for 90"):
                await anext(events)
        seen.append("given up")

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(follow)
        await anyio.wait_all_tasks_blocked()
        await clock.advance(89)
        assert seen == ["ADDED"]
        await clock.advance(1)
    assert seen == ["ADDED", "given up"]


async def test_leaving_a_watch_reaches_the_application_as_a_disconnect() -> None:
    """An application that waits for the client learns that it left."""
    disconnects: list[str] = []
    async with client(streaming(hold=True, disconnects=disconnects)).watch(resources.POD):
        await anyio.wait_all_tasks_blocked()
    assert disconnects == ["http.disconnect"]


async def test_cancelling_a_watch_ends_the_application_too() -> None:
    """No part of the application outlives the watch's context."""
    with anyio.move_on_after(0.02) as scope:
        async with client(streaming(hold=True)).watch(resources.POD) as events:
            await anext(events)
    assert scope.cancelled_caught


async def test_an_error_in_the_reader_comes_out_as_it_is() -> None:
    """The transport's own task group does not wrap what its user raises."""
    with pytest.raises(KeyError):
        async with client(streaming(hold=True)).watch(resources.POD):
            raise KeyError("mine")


async def test_a_broken_application_is_an_internal_error() -> None:
    """A bug in the server is the server's error, as it would be over the network."""

    async def broken(scope: Any, receive: Any, send: Any) -> None:
        raise RuntimeError("bug")

    with pytest.raises(errors.Internal, match="bug"):
        await client(broken).get(resources.NODE, "a")
    with pytest.raises(errors.Internal, match="bug"):
        async with client(broken).watch(resources.NODE):
            raise AssertionError


class Flaky:
    """A transport whose first answers are lost."""

    def __init__(self, losses: int) -> None:
        self.losses = losses
        self.calls = 0

    async def request(self, *_: Any, **__: Any) -> Response:
        self.calls += 1
        if self.calls <= self.losses:
            raise ConnectionLost("reset")
        return Response(200, {}, b"{}")

    def stream(self, *_: Any, **__: Any) -> Any:
        raise NotImplementedError

    async def aclose(self) -> None: ...


async def test_a_lost_get_is_tried_once_more_and_a_lost_write_never() -> None:
    """Only what cannot take effect twice is repeated without asking."""
    await Client(Flaky(1)).get(resources.NODE, "a")
    with pytest.raises(ConnectionLost):
        await Client(Flaky(2)).get(resources.NODE, "a")
    writing = Flaky(1)
    with pytest.raises(ConnectionLost):
        await Client(writing).create(resources.NODE, {"metadata": {"name": "a"}})
    assert writing.calls == 1


async def test_lifespan_starts_and_stops_the_application() -> None:
    """State made at start-up is handed out, and shutdown runs at the end."""
    seen: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append((await receive())["type"])
        scope["state"]["ready"] = True
        await send({"type": "lifespan.startup.complete"})
        seen.append((await receive())["type"])
        await send({"type": "lifespan.shutdown.complete"})

    async with lifespan(app, clock=SystemClock()) as state:
        assert state["ready"]
    assert seen == ["lifespan.startup", "lifespan.shutdown"]


async def test_discovery_reads_both_forms() -> None:
    """Aggregated discovery is preferred; a list of resources names one kind."""
    app = Recorder(
        {
            "kind": "APIResourceList",
            "groupVersion": "apps/v1",
            "resources": [
                {"name": "deployments", "kind": "Deployment", "namespaced": True},
                {"name": "deployments/scale", "kind": "Scale", "namespaced": True},
            ],
        }
    )
    api = client(app)
    assert await api.resource_for("apps/v1", "Deployment") == resources.DEPLOYMENT
    assert await api.resource_for("apps/v1", "Deployment") == resources.DEPLOYMENT
    assert len(app.requests) == 1
    with pytest.raises(errors.NotFound):
        await api.resource_for("apps/v1", "Scale")


async def test_a_version_that_is_not_served_is_named() -> None:
    """Its discovery answers 404, whose words name neither the version nor the kind."""
    missing = {
        "kind": "Status",
        "reason": "NotFound",
        "message": "the server could not find the requested resource",
    }
    app = Recorder(missing, status=404)
    with pytest.raises(errors.NotFound, match=r'no kind "Toy" is served in version "example\.org/v2"'):
        await client(app).resource_for("example.org/v2", "Toy")
