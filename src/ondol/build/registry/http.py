"""Edge: one exchange with a registry by the standard library's HTTP client, in the caller's thread.

Redirects are followed a few times, never from TLS to plain HTTP, and another server is not shown what was
meant for the first. An answer is bounded in size, and in how long it may dawdle. Whoever has lost interest
calls `Line.stop`, which ends what is under way at once.
"""

from __future__ import annotations

import contextlib
import http.client
import random
import socket
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, Protocol

from ondol.base.backoff import Backoff
from ondol.build.registry.errors import Broken, Refused, Stopped, Unavailable
from ondol.build.registry.hosts import Hosts

_AGENT: Final = "ondol"
_REDIRECTS: Final = (301, 302, 303, 307, 308)
_REDIRECTS_MAX: Final = 5
_RETRIED: Final = (429, 500, 502, 503, 504)
_CHUNK_BYTES: Final = 1 << 16
_SOCKET_ERRORS: Final = (OSError, http.client.HTTPException)


class Sendable(Protocol):
    """What is sent piece by piece, perhaps twice."""

    def read(self, size: int = -1) -> bytes: ...

    def seek(self, offset: int) -> int: ...


Body = bytes | Sendable | None


@dataclass(frozen=True)
class Patience:
    """How long a registry is waited for, and how often it is asked again."""

    connect_s: float = 15.0
    silence_s: float = 30.0
    """Without a byte."""
    head_s: float = 60.0
    """Until an answer begins."""
    window_s: float = 60.0
    window_bytes: int = 16 * 1024
    """At least so much of an answer comes in each window."""
    tries: int = 4
    backoff: Backoff = field(default_factory=lambda: Backoff(initial_s=1.0, maximum_s=30.0, jitter=0.2))
    retry_after_max_s: float = 60.0
    monotonic: Callable[[], float] = time.monotonic


class Answer:
    """What a server said; its content is read in pieces."""

    def __init__(self, response: http.client.HTTPResponse, url: str, line: Line) -> None:
        self._response = response
        self._line = line
        self.url = url
        self.status = response.status
        self.headers = response.headers

    def header(self, name: str) -> str:
        return str(self.headers.get(name) or "")

    def pieces(self) -> Iterator[bytes]:
        """The content as it comes; `Unavailable` when it stops early or comes too slowly."""
        patience, received = self._line.patience, 0
        since, before = patience.monotonic(), 0
        expected = self._response.length
        while True:
            try:
                piece = self._response.read1(_CHUNK_BYTES)
            except _SOCKET_ERRORS as error:
                raise self._line.failure(self.url, error, kind=Broken) from error
            if not piece:
                break
            received += len(piece)
            yield piece
            now = patience.monotonic()
            if now - since >= patience.window_s:
                if received - before < patience.window_bytes:
                    raise Unavailable(
                        f"{place(self.url)} sends too slowly: {received - before} bytes a minute"
                    )
                since, before = now, received
        if expected is not None and received < expected:
            raise Broken(f"{place(self.url)} ended its answer after {received} of {expected} bytes")

    def content(self, bytes_max: int) -> bytes:
        """All of it; `Refused` as soon as there is more than `bytes_max`."""
        content = bytearray()
        for piece in self.pieces():
            content += piece
            if len(content) > bytes_max:
                raise Refused(f"{place(self.url)} sent a document of more than {bytes_max} bytes")
        return bytes(content)


class Line:
    """Exchanges for one pull or push, of several threads; made anew for each."""

    def __init__(self, hosts: Hosts, patience: Patience | None = None) -> None:
        self._hosts = hosts
        self.patience = patience or Patience()
        self._stopped = threading.Event()
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._rng = random.Random()  # noqa: S311 - jitter only

    def stop(self) -> None:
        """End what is under way, and begin nothing more."""
        self._stopped.set()
        with self._lock:
            for sock in self._open:
                _cut(sock)

    def failure(self, url: str, error: Exception, *, kind: type[Unavailable] = Unavailable) -> Exception:
        """What an error of the socket means to who asked."""
        if self._stopped.is_set():
            return Stopped("it was given up")
        if isinstance(error, TimeoutError):
            return kind(f"{place(url)} does not answer: timed out")
        words = (isinstance(error, OSError) and error.strerror) or str(error) or type(error).__name__
        return kind(f"{place(url)} cannot be reached: {words}")

    def pause(self, failures: int, retry_after: str = "") -> None:
        """Wait before the next try, as long as the server asks for, within reason."""
        seconds = self.patience.backoff.delay_s(failures, self._rng)
        if retry_after.isdigit():
            seconds = min(float(retry_after), self.patience.retry_after_max_s)
        if self._stopped.wait(seconds):
            raise Stopped("it was given up")

    @contextlib.contextmanager
    def patiently(self, method: str, url: str, headers: Mapping[str, str]) -> Iterator[Answer]:
        """As `exchange`, asked again while the server is busy or broken."""
        for failures in range(1, self.patience.tries + 1):
            with self.exchange(method, url, headers) as answer:
                if answer.status not in _RETRIED or failures == self.patience.tries:
                    yield answer
                    return
                retry_after = answer.header("Retry-After")
            self.pause(failures, retry_after)

    @contextlib.contextmanager
    def exchange(
        self, method: str, url: str, headers: Mapping[str, str], body: Body = None
    ) -> Iterator[Answer]:
        """Ask once, through redirects where there is nothing to send."""
        shown = dict(headers)
        for _ in range(_REDIRECTS_MAX + 1):
            with self._asked(method, url, shown, body) as response:
                if response.status not in _REDIRECTS or body is not None:
                    yield Answer(response, url, self)
                    return
                target = _joined(url, str(response.headers.get("Location") or ""))
            if not is_same_origin(url, target):
                shown.pop("Authorization", None)
            if urllib.parse.urlsplit(url).scheme == "https" and not target.startswith("https://"):
                raise Refused(f"{place(url)} leads from TLS to {place(target)}, which has none")
            url = target
        raise Refused(f"{place(url)} leads from one address to another without an end")

    @contextlib.contextmanager
    def _asked(
        self, method: str, url: str, headers: Mapping[str, str], body: Body
    ) -> Iterator[http.client.HTTPResponse]:
        connection = self._connection(url)
        target = urllib.parse.urlsplit(url)
        path = urllib.parse.urlunsplit(("", "", target.path or "/", target.query, ""))
        try:
            sock = self._connected(connection)
        except _SOCKET_ERRORS as error:
            connection.close()
            raise self.failure(url, error) from error
        with contextlib.closing(connection), self._registered(sock):
            try:
                connection.request(method, path, body, {"User-Agent": _AGENT, **headers})
                with self._limited(sock):
                    response = connection.getresponse()
            except (*_SOCKET_ERRORS, ValueError) as error:  # ValueError: a control character in an address
                raise self.failure(url, error) from error
            with contextlib.closing(response):
                yield response

    def _connected(self, connection: http.client.HTTPConnection) -> socket.socket:
        """The socket, which the connection itself forgets as soon as the last answer on it begins."""
        connection.connect()
        sock: socket.socket = connection.sock
        sock.settimeout(self.patience.silence_s)
        return sock

    def _connection(self, url: str) -> http.client.HTTPConnection:
        target = urllib.parse.urlsplit(url)
        try:
            host, port = target.hostname, target.port
        except ValueError as error:
            raise Refused(f"{url[:200]!r} is no address") from error
        if target.scheme not in ("http", "https") or not host:
            raise Refused(f"{url[:200]!r} is no address of a registry")
        timeout_s = self.patience.connect_s
        if target.scheme == "https":
            return http.client.HTTPSConnection(
                host, port, timeout=timeout_s, context=self._hosts.tls, blocksize=_CHUNK_BYTES
            )
        return http.client.HTTPConnection(host, port, timeout=timeout_s, blocksize=_CHUNK_BYTES)

    @contextlib.contextmanager
    def _registered(self, sock: socket.socket) -> Iterator[None]:
        with self._lock:
            self._open.add(sock)
        try:
            if self._stopped.is_set():
                raise Stopped("it was given up")
            yield
        finally:
            with self._lock:
                self._open.discard(sock)

    @contextlib.contextmanager
    def _limited(self, sock: socket.socket) -> Iterator[None]:
        """A head that comes byte by byte is cut off."""
        timer = threading.Timer(self.patience.head_s, _cut, (sock,))
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()


def _cut(sock: socket.socket) -> None:
    """Whoever reads from it sees its end; of TLS nothing is said to the other side, who may not listen."""
    with contextlib.suppress(OSError):
        socket.socket.shutdown(sock, socket.SHUT_RDWR)


def is_same_origin(url: str, other: str) -> bool:
    """Whether both are the same server: what is secret for one is for the other."""
    return _origin(url) == _origin(other)


def _origin(url: str) -> tuple[str, str, int | None]:
    target = urllib.parse.urlsplit(url)
    try:
        port = target.port
    except ValueError:
        port = -1
    return target.scheme, target.hostname or "", port or {"http": 80, "https": 443}.get(target.scheme)


def _joined(url: str, location: str) -> str:
    try:
        return urllib.parse.urljoin(url, location)
    except ValueError as error:
        raise Refused(f"{place(url)} leads to {location[:200]!r}, which is no address") from error


def place(url: str) -> str:
    """The server of an address, for messages: what stands behind it may be secret."""
    target = urllib.parse.urlsplit(url)
    return f"{target.scheme}://{target.netloc.rpartition('@')[2]}"[:200]
