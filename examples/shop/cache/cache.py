"""A key-value cache over HTTP: `GET`, `PUT` and `DELETE /keys/<key>`, `GET /stats`.

The least recently used entries leave when `CACHE_MEMORY_BYTES` is full, and every entry leaves
`CACHE_TTL_SECONDS` after it was put (`PUT /keys/<key>?ttl=<seconds>` says otherwise; 0 is for ever).
"""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

# What Python itself needs for an entry beside its bytes, roughly.
_ENTRY_BYTES = 256


@dataclass(frozen=True)
class Entry:
    value: bytes
    content_type: str
    expires: float

    def size(self, key: str) -> int:
        return _ENTRY_BYTES + len(key.encode()) + len(self.value)


class Cache:
    """Entries in order of their last use; safe to use from several threads."""

    def __init__(self, memory_bytes: int, ttl_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.memory_bytes = memory_bytes
        self.ttl_s = ttl_s
        self._clock = clock
        self._entries: OrderedDict[str, Entry] = OrderedDict()
        self._lock = threading.Lock()
        self._used_bytes = 0
        self._counts = {"hits": 0, "misses": 0, "puts": 0, "evictions": 0, "expirations": 0}

    def get(self, key: str) -> Entry | None:
        with self._lock:
            entry = self._entries.get(key)
            if entry is not None and entry.expires <= self._clock():
                self._drop(key, "expirations")
                entry = None
            self._counts["misses" if entry is None else "hits"] += 1
            if entry is not None:
                self._entries.move_to_end(key)
            return entry

    def put(self, key: str, value: bytes, content_type: str, ttl_s: float | None = None) -> bool:
        """Keep the value; False if it alone is larger than the cache."""
        lifetime_s = self.ttl_s if ttl_s is None else ttl_s
        expires = self._clock() + lifetime_s if lifetime_s > 0 else float("inf")
        entry = Entry(value, content_type, expires)
        if entry.size(key) > self.memory_bytes:
            return False
        with self._lock:
            self._drop(key)
            while self._used_bytes + entry.size(key) > self.memory_bytes:
                self._drop(next(iter(self._entries)), "evictions")
            self._entries[key] = entry
            self._used_bytes += entry.size(key)
            self._counts["puts"] += 1
        return True

    def delete(self, key: str) -> bool:
        with self._lock:
            return self._drop(key)

    def stats(self) -> dict[str, float]:
        with self._lock:
            return {
                **self._counts,
                "entries": len(self._entries),
                "used_bytes": self._used_bytes,
                "memory_bytes": self.memory_bytes,
                "ttl_seconds": self.ttl_s,
            }

    def _drop(self, key: str, why: str = "") -> bool:
        entry = self._entries.pop(key, None)
        if entry is None:
            return False
        self._used_bytes -= entry.size(key)
        if why:
            self._counts[why] += 1
        return True


class Handler(BaseHTTPRequestHandler):
    """The HTTP face of a cache."""

    cache: Cache
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        if self.path == "/stats":
            self._answer(200, json.dumps(self.cache.stats()).encode())
        elif self.path == "/healthz":
            self._answer(200, b'{"status":"ok"}')
        elif (key := self._key()) is not None:
            entry = self.cache.get(key)
            if entry is None:
                self._answer(404, b'{"error":"no such key"}')
            else:
                self._answer(200, entry.value, entry.content_type)

    def do_PUT(self) -> None:
        key = self._key()
        value = self._body() if key is not None else None
        if key is None or value is None:
            return
        try:
            ttl_s = self._ttl()
        except ValueError:
            self._answer(400, b'{"error":"ttl is a number of seconds"}')
            return
        content_type = self.headers.get("content-type") or "application/octet-stream"
        if self.cache.put(key, value, content_type, ttl_s):
            self._answer(204)
        else:
            self._answer(413, b'{"error":"the value is larger than the cache"}')

    def do_DELETE(self) -> None:
        key = self._key()
        if key is not None:
            self._answer(204 if self.cache.delete(key) else 404)

    def _key(self) -> str | None:
        path = urlsplit(self.path).path
        if path.startswith("/keys/") and len(path) > len("/keys/"):
            return unquote(path.removeprefix("/keys/"))
        self._refuse(404, "try /keys/<key> or /stats")
        return None

    def _body(self) -> bytes | None:
        """The whole body, or None once a length that is missing or too large was refused."""
        header = self.headers.get("content-length") or ""
        if not header.isdecimal():
            self._refuse(411, "a content-length is needed")
            return None
        if int(header) > self.cache.memory_bytes:
            self._refuse(413, "the value is larger than the cache")
            return None
        return self.rfile.read(int(header))

    def _ttl(self) -> float | None:
        values = parse_qs(urlsplit(self.path).query).get("ttl")
        return float(values[0]) if values else None

    def _refuse(self, status: int, why: str) -> None:
        """Answer without having read the body, so no further request can follow on this connection."""
        self.close_connection = True
        self._answer(status, json.dumps({"error": why}).encode())

    def _answer(self, status: int, body: bytes = b"", content_type: str = "application/json") -> None:
        self.send_response(status)
        if self.close_connection:
            self.send_header("connection", "close")
        if status != 204:
            self.send_header("content-type", content_type)
            self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Requests are the mesh's to log."""


def handler(cache: Cache) -> type[Handler]:
    """The handler of one cache, as the server wants it: a class."""
    return type("CacheHandler", (Handler,), {"cache": cache})


def main() -> None:
    cache = Cache(
        int(os.environ.get("CACHE_MEMORY_BYTES", str(64 * 1024 * 1024))),
        float(os.environ.get("CACHE_TTL_SECONDS", "0")),
    )
    server = ThreadingHTTPServer(("", int(os.environ.get("PORT", "8080"))), handler(cache))
    # Requests that are being answered are answered before the end.
    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
    print(f"cache of {cache.memory_bytes} bytes on port {server.server_port}", flush=True)
    with server:
        server.serve_forever(poll_interval=0.1)


if __name__ == "__main__":
    main()
