"""Servers outside for tests, run as a script: TLS that tells the name it was called by, and names.

`ADDRESS CERTIFICATE`: TLS at 8443, whose HTTP answers are JSON; a name server at 5353 (UDP), for which
all names below `outside.test` are at the address, and no others.
"""

from __future__ import annotations

import json
import socket
import ssl
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

TLS_PORT = 8443
DNS_PORT = 5353


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    names: ClassVar[dict[int, str]] = {}
    """By port of the caller, the name with which TLS began."""

    def do_GET(self) -> None:
        """What was seen of the call."""
        name = self.names.get(id(self.connection), "")
        body = json.dumps({"sni": name, "host": self.headers["host"], "path": self.path, "port": TLS_PORT})
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: the tests look at answers."""


def serve_tls(address: str, certificate: str) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)

    def note(connection: ssl.SSLObject, name: str | None, _context: ssl.SSLContext) -> None:
        Handler.names[id(connection)] = name or ""

    context.sni_callback = note
    server = ThreadingHTTPServer((address, TLS_PORT), Handler)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    server.serve_forever()


def serve_names(address: str) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind((address, DNS_PORT))
        while True:
            message, asker = server.recvfrom(512)
            server.sendto(reply(message, address), asker)


def reply(message: bytes, address: str) -> bytes:
    labels, at = [], 12
    while message[at]:
        labels.append(message[at + 1 : at + 1 + message[at]].decode().lower())
        at += 1 + message[at]
    type_ = int.from_bytes(message[at + 1 : at + 3], "big")
    question = message[12 : at + 5]
    if labels[-2:] != ["outside", "test"]:
        return message[:2] + b"\x81\x83\0\1\0\0\0\0\0\0" + question
    if type_ != 1:
        return message[:2] + b"\x81\x80\0\1\0\0\0\0\0\0" + question
    record = b"\xc0\x0c\0\1\0\1\0\0\0\x05\0\x04" + socket.inet_aton(address)
    return message[:2] + b"\x81\x80\0\1\0\1\0\0\0\0" + question + record


if __name__ == "__main__":
    threading.Thread(target=serve_names, args=(sys.argv[1],), daemon=True).start()
    threading.Thread(target=serve_tls, args=tuple(sys.argv[1:3]), daemon=True).start()
    print("serving", flush=True)  # noqa: T201 - the test waits for it
    threading.Event().wait()
