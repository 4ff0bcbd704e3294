"""The edge that calls webhooks, against a real server with certificates."""

from __future__ import annotations

import contextlib
import datetime as dt
import http.server
import re
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from cryptography import x509
from tests.certificates import certify, certify_in_own_name

from ondol.apiserver.ports import HttpsTarget
from ondol.compose import https_poster, self_issued
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
    authority = certify(tmp_path, NAME)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "both.pem")
    with _serving(context) as (handler, address):
        yield handler, address, authority


@contextlib.contextmanager
def _serving(context: ssl.SSLContext) -> Iterator[tuple[type[_Handler], tuple[str, int]]]:
    class Handler(_Handler):
        hosts: list[str] = []  # noqa: RUF012 - of this test alone
        ports: set[int] = set()  # noqa: RUF012 - likewise

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        listening.daemon_threads = True
        listening.socket = context.wrap_socket(listening.socket, server_side=True)
        thread = threading.Thread(target=listening.serve_forever)
        thread.start()
        try:
            yield Handler, ("127.0.0.1", listening.server_address[1])
        finally:
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


async def test_a_certificate_may_have_its_issuers_name(tmp_path: Path) -> None:
    """OpenSSL takes such a one for self-signed. It is fetched once, and again when another is presented."""
    makers = {"first": certify_in_own_name, "renewed": certify_in_own_name, "ordinary": certify}
    authorities = {}
    for folder, make in makers.items():
        (tmp_path / folder).mkdir()
        authorities[folder] = make(tmp_path / folder, NAME)
    target = HttpsTarget(f"https://{NAME}:443/", b"".join(authorities.values()), NAME)
    poster = HttpsPoster()
    for folder in authorities:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(tmp_path / folder / "both.pem")
        with _serving(context) as (handler, address):
            assert await poster.post(target._replace(address=address), b"{}") == (200, b"{}")
            assert await poster.post(target._replace(address=address), b"[]") == (200, b"[]")
            assert len(handler.ports) == 1
            other = HttpsTarget("https://other.svc:443/", target.authority, "other.svc", address)
            with pytest.raises(OSError, match="certificate is not valid: Hostname mismatch"):
                await poster.post(other, b"{}")
    await poster.aclose()


@pytest.mark.parametrize(
    ("own", "reason"),
    [
        ({"signs": False}, "self-signed"),
        ({"is_authority": False}, "self-signed"),
        ({"hours": (1, -1)}, "self-signed"),
        ({"hours": (-1, 2)}, "self-signed"),
        ({"bounds": x509.NameConstraints([x509.DNSName("example.com")], None)}, "self-signed"),
        ({"leaf_ends": 0}, "certificate has expired"),
    ],
    ids=["another-key", "no-authority", "past", "future", "bounded-names", "server-expired"],
)
async def test_an_issuers_name_proves_nothing(tmp_path: Path, own: dict[str, Any], reason: str) -> None:
    """The issuer must have signed, be an authority, and be in its time; the rest is held to as ever."""
    authority = certify_in_own_name(tmp_path, NAME, **own)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "both.pem")
    poster = HttpsPoster()
    with (
        _serving(context) as (handler, address),
        pytest.raises(OSError, match=f"certificate is not valid: {reason}"),
    ):
        await poster.post(HttpsTarget(f"https://{NAME}:443/", authority, NAME, address), b"{}")
    assert handler.hosts == []
    await poster.aclose()


async def test_a_certificate_is_trusted_for_as_long_as_its_issuer(tmp_path: Path) -> None:
    """When the issuer's time is over, so is what was learnt of it."""
    authority = certify_in_own_name(tmp_path, NAME, leaf_ends=3)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "both.pem")
    now = [dt.datetime.now(dt.UTC)]
    kept = self_issued.SelfIssued(lambda: now[0])
    with _serving(context) as (_, address):
        target = HttpsTarget(f"https://{NAME}:443/", authority, NAME, address)
        await kept.learn(target)
        assert kept.trusting(target) != target
        now[0] += dt.timedelta(hours=2)
        assert kept.trusting(target) == target
        await kept.learn(target)
        assert kept.trusting(target) == target
