"""A server that does what a test asks of it: says who it is, calls others, waits, fails, eats memory."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socketserver
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final

_failures: dict[str, int] = {}
_eaten: list[bytes] = []


def who(_: dict[str, str]) -> tuple[int, Any]:
    return 200, {"pod": os.environ.get("HOSTNAME", ""), "version": os.environ.get("VERSION", "")}


def env(_: dict[str, str]) -> tuple[int, Any]:
    return 200, dict(os.environ)


def file(query: dict[str, str]) -> tuple[int, Any]:
    with open(query["path"], encoding="utf-8") as content:  # noqa: PTH123 - nothing more is needed
        return 200, content.read()


def status(query: dict[str, str]) -> tuple[int, Any]:
    return int(query["code"]), "as asked"


def sleep(query: dict[str, str]) -> tuple[int, Any]:
    time.sleep(float(query["s"]))
    return 200, "slept"


def flaky(query: dict[str, str]) -> tuple[int, Any]:
    """Fail the first `times` requests of a key, then answer how many came."""
    key = query["key"]
    _failures[key] = _failures.get(key, 0) + 1
    return (503 if _failures[key] <= int(query["times"]) else 200), _failures[key]


def eat(query: dict[str, str]) -> tuple[int, Any]:
    _eaten.append(b"x" * (int(query["mb"]) << 20))
    return 200, "eaten"


def end(query: dict[str, str]) -> tuple[int, Any]:
    os._exit(int(query["code"]))


def fetch(query: dict[str, str]) -> tuple[int, Any]:
    """Ask another service: its status, body and the time it took."""
    headers = json.loads(query.get("headers", "{}"))
    request = urllib.request.Request(query["url"], headers=headers)
    began = time.monotonic()
    try:
        with urllib.request.urlopen(request, timeout=20) as reply:
            answer: tuple[int, str] = reply.status, reply.read().decode()
    except urllib.error.HTTPError as error:
        answer = error.code, error.read().decode()
    except (OSError, http.client.HTTPException) as error:
        answer = 0, str(error)
    return 200, {"status": answer[0], "body": answer[1], "seconds": time.monotonic() - began}


ROUTES: Final = {f"/{f.__name__}": f for f in (env, file, status, sleep, flaky, eat, end, fetch)}


class Handler(BaseHTTPRequestHandler):
    """One function per path."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        path, _, query = self.path.partition("?")
        parameters = dict(urllib.parse.parse_qsl(query))
        code, answer = ROUTES.get(path, who)(parameters)
        body = json.dumps(answer).encode()
        self.send_response(code)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        print(f"request {format % args}", flush=True)  # noqa: T201 - its log


def stop(*_: object) -> None:
    """Go on answering for a while, as a server does whose last requests are still on their way."""
    threading.Thread(target=end_soon, daemon=True).start()


def end_soon() -> None:
    print("stopping", flush=True)  # noqa: T201 - its log
    time.sleep(float(os.environ.get("STOP_AFTER_S", "0")))
    print("stopped", flush=True)  # noqa: T201 - its log
    os._exit(0)


class Http2(socketserver.StreamRequestHandler):
    """HTTP/2 with prior knowledge, just enough: every request is answered 200 with who answers."""

    def handle(self) -> None:
        self.rfile.read(24)  # the preface
        self.send(4, 0, 0)
        while len(head := self.rfile.read(9)) == 9:
            kind, flags, stream = head[3], head[4], int.from_bytes(head[5:], "big")
            payload = self.rfile.read(int.from_bytes(head[:3], "big"))
            if kind in (4, 6) and not flags & 1:  # SETTINGS and PING are acknowledged
                self.send(kind, 1, 0, payload if kind == 6 else b"")
            if kind in (0, 1) and flags & 1:  # the request's end, in DATA or HEADERS
                self.send(1, 4, stream, b"\x88")  # :status 200
                self.send(0, 1, stream, json.dumps(who({})[1]).encode())

    def send(self, kind: int, flags: int, stream: int, payload: bytes = b"") -> None:
        head = len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big")
        self.wfile.write(head + payload)


class Http2Server(socketserver.ThreadingTCPServer):
    """A thread a connection."""

    daemon_threads = True
    allow_reuse_address = True


class Server(ThreadingHTTPServer):
    """Waits for no request when it ends."""

    daemon_threads = True
    request_queue_size = 128


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, stop)
    address = ("", int(os.environ.get("PORT", "8080")))
    server = Http2Server(address, Http2) if os.environ.get("HTTP2") else Server(address, Handler)
    print("started", flush=True)  # noqa: T201 - its log; from here on it answers
    server.serve_forever()
