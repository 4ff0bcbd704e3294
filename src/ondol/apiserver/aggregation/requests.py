"""Requests that another API server answers, and what this one asks of it for itself.

By now a request was authenticated and authorised here. The other server is told who asks, and believes it
since this server shows its front-proxy certificate.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from typing import Final, NamedTuple

from ondol.apiserver import takeover
from ondol.apiserver.aggregation.remotes import Remote
from ondol.apiserver.auth import request_headers
from ondol.apiserver.auth.identity import MASTERS, User
from ondol.apiserver.config import ApiConfig
from ondol.apiserver.core import Core
from ondol.apiserver.exchange import Answer, Begin, Headers, Passed, Reply, Request
from ondol.apiserver.ports import Destination, Forwarded, ForwardedAnswer, Trust
from ondol.apiserver.proxying import locations, messages, relaying
from ondol.apiserver.service_endpoints import Address, Endpoints, NotReached
from ondol.base import errors

AGGREGATOR: Final = User("system:kube-aggregator", (MASTERS,))
_MISSING: Final = "the server could not find the requested resource"
_TEXT: Final = b"text/plain; charset=utf-8"
_NO_SNIFFING: Final = (b"x-content-type-options", b"nosniff")
_REDIRECTS: Final = range(300, 400)
_REDIRECTED: Final = b"the backend attempted to redirect this request, which is not permitted"
_OWN_ANSWERS: Final = frozenset({b"audit-id"})
_OWN_REQUESTS: Final = frozenset({b"audit-id", b"connection", b"host"})
_ASKING_S: Final = 5.0


def answer(core: Core, request: Request, remote: Remote) -> Answer:
    """What the other server says, as it comes."""
    if request.method not in relaying.METHODS:
        raise errors.MethodNotAllowed("the server does not allow this method on the requested resource")
    path = request.scope["path"]
    if not _is_plain(path):
        raise errors.NotFound(_MISSING)
    return _passed(core, request, remote, messages.target(request.scope, messages.quoted(path)), request.user)


def description(core: Core, request: Request, remote: Remote) -> Answer:
    """The other server's own OpenAPI, which it tells everybody alike."""
    return _passed(core, request, remote, f"/openapi/v3{remote.root}", AGGREGATOR)


def _is_plain(path: str) -> bool:
    """Whether no server could take it for another path than the one that was authorised."""
    parts = path.removesuffix("/").split("/")[1:]
    return path.startswith("/") and all(part not in ("", ".", "..") for part in parts)


def _passed(core: Core, request: Request, remote: Remote, target: str, user: User) -> Answer:
    if not remote.is_available or core.forwarder is None:
        return _unavailable()
    try:
        to = destination(core, remote)
    except NotReached:
        return _unavailable()
    scope = request.scope
    own = [(b"host", remote.host.encode()), (b"audit-id", request.audit_id.encode())]
    own += request_headers.of(user)
    if takeover.TAKE in scope:
        # What the client calls a matter between neighbours must not be taken for that by a proxy before the
        # other server: nobody would know who asks.
        kept = _without(messages.upgrade_headers(scope), _OWN_REQUESTS)
        headers = [*kept, *own, (b"connection", b"Upgrade")]
        forwarded = Forwarded(request.method, target, headers)
        return relaying.tunnel(core.clock, core.forwarder, to, forwarded, refusal=errors.Unavailable)
    path = target.partition("?")[0]
    headers = [*_without(messages.request_headers(scope, path), _OWN_REQUESTS), *own]
    forwarded = Forwarded(request.method, target, headers)
    passing = relaying.Passing(core.forwarder, request, to, forwarded, fail=_fail, respond=_respond)
    return Passed(passing.run)


def _without(headers: Headers, names: frozenset[bytes]) -> Headers:
    return [(name, value) for name, value in headers if name not in names]


def _unavailable() -> Reply:
    return Reply(b"service unavailable\n", 503, _TEXT, [_NO_SNIFFING])


async def _fail(reason: str, begin: Begin) -> None:
    await _say(begin, 503, f"error trying to reach service: {reason}".encode())


async def _respond(answer: ForwardedAnswer, headers: Headers, begin: Begin) -> None:
    if answer.status in _REDIRECTS and any(name == b"location" for name, _ in headers):
        await _say(begin, 502, _REDIRECTED)
        return
    await relaying.as_it_is(answer, _without(headers, _OWN_ANSWERS), begin)


async def _say(begin: Begin, status: int, text: bytes) -> None:
    length = str(len(text)).encode()
    emit = await begin(status, [(b"content-type", _TEXT), (b"content-length", length), _NO_SNIFFING])
    await emit(text)


def destination(core: Core, remote: Remote, address: Address | None = None) -> Destination:
    """An endpoint of its Service, or the one at `address`; `NotReached` if none may be asked."""
    if address is None:

        def choice(ready: list[Address]) -> Address:
            allowed = reachable(core.config, ready)
            if not allowed:
                raise NotReached(f'no endpoint of service "{remote.service}" may be asked')
            return core.rng.choice(allowed)

        endpoints = Endpoints(core.state, remote.namespace, remote.service)
        address = endpoints.choose(remote.port, choice)
    return Destination("https", *address, trust=Trust(remote.host, remote.authority, remote.is_verified))


def reachable(config: ApiConfig, ready: Sequence[Address]) -> list[Address]:
    """Of endpoints, those that may be asked: neither this machine alone nor a Service nor the platform.

    They are written by many, and are asked in the name of this server.
    """
    services = ipaddress.ip_network(config.service_cidr)
    return [
        (host, port)
        for host, port in ready
        if locations.is_proxyable(host)
        and ipaddress.ip_address(host) not in services
        and not (host == config.advertise_address and port in config.own_ports)
    ]


class Fetched(NamedTuple):
    """An answer to a question of this server's own."""

    status: int
    body: bytes
    content_type: str


async def fetch(
    core: Core, to: Destination, target: str, *, accept: str = "*/*", bytes_max: int, user: User = AGGREGATOR
) -> Fetched:
    """Ask for a document; `OSError` if there is none in time, or one that is too large."""
    if core.forwarder is None or to.trust is None:
        raise OSError("this server has no way to reach others")
    headers = [(b"host", to.trust.server_name.encode()), (b"accept", accept.encode())]
    forwarded = Forwarded("GET", target, [*headers, *request_headers.of(user)])
    body = bytearray()
    try:
        with core.clock.fail_after(_ASKING_S):
            async with core.forwarder.request(to, forwarded, None) as answer:
                async for chunk in answer.chunks():
                    body += chunk
                    if len(body) > bytes_max:
                        raise OSError(f"the answer is larger than {bytes_max} bytes")
                content_type = dict(answer.headers).get(b"content-type", b"").decode("latin-1")
                return Fetched(answer.status, bytes(body), content_type)
    except TimeoutError:
        raise OSError("context deadline exceeded") from None
