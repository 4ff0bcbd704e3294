"""The few lines of HTTP the services share: a server, a client, and the headers that carry a trace."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import sys
import threading
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

# A service that passes these on lets its callers' and its own calls be seen as one trace.
TRACE_HEADERS = (
    "traceparent",
    "tracestate",
    "b3",
    "x-b3-traceid",
    "x-b3-spanid",
    "x-b3-parentspanid",
    "x-b3-sampled",
    "x-request-id",
    "x-tester",
)
STOP_WITHIN_S = 10.0


class CallFailed(OSError):
    """Another service did not answer, or not with 2xx; `status` is 0 if it did not answer at all."""

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


class Answer:
    """What a handler returns: a status, a body and its type."""

    def __init__(self, body: Any, *, status: int = 200, content_type: str = "application/json") -> None:
        self.status = status
        self.content_type = content_type
        self.body = body if isinstance(body, bytes) else json.dumps(body).encode()


class Request:
    """What a handler is given."""

    def __init__(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> None:
        self.method = method
        self.path = path
        self.body = body
        self.trace = {name: headers[name] for name in TRACE_HEADERS if headers.get(name)}


Handler = Callable[[Request, "re.Match[str]"], Answer]


def call(
    url: str,
    request: Request,
    *,
    method: str = "GET",
    body: bytes = b"",
    headers: Mapping[str, str] | None = None,
    timeout_s: float = 5.0,
) -> Any:
    """Call another service on behalf of `request`; `CallFailed` unless it answers 2xx."""
    target = urlsplit(url)
    connection = http.client.HTTPConnection(target.hostname or "", target.port or 80, timeout=timeout_s)
    try:
        sent = {**request.trace, **(headers or {})}
        connection.request(method, target.path or "/", body=body, headers=sent)
        answer = connection.getresponse()
        data = answer.read()
    except (OSError, http.client.HTTPException) as error:
        raise CallFailed(f"{url}: {error}") from error
    finally:
        connection.close()
    if not 200 <= answer.status < 300:
        raise CallFailed(f"{url} answered {answer.status}", answer.status)
    return json.loads(data) if data else None


class Server(ThreadingHTTPServer):
    """A thread a connection; on stopping, requests that are being answered are, and idle connections end."""

    request_queue_size = 128

    def __init__(self, port: int, routes: Mapping[str, Handler]) -> None:
        self.routes = [(re.compile(pattern), handler) for pattern, handler in routes.items()]
        self.stopping = False
        self._busy = 0
        self._changed = threading.Condition()
        super().__init__(("", port), _Connection)

    def stop(self) -> None:
        """Accept no more; called on another thread than the one that serves."""
        self.stopping = True
        self.shutdown()

    def begin(self) -> None:
        with self._changed:
            self._busy += 1

    def end(self) -> None:
        with self._changed:
            self._busy -= 1
            self._changed.notify_all()

    def drain(self, timeout_s: float) -> bool:
        """Wait until no request is being answered; False if some still are."""
        with self._changed:
            return self._changed.wait_for(lambda: self._busy == 0, timeout_s)

    def answer(self, request: Request) -> Answer:
        if request.path == "/healthz":
            return Answer({"status": "ok"})
        for pattern, handler in self.routes:
            if (match := pattern.fullmatch(request.path)) is not None:
                try:
                    return handler(request, match)
                except CallFailed as error:
                    return Answer({"error": str(error)}, status=404 if error.status == 404 else 502)
                except (KeyError, ValueError) as error:
                    return Answer({"error": f"bad request: {error}"}, status=400)
        return Answer({"error": f"no such page: {request.path}"}, status=404)


class _Connection(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def _handle(self) -> None:
        self.server.begin()
        try:
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            headers = {name.lower(): value for name, value in self.headers.items()}
            answer = self.server.answer(Request(self.command, urlsplit(self.path).path, headers, body))
            self.send_response(answer.status)
            self.send_header("content-type", answer.content_type)
            self.send_header("content-length", str(len(answer.body)))
            if self.server.stopping:
                self.send_header("connection", "close")
            self.end_headers()
            self.wfile.write(answer.body)
            self.wfile.flush()
        finally:
            self.server.end()

    do_GET = do_PUT = do_POST = do_DELETE = _handle  # noqa: N815 - names http.server looks for

    def log_message(self, format: str, *args: object) -> None:  # noqa: ARG002 - http.server's signature
        if self.path != "/healthz":
            sys.stdout.write(f"{self.command} {self.path} {args[1] if len(args) > 1 else ''}\n")
            sys.stdout.flush()


def serve(routes: Mapping[str, Handler]) -> None:
    """Serve until SIGTERM; `routes` maps regular expressions of paths to handlers."""
    server = Server(int(os.environ.get("PORT", "8080")), routes)
    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.stop).start())
    with server:
        server.serve_forever(poll_interval=0.1)
        server.drain(STOP_WITHIN_S)
