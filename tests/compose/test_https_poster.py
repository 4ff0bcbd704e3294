"""The edge that calls webhooks, against a real server with certificates."""

from __future__ import annotations

import http.server
import re
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from tests.certificates import certify

from ondol.apiserver.ports import HttpsTarget
from ondol.compose import https_poster
from ondol.compose.https_poster import HttpsPoster

pytestmark = pytest.mark.anyio

NAME: Final = "hooks.default.svc"


@pytest.fixture
def anyio_backend() -> str:
    """The edge is asyncio's."""
    return "asyncio"


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hosts: list[str]
    ports: set[int]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.hosts.append(self.headers["host"])
        self.ports.add(self.client_address[1])
        answer = b"x" * 1000 if self.path == "/large" else body
        self.send_response(302 if self.path == "/moved" else 200)
        if self.path == "/moved":
            self.send_header("location", "/elsewhere")
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[type[_Handler], tuple[str, int], bytes]]:
    """A handler with what it has seen, the address of its server, and the authority."""

    class Handler(_Handler):
        hosts: list[str] = []  # noqa: RUF012 - of this test alone
        ports: set[int] = set()  # noqa: RUF012 - likewise

    authority = certify(tmp_path, NAME)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "both.pem")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        listening.daemon_threads = True
        listening.socket = context.wrap_socket(listening.socket, server_side=True)
        thread = threading.Thread(target=listening.serve_forever)
        thread.start()
        yield Handler, ("127.0.0.1", listening.server_address[1]), authority
        listening.shutdown()
        thread.join()


async def test_a_service_is_called_at_its_endpoint_by_its_name(server: Any) -> None:
    """The certificate is the name's, the connection is the endpoint's, and it is kept for further calls."""
    handler, address, authority = server
    poster = HttpsPoster()
    target = HttpsTarget(f"https://{NAME}:443/admit", authority, NAME, address)
    assert await poster.post(target, b"{}") == (200, b"{}")
    assert await poster.post(target, b"[]") == (200, b"[]")
    assert handler.hosts == [f"{NAME}:443"] * 2
    assert len(handler.ports) == 1
    await poster.aclose()


async def test_who_cannot_prove_a_name_is_not_called(server: Any) -> None:
    """Neither another name, nor an authority that is not theirs, nor none, nor one that is no certificate."""
    handler, address, authority = server
    poster = HttpsPoster()
    for target, reason in (
        (
            HttpsTarget("https://other.default.svc:443/", authority, "other.default.svc", address),
            "certificate is not valid: Hostname mismatch",
        ),
        (HttpsTarget(f"https://{NAME}:443/", b"", NAME, address), "certificate is not valid: self"),
        (
            HttpsTarget(f"https://{NAME}:443/", b"no certificate", NAME, address),
            "caBundle has no certificate",
        ),
        (HttpsTarget(f"https://{NAME}:443/", "ä".encode(), NAME, address), "caBundle has no certificate"),
        (HttpsTarget(f"https://{NAME}:443/", authority, NAME, ("127.0.0.1", 1)), "dial 127.0.0.1:1: Conn"),
        (HttpsTarget("no url", authority), "no%20url"),
    ):
        with pytest.raises(OSError, match=re.escape(reason)) as failure:
            await poster.post(target, b"{}")
        assert "object at 0x" not in str(failure.value)
    assert handler.hosts == []
    await poster.aclose()


async def test_answers_are_bounded_and_lead_nowhere(server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A redirect is an answer; one that is too large is none."""
    _, address, authority = server
    monkeypatch.setattr(https_poster, "_ANSWER_BYTES_MAX", 999)
    poster = HttpsPoster()
    status, _ = await poster.post(HttpsTarget(f"https://{NAME}/moved", authority, NAME, address), b"{}")
    assert status == 302
    with pytest.raises(OSError, match="larger than 999 bytes"):
        await poster.post(HttpsTarget(f"https://{NAME}/large", authority, NAME, address), b"{}")
    await poster.aclose()
