"""Servers and clients for the proxy's tests, run as a script inside a network namespace.

`serve ADDRESS PORT...` answers JSON that names the port; `call` reads requests as JSON lines and
writes answers as JSON lines.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # head and body are two writes: the second would wait for an answer
    seen: ClassVar[dict[str, int]] = {}
    copies: ClassVar[dict[str, list[Any]]] = {}

    def do_GET(self) -> None:
        """`/fail/N/key`: 503 the first N times; `/slow/S`: after S seconds; else at once.

        `/begun/S` is begun at once and ended after S seconds.

        `/copied/key` is noted with port, caller and headers, and `/copies/key` tells of all so far.
        """
        port = self.connection.getsockname()[1]
        words = self.path.split("?")[0].strip("/").split("/")
        status = 200
        if words[0] == "fail":
            self.seen[words[2]] = self.seen.get(words[2], 0) + 1
            status = 503 if self.seen[words[2]] <= int(words[1]) else 200
        if words[0] == "ws":
            self._echo()
            return
        if words[0] == "slow":
            time.sleep(float(words[1]))
        headers = {k.lower(): v for k, v in self.headers.items()}
        if words[0] == "copied":
            self.copies.setdefault(words[1], []).append([port, self.client_address[0], headers])
        body = json.dumps(
            {
                "copies": self.copies.get(words[-1], []),
                "port": port,
                "caller": self.client_address[0],
                "path": self.path,
                "headers": headers,
            }
        ).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        if words[0] == "begun":
            time.sleep(float(words[1]))
        self.wfile.write(body)

    def _echo(self) -> None:
        """A WebSocket as far as a proxy can tell: switched protocols, then bytes both ways."""
        self.send_response(101)
        self.send_header("upgrade", "websocket")
        self.send_header("connection", "upgrade")
        self.end_headers()
        self.wfile.write(self.connection.recv(100).upper())
        self.close_connection = True

    def do_PUT(self) -> None:
        """Whoever asks before it sends a body is answered by `handle_expect_100`."""
        self.send_response(204)
        self.end_headers()

    def handle_expect_100(self) -> bool:
        self.send_error(417)
        return False

    def do_POST(self) -> None:
        """Takes spans, in chunks as Envoy sends them, and keeps the bodies in the file SPANS."""
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        with open(os.environ["SPANS"], "ab") as file:  # noqa: PTH123 - a script without imports to spare
            file.write(len(body).to_bytes(4, "big") + body)
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: the tests look at answers."""


def greet(address: str, port: int) -> None:
    """A server that speaks first, as databases and mail servers do."""
    with socket.create_server((address, port)) as listener:
        while True:
            connection, _ = listener.accept()
            with connection:
                connection.sendall(b"hello from the server\n" if port == 9000 else b"hello from another\n")


def echo_to_the_end(address: str, port: int) -> None:
    """Sends back what it gets, and a word once the client's side has ended."""
    with socket.create_server((address, port)) as listener:
        while True:
            connection, _ = listener.accept()
            with connection:
                while data := connection.recv(1000):
                    connection.sendall(data)
                connection.sendall(b" END")


def speak_tls(address: str, port: int) -> None:
    """TLS with a certificate of its own making; says at which port it was reached, by which name."""
    folder = Path(tempfile.mkdtemp())
    names = ("-subj", "/CN=inside", "-days", "1", "-nodes")
    key = ("-newkey", "rsa:2048", "-keyout", folder / "key.pem", "-out", folder / "crt.pem")
    subprocess.run(["openssl", "req", "-x509", *names, *key], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "crt.pem", folder / "key.pem")
    asked: dict[int, str] = {}

    def note(served: ssl.SSLObject, name: str, _context: ssl.SSLContext) -> None:
        asked[id(served)] = name

    context.sni_callback = note
    with socket.create_server((address, port)) as listener:
        while True:
            connection, _ = listener.accept()
            try:
                with context.wrap_socket(connection, server_side=True) as served:
                    served.sendall(f"{port} {asked.pop(id(served), '')}\n".encode())
            except OSError:
                connection.close()


def speak_grpc(address: str, port: int) -> None:
    """One unary method that answers in capitals."""
    import grpc  # noqa: PLC0415 - the other servers need none of it

    say = grpc.unary_unary_rpc_method_handler(lambda request, _: request.upper())
    server = grpc.server(ThreadPoolExecutor(2))
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("echo", {"Say": say}),))
    server.add_insecure_port(f"{address}:{port}")
    server.start()
    server.wait_for_termination()


def serve_http(address: str, port: int) -> None:
    ThreadingHTTPServer((address, port), Handler).serve_forever()


SPECIAL = {
    9000: greet,
    9001: greet,
    9100: speak_grpc,
    9200: echo_to_the_end,
    9443: speak_tls,
    9444: speak_tls,
}


def serve(address: str, ports: list[int]) -> None:
    threads = []
    for port in ports:
        target = SPECIAL.get(port, serve_http)
        threads.append(threading.Thread(target=target, args=(address, port), daemon=True))
        threads[-1].start()
    print("serving", flush=True)  # noqa: T201 - the test waits for it
    threads[0].join()


def call_grpc(host: str, port: int, authority: str) -> dict[str, Any]:
    import grpc  # noqa: PLC0415 - the other calls need none of it

    with grpc.insecure_channel(f"{host}:{port}", options=[("grpc.default_authority", authority)]) as channel:
        answer: bytes = channel.unary_unary("/echo/Say")(b"hello", timeout=5)
    return {"text": answer.decode()}


def call_websocket(host: str, port: int, authority: str) -> dict[str, Any]:
    with socket.create_connection((host, port), timeout=5) as raw:
        head = f"GET /ws HTTP/1.1\r\nhost: {authority}\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n"
        raw.sendall(head.encode())
        reader = raw.makefile("rb")
        status = int(reader.readline().split()[1])
        while reader.readline() != b"\r\n":
            pass
        raw.sendall(b"hello")
        return {"status": status, "text": reader.read(5).decode()}


def call_tls(host: str, port: int, name: str) -> dict[str, Any]:
    """The first line that a server says in TLS, whoever it is."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with (
        socket.create_connection((host, port), timeout=5) as raw,
        context.wrap_socket(raw, server_hostname=name) as secure,
    ):
        return {"text": secure.recv(100).decode()}


def call_and_end(host: str, port: int, pause_s: float) -> dict[str, Any]:
    """Bytes, then the end of the client's side, after a pause or at once; all that comes back."""
    with socket.create_connection((host, port), timeout=5) as raw:
        raw.sendall(b"hello")
        time.sleep(pause_s)
        raw.shutdown(socket.SHUT_WR)
        return {"text": raw.makefile("rb").read().decode()}


def call_as_written(host: str, port: int, text: str) -> dict[str, Any]:
    """Bytes as a test wrote them, and the first line of the answer."""
    with socket.create_connection((host, port), timeout=5) as raw:
        raw.sendall(text.encode())
        return {"status": int(raw.makefile("rb").readline().split()[1])}


def call_in_pieces(host: str, port: int, pieces: list[str], pause_s: float) -> dict[str, Any]:
    """Each piece after a pause; all that comes back within a second of silence."""
    text = b""
    with socket.create_connection((host, port), timeout=1) as raw, contextlib.suppress(OSError):
        for piece in pieces:
            time.sleep(pause_s)
            raw.sendall(piece.encode("latin-1"))
        while part := raw.recv(1000):
            text += part
    return {"text": text.decode("latin-1")}


def call(request: dict[str, Any]) -> dict[str, Any]:
    """One request; or several at once, whose answers come in their order."""
    together = request.get("together")
    if together is None:
        return call_once(request)
    with ThreadPoolExecutor(len(together)) as threads:
        return {"answers": list(threads.map(call_once, together))}


def call_once(request: dict[str, Any]) -> dict[str, Any]:
    host, port = request.get("address", "10.101.250.1"), request.get("port", 80)
    started = time.monotonic()
    authority = request.get("host", "web")
    try:
        if request.get("grpc"):
            return call_grpc(host, port, authority)
        if request.get("websocket"):
            return call_websocket(host, port, authority)
        if request.get("tls"):
            return call_tls(host, port, request["tls"])
        if request.get("send"):
            return call_as_written(host, port, request["send"])
        if "pieces" in request:
            return call_in_pieces(host, port, request["pieces"], request.get("pause_s", 0))
        if "end_after_s" in request:
            return call_and_end(host, port, request["end_after_s"])
        if request.get("raw"):
            with socket.create_connection((host, port), timeout=5) as raw:
                return {"text": raw.recv(100).decode(), "took_s": time.monotonic() - started}
        connection = http.client.HTTPConnection(host, port, timeout=10)
        headers = {"host": authority, **request.get("headers", {})}
        connection.request(request.get("method", "GET"), request.get("path", "/"), headers=headers)
        response = connection.getresponse()
        body = response.read()
        answer: dict[str, Any] = {"status": response.status, "headers": dict(response.getheaders())}
        if response.status == 200 and body.startswith(b"{"):
            answer |= {"seen": json.loads(body)}
        else:
            answer |= {"text": body.decode()}
        connection.close()
    except OSError as error:
        answer = {"status": 0, "error": type(error).__name__}
    return answer | {"took_s": time.monotonic() - started}


def main() -> None:
    if sys.argv[1] == "serve":
        serve(sys.argv[2], [int(port) for port in sys.argv[3:]])
    else:
        for line in sys.stdin:
            print(json.dumps(call(json.loads(line))), flush=True)  # noqa: T201 - the test reads it


if __name__ == "__main__":
    main()
