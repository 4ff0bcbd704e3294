"""The edge that hands requests on, to servers that want to know who it is and must prove who they are."""

from __future__ import annotations

import contextlib
import json
import ssl
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from tests.certificates import certify
from tests.e2e import extension_server
from tests.e2e.extension_server import ROOT

from ondol.apiserver import pki
from ondol.apiserver.ports import Destination, Forwarded, Trust
from ondol.base.clock import SystemClock
from ondol.compose import tls
from ondol.compose.forwarder import HttpForwarder

pytestmark = pytest.mark.anyio

NAME: Final = "api.wardle.svc"
FLUNDERS: Final = f"{ROOT}/namespaces/a/flunders"


@pytest.fixture
def anyio_backend() -> str:
    """The edge is asyncio's."""
    return "asyncio"


@pytest.fixture
def issued(tmp_path: Path) -> pki.Pki:
    """The platform's own certificates."""
    return pki.ensure(tmp_path / "pki", clock=SystemClock())


@pytest.fixture
def server(tmp_path: Path, issued: pki.Pki) -> Iterator[tuple[Destination, extension_server.Server]]:
    """An extension server that believes the front proxy, and where it is."""
    authority = certify(tmp_path, NAME)
    running = extension_server.serve(("127.0.0.1", 0), tmp_path / "both.pem", issued.front_proxy_ca_file)
    thread = threading.Thread(target=running.serve_forever, daemon=True)
    thread.start()
    port = int(running.server_address[1])
    yield Destination("https", "127.0.0.1", port, trust=Trust(NAME, authority)), running
    running.shutdown()
    running.server_close()
    thread.join()


@contextlib.asynccontextmanager
async def _forwarder(certificate: Path, key: Path) -> AsyncIterator[HttpForwarder]:
    edge = HttpForwarder(Path("/none"), "", SystemClock(), tls.Showing(certificate, key))
    try:
        yield edge
    finally:
        await edge.aclose()


def _asking(method: str, target: str, **headers: str) -> Forwarded:
    named = [(key.replace("_", "-").encode(), value.encode()) for key, value in headers.items()]
    return Forwarded(method, target, [(b"host", NAME.encode()), *named])


async def _ask(edge: HttpForwarder, to: Destination, request: Forwarded, body: bytes = b"") -> Any:
    async def sent() -> AsyncIterator[bytes]:
        yield body

    async with edge.request(to, request, sent() if body else None) as answer:
        return json.loads(b"".join([chunk async for chunk in answer.chunks()]))


async def test_both_sides_prove_who_they_are(issued: pki.Pki, server: Any) -> None:
    """The name in the certificate is the Service's, whatever the address; names of users are text."""
    to, _ = server
    body = b'{"metadata": {"name": "one"}}'
    async with _forwarder(*issued.front_proxy_files) as edge:
        request = _asking("POST", FLUNDERS, x_remote_user="홍길동", content_length=str(len(body)))
        created = await _ask(edge, to, request, body)
        seen = created["metadata"]["annotations"]["by"].encode("latin-1").decode()
        assert seen == "홍길동"
        assert (await _ask(edge, to, _asking("GET", ROOT)))["kind"] == "APIResourceList"


@pytest.mark.parametrize(
    ("trust", "words"),
    [
        (Trust("other.wardle.svc"), "certificate is not valid"),
        (Trust(NAME, b""), "certificate is not valid"),
        (Trust(NAME, b"garbage"), "caBundle has no certificate in PEM"),
    ],
)
async def test_who_is_not_believed_is_told_nothing(
    issued: pki.Pki, server: Any, trust: Trust, words: str
) -> None:
    """Another name, another authority, or none; also for what asks for another protocol."""
    to, _ = server
    authority = to.trust.authority if trust.server_name != NAME else trust.authority
    to = to._replace(trust=trust._replace(authority=authority))
    async with _forwarder(*issued.front_proxy_files) as edge:
        with pytest.raises(OSError, match=words):
            await _ask(edge, to, _asking("GET", ROOT))
        with pytest.raises(OSError, match=words):
            async with edge.upgrade(to, _asking("GET", ROOT, upgrade="echo", connection="Upgrade")):
                raise AssertionError("it was believed")


async def test_insecure_servers_are_asked_if_they_are_to_be(issued: pki.Pki, server: Any) -> None:
    """They still see who asks."""
    to, _ = server
    to = to._replace(trust=Trust("other.wardle.svc", is_verified=False))
    async with _forwarder(*issued.front_proxy_files) as edge:
        assert (await _ask(edge, to, _asking("GET", ROOT)))["kind"] == "APIResourceList"


async def test_only_the_front_proxys_certificate_opens_the_server(issued: pki.Pki, server: Any) -> None:
    """Not one of the platform's ordinary authority."""
    to, _ = server
    async with _forwarder(issued.server_certificate_file, issued.server_key_file) as edge:
        with pytest.raises(OSError):  # noqa: PT011 - TLS ends in many words
            await _ask(edge, to, _asking("GET", ROOT))
    without = HttpForwarder(Path("/none"), "", SystemClock())
    with pytest.raises(OSError, match="no certificate to show"):
        await _ask(without, to, _asking("GET", ROOT))
    await without.aclose()


async def test_upgrades_are_bytes_behind_tls(issued: pki.Pki, server: Any) -> None:
    """Both ways."""
    to, _ = server
    async with _forwarder(*issued.front_proxy_files) as edge:
        request = _asking("GET", f"{FLUNDERS}/one/shell", upgrade="echo", connection="Upgrade")
        async with edge.upgrade(to, request) as (status, _head, stream):
            assert status == 101
            await stream.send(b"hello")
            assert await stream.receive() == b"HELLO"


def test_contexts_are_kept_for_each_trust(issued: pki.Pki) -> None:
    """So that connections are found again, and never by another name."""
    showing = tls.Showing(*issued.front_proxy_files)
    first = showing.context(Trust("a", is_verified=False))
    assert showing.context(Trust("a", is_verified=False)) is first
    assert showing.context(Trust("b", is_verified=False)) is not first
    assert showing.context(Trust("a")).verify_mode is ssl.CERT_REQUIRED
