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
TRACE_HEADERS = ("traceparent", "tracestate", "x-request-id", "x-tester")


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
    url: str, request: Request, *, method: str = "GET", body: bytes = b"", timeout_s: float = 5.0
) -> Any:
    """Call another service on behalf of `request`; `OSError` unless it answers 2xx."""
    target = urlsplit(url)
    connection = http.client.HTTPConnection(target.hostname or "", target.port or 80, timeout=timeout_s)
    try:
        connection.request(method, target.path or "/", body=body, headers=request.trace)
        answer = connection.getresponse()
        data = answer.read()
    except http.client.HTTPException as error:
        raise OSError(f"{url}: {error}") from error
    finally:
        connection.close()
    if not 200 <= answer.status < 300:
        raise OSError(f"{url} answered {answer.status}")
    return json.loads(data) if data else None


def serve(routes: Mapping[str, Handler]) -> None:
    """Serve until SIGTERM; `routes` maps regular expressions of paths to handlers."""
    compiled = [(re.compile(pattern), handler) for pattern, handler in routes.items()]

    class _Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def _handle(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            request = Request(self.command, urlsplit(self.path).path, self.headers, body)
            answer = _dispatch(request)
            self.send_response(answer.status)
            self.send_header("content-type", answer.content_type)
            self.send_header("content-length", str(len(answer.body)))
            self.end_headers()
            self.wfile.write(answer.body)

        do_GET = do_PUT = do_POST = do_DELETE = _handle  # noqa: N815 - names http.server looks for

        def log_message(self, format: str, *args: object) -> None:  # noqa: ARG002 - http.server's signature
            if self.path != "/healthz":
                sys.stdout.write(f"{self.command} {self.path} {args[1] if len(args) > 1 else ''}\n")
                sys.stdout.flush()

    def _dispatch(request: Request) -> Answer:
        if request.path == "/healthz":
            return Answer({"status": "ok"})
        for pattern, handler in compiled:
            if (match := pattern.fullmatch(request.path)) is not None:
                try:
                    return handler(request, match)
                except OSError as error:
                    return Answer({"error": str(error)}, status=502)
        return Answer({"error": f"no such page: {request.path}"}, status=404)

    server = ThreadingHTTPServer(("", int(os.environ.get("PORT", "8080"))), _Handler)
    server.daemon_threads = False  # those that are being answered are answered before the end
    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
    with server:
        server.serve_forever(poll_interval=0.1)
