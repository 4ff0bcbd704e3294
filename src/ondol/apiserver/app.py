"""The ASGI application: the filters every request passes, and the life of the server.

From outside in: failures become Status documents, requests in flight are bounded, the caller is
authenticated and authorized, and the handler answers.
"""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final, Protocol

import anyio

from ondol.apiserver import answers, requestinfo, routing, sockets, takeover
from ondol.apiserver.aggregation.remotes import Remote
from ondol.apiserver.auth import authenticate, rbac
from ondol.apiserver.core import Core
from ondol.apiserver.exchange import (
    PIECE_BYTES,
    WHOLE_BYTES_MAX,
    Answer,
    ByteStream,
    Emit,
    Headers,
    Message,
    Passed,
    Receive,
    Reply,
    Request,
    Scope,
    Send,
    Socket,
    Stream,
    Trail,
    Tunnel,
    Upgrade,
)
from ondol.apiserver.flight import Body, Flight
from ondol.apiserver.lifecycle import Lifecycle
from ondol.apiserver.ports import CONNECTION, Auditor, Authenticator, Authorizer
from ondol.apiserver.priority.levels import Seat
from ondol.apiserver.priority.priorities import Flow, Priorities
from ondol.apiserver.spdy import plain
from ondol.base import errors, groups, log
from ondol.base.clock import Clock

_SHORT: Final = frozenset({"patch", "delete"})
_READS: Final = frozenset({"get", "list", "head", ""})
_LONG: Final = frozenset({"log", "exec", "attach", "portforward", "proxy"})
"""Subresources whose answers take as long as their clients want."""
_DECISION: Final = "authorization.k8s.io/decision"
_REASON: Final = "authorization.k8s.io/reason"
_WARNING_MAX: Final = 1024
_WARNINGS_MAX: Final = 4096
_CLOSE: Final = (b"connection", b"close")
_NO_CACHE: Final = (b"cache-control", b"no-cache, private")


class Sender(Protocol):
    """Where an answer goes: back over HTTP, or over a WebSocket."""

    status: int
    is_panic: bool
    """Whether what is answered is an error of the server's own."""

    async def answer(self, answer: Answer) -> None: ...

    async def fail(self, reply: Reply) -> None: ...


class App:
    """An API server as an ASGI application."""

    def __init__(
        self,
        core: Core,
        authenticator: Authenticator,
        authorizer: Authorizer,
        lifecycle: Lifecycle,
        *,
        priorities: Priorities,
        auditor: Auditor | None = None,
        learn: Callable[[Scope], Awaitable[bool]] | None = None,
    ) -> None:
        self.core = core
        self._authenticator = authenticator
        self._authorizer = authorizer
        self._lifecycle = lifecycle
        self._auditor = auditor
        self._learn = learn
        """Of who was refused: whether what knows them has been fetched meanwhile."""
        self._flight = Flight(core.config)
        self._priorities = priorities
        self._log = log.get("apiserver")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await self._http(scope, receive, send)
        elif scope["type"] == "lifespan":
            await self._lifecycle.run(receive, send)
        elif scope["type"] == "websocket":
            await self._socket(scope, receive, send)

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive, self.core.config.body_bytes_max)
        audit_id = request.header(b"audit-id") or self.core.new_audit_id()
        sending = _Sending(send, request, audit_id, self.core.clock)
        if takeover.TAKE in scope:
            try:
                request.scope = sockets.opening(scope)
            except errors.ApiError as error:
                await sending.fail(answers.failure(error))
                return
        await self._exchange(request, sending, audit_id)

    async def _socket(self, scope: Scope, receive: Receive, send: Send) -> None:
        """A request that asks to go on as a WebSocket."""
        await receive()  # that it is being opened
        audit_id = self.core.new_audit_id()
        sending = sockets.Sending(send, receive, scope["subprotocols"], audit_id)
        try:
            opening = sockets.as_request(scope)
        except errors.ApiError as error:
            await sending.fail(answers.failure(error))
            return
        request = Request(opening, sockets.reading(receive), self.core.config.body_bytes_max)
        await self._exchange(request, sending, audit_id)

    async def _exchange(self, request: Request, sending: Sender, audit_id: str) -> None:
        request.audit_id = audit_id
        if self._auditor is None:
            await self._finish(request, sending, audit_id)
            return
        trail = request.trail = self._auditor.trail(request, audit_id)
        audited = _Audited(sending, trail)
        try:
            await self._finish(request, audited, audit_id)
        finally:
            trail.end(sending.status, is_panic=audited.is_panic)

    async def _finish(self, request: Request, sending: Sender, audit_id: str) -> None:
        """Answer, whatever happens."""
        try:
            await self._answer(request, sending)
        except errors.ApiError as error:
            await sending.fail(answers.failure(error))
        except OSError:
            return  # the client is gone: ASGI servers say so when something is sent
        except Exception as error:  # noqa: BLE001 - the last filter: whatever went wrong has an answer
            self._log.error("request_failed", path=request.scope["path"], audit_id=audit_id, exc_info=error)
            message = f"Internal error occurred: {type(error).__name__} (audit id {audit_id})"
            sending.is_panic = True
            await sending.fail(answers.failure(errors.Internal(message)))

    async def _answer(self, request: Request, sending: Sender) -> None:
        request.info = info = requestinfo.parse(request.method, request.scope["path"], request.query)
        try:
            self._authenticate(request)
        except errors.Unauthorized:
            if self._learn is None or not await self._learn(request.scope):
                raise
            self._authenticate(request)
        flow = self._priorities.flow(request)
        if flow is not None:
            request.headers = flow.headers
        self._authorize(request)
        if info.subresource != "proxy":
            request.check_announced_size()
        clock, remotes = self.core.clock, self.core.remotes
        started = clock.monotonic()
        try:
            if remotes.is_used and (remote := remotes.of(info)) is not None:
                await self._pass_on(request, sending, flow, remote)
                return
            if info.verb == "watch" or info.subresource in _LONG:
                await sending.answer(await routing.handle(self.core, request))
                return
            if info.verb in _READS:
                seat = await self._seat(flow)
                try:
                    with self._flight.reads.one(request.user):
                        answer = await routing.handle(self.core, request)
                finally:
                    seat.leave()
            else:
                answer = await self._write(request, flow)
            await self._send_in_time(sending, answer)
        finally:
            self.core.metrics.observe(request, sending.status, clock.monotonic() - started)

    async def _pass_on(self, request: Request, sending: Sender, flow: Flow | None, remote: Remote) -> None:
        """Another server answers, within the bounds of this one."""
        from ondol.apiserver.aggregation import requests  # noqa: PLC0415 - few servers need it

        info = request.info
        if "subprotocols" in request.scope:  # it was still this server's when the connection left HTTP
            raise errors.Unavailable("the server is currently unable to handle the request")
        if info.verb == "watch" or info.subresource in _LONG or takeover.TAKE in request.scope:
            await sending.answer(requests.answer(self.core, request, remote))
            return
        is_read = info.verb in _READS
        places = self._flight.reads if is_read else self._flight.writes
        try:
            with contextlib.ExitStack() as stack:
                stack.enter_context(self.core.deadlines.fail_after(self.core.config.request_timeout_s))
                if not is_read:
                    await request.receive(stack.enter_context(Body(self._flight, request.user)))
                stack.callback((await self._seat(flow)).leave)
                stack.enter_context(places.one(request.user))
                await sending.answer(requests.answer(self.core, request, remote))
        except TimeoutError:
            if sending.status:
                raise ConnectionAbortedError("the other server did not end its answer in time") from None
            raise _late(request) from None

    async def _seat(self, flow: Flow | None) -> Seat:
        """A seat at the request's level; `TooManyRequests` if there is none for it."""
        if flow is None:
            return _NOWHERE
        level = flow.level
        return level if level.take() else await self._priorities.wait(flow)

    async def _write(self, request: Request, flow: Flow | None) -> Answer:
        """Take the body in, and only then a place among the writes."""
        config = self.core.config
        limit_s = config.patch_timeout_s if request.info.verb in _SHORT else config.request_timeout_s
        try:
            deadline = self.core.deadlines.fail_after(config.body_timeout_s)
            with Body(self._flight, request.user) as grow, deadline:
                await request.receive(grow)
                deadline.postpone(limit_s - config.body_timeout_s)
                seat = await self._seat(flow)
                try:
                    with self._flight.writes.one(request.user):
                        return await routing.handle(self.core, request)
                finally:
                    seat.leave()
        except TimeoutError:
            raise _late(request) from None

    async def _send_in_time(self, sending: Sender, answer: Answer) -> None:
        """Who does not read a long answer is cut off: it keeps old objects in memory."""
        if isinstance(answer, Reply) and len(answer.body) <= WHOLE_BYTES_MAX:
            await sending.answer(answer)
            return
        own_s = answer.limit_s if isinstance(answer, Stream) else None
        limit_s = self.core.config.request_timeout_s if own_s is None else own_s
        with self.core.clock.move_on_after(limit_s) as scope:
            await sending.answer(answer)
        if scope.cancelled_caught:
            raise ConnectionAbortedError("the client does not read the answer")

    def _authenticate(self, request: Request) -> None:
        user = self._authenticator.authenticate(request.scope)
        try:
            self._flight.own(request.scope.get(CONNECTION), user)
        except errors.TooManyRequests:
            request.is_last = True
            raise
        trail = request.trail
        if trail is not None:
            trail.begin(user)
        request.user = authenticate.impersonated(user, request.scope["headers"], self._authorizer.authorize)
        if trail is not None and request.user is not user:
            trail.acts_as(request.user)

    def _authorize(self, request: Request) -> None:
        info = request.info
        attributes = rbac.Attributes(
            info.verb,
            info.group,
            info.resource,
            info.subresource,
            info.namespace,
            info.name,
            info.path,
            request.query.get("fieldSelector", ""),
        )
        decision = self._authorizer.authorize(request.user, attributes)
        if request.trail is not None:
            request.annotate(_DECISION, "allow" if decision.allowed else "forbid")
            request.annotate(_REASON, decision.reason)
        if not decision.allowed:
            raise rbac.forbidden(request.user, attributes, decision.reason)


class _Nowhere:
    """The seat of a request before there are levels."""

    def leave(self) -> None:
        pass


_NOWHERE: Final = _Nowhere()


def _late(request: Request) -> errors.Timeout:
    if request.cut_short:
        return errors.Timeout("Timeout: the body of the request did not arrive within its time")
    message = "the server was unable to complete the request within its time; it may still happen"
    return errors.Timeout(f"Timeout: {message}", retry_after_s=1)


class _Audited:
    """A sender of which the audit log hears."""

    def __init__(self, sending: Sender, trail: Trail) -> None:
        self._sending = sending
        self._trail = trail
        self.is_panic = False

    @property
    def status(self) -> int:
        return self._sending.status

    @status.setter
    def status(self, status: int) -> None:
        self._sending.status = status

    async def answer(self, answer: Answer) -> None:
        self._trail.answered(answer, _code(answer))
        await self._sending.answer(answer)

    async def fail(self, reply: Reply) -> None:
        self._trail.answered(reply, reply.status)
        await self._sending.fail(reply)


def _code(answer: Answer) -> int:
    """What an answer will be; 0 if another server says it."""
    match answer:
        case Reply() | Stream():
            return answer.status
        case Upgrade():
            return 101
    return 0


class _Sending:
    """The response of one exchange: headers once, then the body."""

    def __init__(self, send: Send, request: Request, audit_id: str, clock: Clock) -> None:
        self._send = send
        self._request = request
        self._audit_id = audit_id
        self._clock = clock
        self._started = False
        self._taken: takeover.Taken | None = None
        self.status = 0
        self.is_panic = False

    async def answer(self, answer: Answer) -> None:
        match answer:
            case Upgrade():
                await self._upgrade(answer)
            case Tunnel():
                await self._taking(partial(answer.converse, self._take))
            case Passed():
                await answer.produce(self._begin)
                await self._send({"type": "http.response.body", "body": b""})
            case Stream():
                await self.stream(answer)
            case _:
                await self.reply(answer)

    async def _upgrade(self, upgrade: Upgrade) -> None:
        """Of clients that speak no WebSocket, some speak SPDY."""
        scope = self._request.scope
        if takeover.TAKE not in scope or not plain.is_asked(scope):
            raise errors.BadRequest("Upgrade request required")
        version = plain.chosen(scope, upgrade)

        async def converse() -> None:
            async with contextlib.AsyncExitStack() as stack:

                async def accept() -> Socket:
                    taken = await self._take(101, plain.head(version))
                    return await stack.enter_async_context(plain.spoken(taken, upgrade, version, self._clock))

                await upgrade.converse(accept)

        await self._taking(converse)

    async def _taking(self, converse: Callable[[], Awaitable[None]]) -> None:
        """The connection is closed once what it was taken for is over."""
        try:
            with groups.unwrapped():
                await converse()
        finally:
            if self._taken is not None:
                self._taken.close()

    async def _take(self, status: int, head: bytes) -> ByteStream:
        taken: takeover.Taken = self._request.scope[takeover.TAKE]()
        self._taken, self._started, self.status = taken, True, status
        await taken.send(head)
        return taken

    async def _begin(self, status: int, headers: Headers) -> Emit:
        self._started, self.status = True, status
        own: Headers = [(b"audit-id", self._audit_id.encode()), _NO_CACHE]
        own += [*self._request.headers, *headers, *_warnings(self._request.warnings)]
        await self._send({"type": "http.response.start", "status": status, "headers": own})
        return self._emit_passed

    async def _emit_passed(self, chunk: bytes) -> None:
        if chunk and self._request.method != "HEAD":
            await self._send({"type": "http.response.body", "body": chunk, "more_body": True})

    async def reply(self, reply: Reply) -> None:
        await self._start(reply.status, reply.content_type, reply.headers, len(reply.body))
        body = b"" if self._request.method == "HEAD" else reply.body
        last = len(body) // PIECE_BYTES * PIECE_BYTES if len(body) > WHOLE_BYTES_MAX else 0
        for start in range(0, last, PIECE_BYTES):
            piece = body[start : start + PIECE_BYTES]
            await self._send({"type": "http.response.body", "body": piece, "more_body": True})
        await self._send({"type": "http.response.body", "body": body[last:] if last else body})

    async def stream(self, answer: Stream) -> None:
        async def emit(chunk: bytes) -> None:
            if not self._started:
                await self._start(answer.status, answer.content_type, [], None)
            await self._send({"type": "http.response.body", "body": chunk, "more_body": True})

        await answer.produce(emit)
        if not self._started:
            await self._start(answer.status, answer.content_type, [], None)
        with contextlib.suppress(OSError):  # the client may have hung up, as watchers do
            await self._send({"type": "http.response.body", "body": b""})

    async def fail(self, reply: Reply) -> None:
        if self._taken is not None:
            return
        if not self._started:
            if self._request.cut_short or self._request.is_last:
                reply.headers.append(_CLOSE)  # nobody reads on to where the next request begins
            await self.reply(reply)
            return
        # Too late for a status code: the stream ends here, which the client sees as a cut.
        with contextlib.suppress(OSError), anyio.CancelScope(shield=True):
            await self._send({"type": "http.response.body", "body": b""})

    async def _start(self, status: int, content_type: bytes, extra: Headers, length: int | None) -> None:
        self._started = True
        self.status = status
        headers: Headers = [
            (b"audit-id", self._audit_id.encode()),
            _NO_CACHE,
            (b"content-type", content_type),
            *self._request.headers,
        ]
        headers += extra
        if length is not None:
            headers.append((b"content-length", str(length).encode()))
        headers += _warnings(self._request.warnings)
        message: Message = {"type": "http.response.start", "status": status, "headers": headers}
        await self._send(message)


def _warnings(messages: list[str]) -> Headers:
    """As `Warning` headers, cut where Kubernetes cuts them: clients bound the headers they read."""
    headers: Headers = []
    room = _WARNINGS_MAX
    for message in messages:
        text = "".join(c if c.isprintable() else " " for c in message)[: min(_WARNING_MAX, room)]
        room -= len(text)
        if not text:
            break
        quoted = text.replace("\\", "\\\\").replace('"', '\\"')
        headers.append((b"warning", f'299 - "{quoted}"'.encode()))
    return headers
