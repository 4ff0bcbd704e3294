"""Malformed requests over real TLS: to each there is an answer in form, or an end, and the server goes on."""

from __future__ import annotations

import os
from typing import Final

import pytest
from tests.apiserver import malformed
from tests.e2e.harness import ApiServer, Http

pytestmark = pytest.mark.e2e

_COUNT: Final = int(os.environ.get("ONDOL_MALFORMED_REQUESTS_TLS", "300"))
_RAW: Final = (
    b"\x16\x03\x01\x02\x00",
    b"GET\r\n\r\n",
    b"GET / HTTP/9.9\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"GET /\x00 HTTP/1.1\r\nhost: x\r\n\r\n",
    b"GET /\xff\xfe HTTP/1.1\r\nhost: x\r\n\r\n",
    b"GET / HTTP/1.1\r\nhost: x\r\nbad header\r\n\r\n",
    b"GET / HTTP/1.1\r\nhost: x\r\n" + b"a: b\r\n" * 5000 + b"\r\n",
    b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\nhost: x\r\n\r\n",
    b"POST /api HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
    b"POST /api HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\ncontent-length: 4\r\n\r\n0\r\n\r\n",
    b"POST /api HTTP/1.1\r\nhost: x\r\ncontent-length: 4\r\ncontent-length: 5\r\n\r\nabcde",
    b"POST /api HTTP/1.1\r\nhost: x\r\ntransfer-encoding: gzip, x\r\n\r\n",
    b"GET /api HTTP/1.1\r\nhost: x\r\nupgrade: h2c\r\nhttp2-settings: x\r\nconnection: upgrade\r\n\r\n",
)


def _answer(http: Http, content: bytes) -> bytes:
    """What comes back until the connection ends or nothing comes for a moment."""
    received = b""
    with http.connected() as connection:
        connection.settimeout(1.0)
        try:
            connection.sendall(content)
            while len(received) < 1 << 20 and (piece := connection.recv(65536)):
                received += piece
        except OSError:
            pass  # reset, or nothing more within the second: a watch, or a body that it waits for
    return received


def test_malformed_requests_over_tls(api_server: ApiServer, http: Http) -> None:
    """No fault of the server's, whatever the bytes; its module's end shows that no traceback was logged."""
    wires = [malformed.request(2, number).wire("api") for number in range(_COUNT)]
    answered = 0
    for content in (*_RAW, *wires):
        status = _answer(http, content).partition(b"\r\n")[0].split(b" ")
        is_fault = status[0].startswith(b"HTTP/") and status[1] in {b"500", b"502"}
        assert not is_fault, content[:2000]
        answered += status[0].startswith(b"HTTP/")
    assert answered > 0.9 * _COUNT
    assert api_server.alive()
    created = http("POST", "/api/v1/namespaces/default/configmaps", body={"metadata": {"name": "after"}})
    assert created.status == 201
