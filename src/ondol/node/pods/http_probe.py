"""HTTP as the kubelet's prober speaks it: one GET, redirects on the same host, 10 KiB of the body.

Used by probes and lifecycle hooks. A client of its own and not a library: it sends the headers that were
asked for as they are, trusts any certificate, uses no proxy, and never reads more than it may.
"""

from __future__ import annotations

import functools
import re
import ssl
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import SplitResult, quote, urljoin, urlsplit

import anyio
from anyio.abc import ByteStream

from ondol.api import release
from ondol.base.clock import Clock
from ondol.node.pods.target import Answer, Target

Spec = Mapping[str, Any]
Header = tuple[str, str]

PROBE_AGENT: Final = f"kube-probe/{release.NAME}"
HOOK_AGENT: Final = f"kube-lifecycle/{release.NAME}"

_BODY_MAX: Final = 10 * 1024
_HEAD_MAX: Final = 1024 * 1024
_REDIRECTS_MAX: Final = 10
_OK: Final = 200
_REDIRECT: Final = 300
_BAD: Final = 400
_FOLLOWED: Final = (301, 302, 303, 307, 308)
_BODILESS: Final = (204, 304)
_PRINTABLE: Final = "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~"
_HEAD_END: Final = re.compile(rb"\r?\n\r?\n")
_LOST: Final = (OSError, anyio.BrokenResourceError, anyio.EndOfStream)
_UNSENDABLE: Final = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")


class BadAnswer(ValueError):
    """What the server sent is not an HTTP answer."""


class HalfAnswer(Exception):
    """The head of an answer came, its body did not."""


@dataclass(frozen=True, slots=True)
class Response:
    status: int
    headers: Mapping[str, str]
    """By lower-case name; of a repeated one the first."""
    body: bytes
    """At most 10 KiB."""


async def ask(action: Spec, target: Target, timeout_s: float, clock: Clock) -> Answer:
    """Whether `httpGet` is answered with 200 to 399; a redirect to elsewhere is a success with a warning."""
    try:
        response = await get(action, target, timeout_s, clock, agent=PROBE_AGENT)
    except HalfAnswer as error:
        return Answer("error", str(error))
    except (OSError, TimeoutError, ValueError) as error:
        return Answer("failure", str(error))
    if _REDIRECT <= response.status < _BAD:
        text = response.body.decode(errors="replace")
        return Answer("warning", f"Probe terminated redirects, Response body: {text}")
    if _OK <= response.status < _REDIRECT:
        return Answer("success")
    # The body stays out of it: events are read by more people than the service answers.
    return Answer("failure", f"HTTP probe failed with statuscode: {response.status}")


async def get(action: Spec, target: Target, timeout_s: float, clock: Clock, *, agent: str) -> Response:
    """The answer to `httpGet`, after redirects on the same host.

    `OSError`, `TimeoutError` and `ValueError` name the address and what went wrong, `HalfAnswer` when only
    the body is missing. Source: k8s.io/kubernetes/pkg/probe/http.
    """
    url = first_url(action, target)
    try:
        with clock.fail_after(timeout_s):
            sent = headers(action.get("httpHeaders") or (), agent)
            return await _follow(url, sent, None if action.get("host") else target.asked_from)
    except TimeoutError as error:
        raise TimeoutError(f'Get "{url.geturl()}": no answer within {timeout_s:g}s') from error


async def _follow(first: SplitResult, sent: Sequence[Header], asked_from: str | None) -> Response:
    url, host, extra = first, _host_header(sent), list[Header]()
    for _ in range(_REDIRECTS_MAX):
        response = await _once(url, host, [*sent, *extra], asked_from)
        location = response.headers.get("location", "")
        if response.status not in _FOLLOWED or not location:
            return response
        following = urlsplit(urljoin(url.geturl(), location))
        if (following.hostname or "") != (first.hostname or ""):
            return response
        # A host that was asked for goes with a redirect to a path, not with one to an address.
        host = host if not urlsplit(location).netloc else ""
        extra, url = _referer(url, following), following
    raise BadAnswer(f'Get "{url.geturl()}": stopped after {_REDIRECTS_MAX} redirects')


def _referer(before: SplitResult, following: SplitResult) -> list[Header]:
    is_downgrade = before.scheme == "https" and following.scheme == "http"
    return [] if is_downgrade else [("Referer", before.geturl())]


def first_url(action: Spec, target: Target) -> SplitResult:
    """Scheme, host and port as the action says, path and query of its `path`."""
    scheme = str(action.get("scheme") or "HTTP").lower()
    host, port = action.get("host") or target.address, target.port(action["port"])
    try:
        parts = urlsplit(str(action.get("path") or "/"))
    except ValueError:  # no URL by itself: sent as a path nevertheless
        parts = SplitResult("", "", str(action["path"]), "", "")
    path = quote(parts.path, safe=_PRINTABLE)
    path = path if path.startswith("/") else f"/{path}"
    return SplitResult(scheme, _address(str(host), port), path, quote(parts.query, safe=_PRINTABLE), "")


def _address(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def headers(listed: Iterable[Spec], agent: str) -> list[Header]:
    """What is sent besides `Host`: what was asked for and, where it says nothing, the kubelet's own."""
    requested = [(str(h["name"]), str(h.get("value") or "")) for h in listed]
    for name, value in requested:
        if _UNSENDABLE.search(name + value):
            raise ValueError(f"a header {name!r} cannot be sent: it has a control character in it")
    names = {name.lower() for name, _ in requested}
    own = [(n, v) for n, v in (("User-Agent", agent), ("Accept", "*/*")) if n.lower() not in names]
    # An empty one of these two is how to send none.
    dropped = {n.lower() for n, v in requested if not v and n.lower() in ("accept", "user-agent")}
    return [*own, *(header for header in requested if header[0].lower() not in dropped)]


def _host_header(sent: Iterable[Header]) -> str:
    return next((value for name, value in sent if name.lower() == "host"), "")


async def _once(url: SplitResult, host: str, sent: Sequence[Header], asked_from: str | None) -> Response:
    if url.scheme not in ("http", "https"):
        raise BadAnswer(f'Get "{url.geturl()}": unsupported protocol scheme "{url.scheme}"')
    name, port = url.hostname or "", url.port or (443 if url.scheme == "https" else 80)
    try:
        stream = await _connect(name, port, asked_from, tls=url.scheme == "https")
    except _LOST as error:
        raise OSError(f'Get "{url.geturl()}": {dial_failure(name, port, error)}') from error
    try:
        async with stream:
            await stream.send(_request(url, host or url.netloc, sent))
            return await _response(stream)
    except (BadAnswer, *_LOST) as error:
        raise OSError(f'Get "{url.geturl()}": {_words(error)}') from error


async def _connect(host: str, port: int, asked_from: str | None, *, tls: bool) -> ByteStream:
    if not tls:
        return await anyio.connect_tcp(host, port, local_host=asked_from)
    return await anyio.connect_tcp(
        host, port, local_host=asked_from, ssl_context=_unverified(), tls_standard_compatible=False
    )


@functools.cache
def _unverified() -> ssl.SSLContext:
    """Probes ask whether a server answers, not who it is nor how strong its key is (as in Kubernetes)."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_ciphers("DEFAULT:@SECLEVEL=0")
    return context


def _request(url: SplitResult, host: str, sent: Sequence[Header]) -> bytes:
    path = (url.path or "/") + (f"?{url.query}" if url.query else "")
    listed = [(name, value) for name, value in sent if name.lower() not in ("host", "connection")]
    lines = [f"GET {quote(path, safe=_PRINTABLE)} HTTP/1.1", f"Host: {host}"]
    lines += [f"{name}: {value}" for name, value in listed]
    return "\r\n".join([*lines, "Connection: close", "", ""]).encode()


async def _response(stream: ByteStream) -> Response:
    """The first answer that is one: interim ones (1xx) are passed over."""
    received = b""
    while True:
        while not (end := _HEAD_END.search(received)):
            if len(received) > _HEAD_MAX:
                raise BadAnswer("the answer's head is too long")
            received += await stream.receive()
        status, fields = _head(received[: end.start()])
        received = received[end.end() :]
        if status >= _OK or status == 101:
            break
    try:
        return Response(status, fields, await _body(stream, received, status, fields))
    except (ValueError, *_LOST) as error:
        raise HalfAnswer(f"the body of the answer did not come: {_words(error)}") from error


def _head(raw: bytes) -> tuple[int, dict[str, str]]:
    first, *rest = raw.decode("latin-1").splitlines()
    words = first.split(None, 2)
    if len(words) < 2 or not words[0].startswith("HTTP/") or not words[1].isdigit():
        raise BadAnswer("the answer is not HTTP")
    pairs = [line.partition(":") for line in rest if ":" in line]
    return int(words[1]), {name.strip().lower(): value.strip() for name, _, value in reversed(pairs)}


async def _body(stream: ByteStream, received: bytes, status: int, fields: Mapping[str, str]) -> bytes:
    if status in _BODILESS:
        return b""
    if "chunked" in fields.get("transfer-encoding", "").lower():
        return await _chunks(stream, received)
    length = int(fields["content-length"]) if "content-length" in fields else None
    needed = _BODY_MAX if length is None else min(length, _BODY_MAX)
    while len(received) < needed:
        try:
            received += await stream.receive()
        except anyio.EndOfStream:
            if length is not None:
                raise
            break
    return received[:needed]


async def _chunks(stream: ByteStream, received: bytes) -> bytes:
    body = b""
    while len(body) < _BODY_MAX:
        while b"\n" not in received:
            received += await stream.receive()
        line, _, received = received.partition(b"\n")
        if not line.strip():
            continue  # the end of the chunk before
        size = int(line.partition(b";")[0], 16)
        if size == 0:
            break
        needed = min(size, _BODY_MAX - len(body))
        while len(received) < needed:
            received += await stream.receive()
        body, received = body + received[:needed], received[needed:]
    return body


def dial_failure(host: str, port: int, error: BaseException) -> str:
    """Why a connection was not made, in the words of Go's dialer."""
    return f"dial tcp {_address(host, port)}: {_words(error)}"


def _words(error: BaseException) -> str:
    cause = error.__cause__ or error
    if isinstance(cause, BaseExceptionGroup):
        cause = cause.exceptions[0]
    if isinstance(cause, ConnectionRefusedError):
        return "connect: connection refused"
    if isinstance(cause, ConnectionResetError | BrokenPipeError):
        return "connection reset by peer"
    if isinstance(cause, anyio.EndOfStream):
        return "EOF"
    if isinstance(cause, TimeoutError):
        return "i/o timeout"
    return getattr(cause, "strerror", None) or str(cause) or type(cause).__name__
