"""`ondol traces serve`: what a browser on this machine may ask, and what it may not."""

from __future__ import annotations

import contextlib
import http.client
import io
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from socketserver import ThreadingUnixStreamServer
from types import SimpleNamespace

import grpc
import pytest

from ondol.base import errors
from ondol.cli import traces, traces_proxy


class _Observe(BaseHTTPRequestHandler):
    """Answers with what it was asked."""

    def do_GET(self) -> None:
        body = f"GET {self.path}".encode()
        self.send_response(404 if self.path == "/none" else 200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def port(tmp_path: Path) -> Iterator[int]:
    path = tmp_path / "observe.sock"
    with (
        ThreadingUnixStreamServer(str(path), _Observe) as observe,
        traces_proxy.opened(path, 0) as proxy,
    ):
        for server in (observe, proxy):
            threading.Thread(target=server.serve_forever, daemon=True).start()
        yield proxy.server_port
        for server in (observe, proxy):
            server.shutdown()


def ask(port: int, target: str, *, method: str = "GET", host: str = "localhost") -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request(method, target, headers={"Host": host})
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


def test_questions_are_handed_on(port: int) -> None:
    """Path, query and status are those of the query API."""
    assert ask(port, "/api/traces?service=a") == (200, "GET /api/traces?service=a")
    assert ask(port, "/none", host=f"127.0.0.1:{port}") == (404, "GET /none")


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
def test_spans_cannot_be_forged_through_it(port: int, method: str) -> None:
    """Only questions pass."""
    assert ask(port, "/v1/traces", method=method)[0] == 501


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "localhost.evil.example", ""])
def test_a_page_elsewhere_cannot_read_through_a_name_of_its_own(port: int, host: str) -> None:
    """A name that somebody pointed at loopback is not one of ours (DNS rebinding)."""
    assert ask(port, "/api/services", host=host)[0] == 403


def test_observe_that_is_away_is_told(tmp_path: Path) -> None:
    """A gateway error with a reason, and the command goes on."""
    with traces_proxy.opened(tmp_path / "none.sock", 0) as proxy:
        threading.Thread(target=proxy.serve_forever, daemon=True).start()
        assert ask(proxy.server_port, "/api/services")[0] == 502
        proxy.shutdown()


def test_a_port_in_use_is_told(port: int, tmp_path: Path) -> None:
    """With the option that mends it."""
    with pytest.raises(errors.HostError, match="in use") as caught:
        traces_proxy.opened(tmp_path / "x.sock", port)
    assert "--port" in caught.value.remedy


def test_grpc_asks_at_the_socket(tmp_path: Path) -> None:
    """What answers by gRPC gets status and body, and an error it understands where nobody answers."""
    path = tmp_path / "observe.sock"
    with ThreadingUnixStreamServer(str(path), _Observe) as observe:
        threading.Thread(target=observe.serve_forever, daemon=True).start()
        assert traces_proxy.ask(path, "/api/v3/services") == (200, b"GET /api/v3/services")
        assert traces_proxy.ask(path, "/none")[0] == 404
        observe.shutdown()
    path.unlink()
    with pytest.raises(OSError, match="No such file"):
        traces_proxy.ask(path, "/api/v3/services")


def test_the_command_answers_both_ways(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With --grpc-port it answers at two ports, for as long as it serves."""
    path = tmp_path / "observe.sock"
    instance = SimpleNamespace(socket=lambda _name: path)
    monkeypatch.setattr("ondol.cli.connection.platform_of", lambda *_: instance)
    codes: list[object] = []

    def ask_by_grpc(_server: HTTPServer) -> None:
        notes = capture.getvalue()
        port = re.search(r"by gRPC at 127\.0\.0\.1:(\d+)", notes)
        assert port is not None, notes
        options = (("grpc.enable_http_proxy", 0),)
        with grpc.insecure_channel(f"127.0.0.1:{port[1]}", options=options) as channel:
            with pytest.raises(grpc.RpcError) as caught:
                channel.unary_unary("/jaeger.api_v3.QueryService/GetServices")(b"", timeout=10)
            codes.append(caught.value.code())

    monkeypatch.setattr("socketserver.BaseServer.serve_forever", ask_by_grpc)
    with contextlib.redirect_stderr(io.StringIO()) as capture:
        traces.serve(port=0, grpc_port=0)
    assert codes == [grpc.StatusCode.UNAVAILABLE]  # nobody is at the socket
