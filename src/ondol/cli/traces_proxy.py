"""The server of `ondol traces serve`: passes GET requests on loopback to the socket of the query API."""

from __future__ import annotations

import http.client
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Final

from ondol.base import errors
from ondol.base.unix_http import UnixConnection

_HOSTS: Final = frozenset({"localhost", "127.0.0.1"})
"""Names a browser may have asked for: a page elsewhere whose name is pointed here is not answered."""
_TIMEOUT_S: Final = 30.0
_PASSED_ON: Final = ("Content-Type", "Retry-After")


def ask(path: Path, target: str) -> tuple[int, bytes]:
    """Status and body of what the socket's owner answers to `GET`; `OSError` if nothing comes."""
    connection = UnixConnection(str(path), timeout=_TIMEOUT_S)
    try:
        connection.request("GET", target)
        answer = connection.getresponse()
        return answer.status, answer.read()
    except http.client.HTTPException as error:
        raise ConnectionError(str(error)) from error
    finally:
        connection.close()


def opened(path: Path, port: int) -> ThreadingHTTPServer:
    """A server on loopback for what answers at the socket; `HostError` if the port is in use."""
    try:
        server = ThreadingHTTPServer(("127.0.0.1", port), _handler(path))
    except OSError as error:
        raise errors.HostError(
            f"cannot listen on 127.0.0.1:{port}: {error.strerror}", remedy="choose another with --port"
        ) from error
    server.daemon_threads = True
    return server


def _handler(path: Path) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            host = self.headers.get("Host", "").rpartition(":")[0] or self.headers.get("Host", "")
            if host not in _HOSTS:
                self.send_error(403, "ask for localhost or 127.0.0.1")
                return
            try:
                self._hand_on()
            except (OSError, http.client.HTTPException) as error:
                self.send_error(502, "observe does not answer", str(error))

        def _hand_on(self) -> None:
            connection = UnixConnection(str(path), timeout=_TIMEOUT_S)
            try:
                connection.request("GET", self.path)
                answer = connection.getresponse()
                body = answer.read()
            finally:
                connection.close()
            self.send_response(answer.status)
            for name in _PASSED_ON:
                if value := answer.getheader(name):
                    self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Log nothing: requests of the user's own browser are not recorded."""

    return Handler
