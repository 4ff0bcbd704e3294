"""Heads of requests that are refused before anything in them is believed."""

from __future__ import annotations

import pytest

from ondol.apiserver import framing

HOST = (b"host", b"127.0.0.1:6443")
CHUNKED = (b"transfer-encoding", b"chunked")


@pytest.mark.parametrize(
    ("version", "target", "headers"),
    [
        ("1.1", b"/api", [HOST]),
        ("1.1", b"/api", [(b"host", b"[::1]:6443")]),
        ("1.1", b"/api", [(b"host", b"")]),
        ("1.0", b"/api", []),
        ("1.1", b"/api/a%2Fb?x=%", [HOST]),
        ("1.1", b"/api", [HOST, CHUNKED]),
        ("1.1", b"/api", [HOST, (b"transfer-encoding", b" Chunked")]),
        ("1.1", b"http://other/api", [HOST]),
    ],
)
def test_heads_that_mean_one_thing(version: str, target: bytes, headers: list[tuple[bytes, bytes]]) -> None:
    """They go on to the application."""
    assert framing.problem(version, target, headers) == ""


@pytest.mark.parametrize(
    ("version", "target", "headers", "why"),
    [
        ("1.1", b"/", [], "missing required Host header"),
        ("1.1", b"/", [HOST, HOST], "too many Host headers"),
        ("1.0", b"/", [HOST, (b"host", b"other")], "too many Host headers"),
        ("1.1", b"/", [(b"host", b"a b")], "malformed Host header"),
        ("1.1", b"/", [(b"host", b"a\xff")], "malformed Host header"),
        ("1.1", b"/", [HOST, (b"transfer-encoding", b"gzip, chunked")], "unsupported transfer encoding"),
        ("1.1", b"/", [HOST, CHUNKED, CHUNKED], "unsupported transfer encoding"),
        ("1.0", b"/", [HOST, CHUNKED], "unsupported transfer encoding"),
        ("2.0", b"/", [HOST], "HTTP/2.0 is not spoken here"),
        ("0.9", b"/", [HOST], "HTTP/0.9 is not spoken here"),
        ("1.1", b"/a%zz", [HOST], "invalid URL escape"),
        ("1.1", b"/a%4", [HOST], "invalid URL escape"),
    ],
)
def test_heads_that_mean_two_things(
    version: str, target: bytes, headers: list[tuple[bytes, bytes]], why: str
) -> None:
    """Each is refused with its reason."""
    assert framing.problem(version, target, headers) == why
