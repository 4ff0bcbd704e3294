"""Backends of the tables, run as a script inside a network namespace: `ADDRESS LOG NAME=PORT...`.

Each answers JSON that says its name and what arrived, and writes a line in the log for each request. A name
that begins with `h2:` speaks HTTP/2 without TLS.
"""

from __future__ import annotations

import json
import socket
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

_SETTINGS = b"\x00\x00\x00\x04\x00\x00\x00\x00\x00"
_ACKNOWLEDGED = b"\x00\x00\x00\x04\x01\x00\x00\x00\x00"
_OK_AND_END = b"\x00\x00\x01\x01\x05\x00\x00\x00\x01\x88"
"""HEADERS of stream 1, whole and last: `:status: 200` by its index in the static table."""
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


class Server(ThreadingHTTPServer):
    def __init__(self, place: tuple[str, int], name: str, log: str) -> None:
        super().__init__(place, Handler)
        self.name, self.log = name, log


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    seen: ClassVar[dict[str, int]] = {}

    def do_GET(self) -> None:
        """`/fail/N/key`: 503 the first N times; `/slow/S`: after S seconds; `/slow-once/S/key`: once so."""
        server: Any = self.server
        words = self.path.split("?")[0].strip("/").split("/")
        key = self.headers.get("x-id", "") + "/".join(words)
        self.seen[key] = self.seen.get(key, 0) + 1
        with open(server.log, "a") as file:  # noqa: PTH123 - a script without imports to spare
            file.write(f"{server.name} {self.headers.get('x-id', '')}\n")
        if self.headers.get("upgrade") == "websocket":
            self.send_response(101)
            self.send_header("upgrade", "websocket")
            self.send_header("connection", "upgrade")
            self.end_headers()
            self.close_connection = True
            return
        if words[0] == "slow" or (words[0] == "slow-once" and self.seen[key] == 1):
            time.sleep(float(words[1]))
        fails = words[0] == "fail" and self.seen[key] <= int(words[1])
        headers = {name.lower(): ",".join(self.headers.get_all(name) or ()) for name in self.headers}
        body = json.dumps({"backend": server.name, "path": self.path, "headers": headers}).encode()
        self.send_response(503 if fails else 200)
        self.send_header("content-length", str(len(body)))
        self.send_header("x-port", "one")
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_PUT = do_OPTIONS = do_GET  # noqa: N815 - the names that the base class calls

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: the tests look at answers."""


def serve_http2(place: tuple[str, int]) -> None:
    """Answers the first request of each connection, if that is HTTP/2."""
    with socket.create_server(place) as listener:
        while True:
            connection, _ = listener.accept()
            with connection:
                if connection.recv(len(_PREFACE), socket.MSG_WAITALL) == _PREFACE:
                    connection.sendall(_SETTINGS + _ACKNOWLEDGED)
                    time.sleep(0.1)
                    connection.sendall(_OK_AND_END)
                    time.sleep(0.3)


def main() -> None:
    address, log, *servers = sys.argv[1:]
    for each in servers:
        name, _, port = each.rpartition("=")
        place = (address, int(port))
        if name.startswith("h2:"):
            target, arguments = serve_http2, (place,)
        else:
            target, arguments = Server(place, name, log).serve_forever, ()  # type: ignore[assignment]
        threading.Thread(target=target, args=arguments, daemon=True).start()
    print("serving", flush=True)  # noqa: T201 - the test waits for it
    threading.Event().wait()


if __name__ == "__main__":
    main()
