"""Targets and headers of requests and answers that are handed on."""

from __future__ import annotations

import urllib.parse
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from ondol.apiserver.exchange import Headers

_HOP: Final = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    }
)
"""Between two neighbours only."""
_OURS: Final = frozenset({b"authorization", b"expect", b"x-forwarded-for"})
"""For the API server: who proves to it who they are does not do so to pods."""
_NOT_ANSWERED: Final = frozenset(
    {
        b"access-control-allow-credentials",
        b"access-control-allow-headers",
        b"access-control-allow-methods",
        b"access-control-allow-origin",
        b"date",  # the edge writes one
    }
)
_ABOUT_CALLERS: Final = (b"impersonate-", b"x-remote-")
"""Say for whom a request is, to the API server; to others it says that itself, where it does."""
_PATH_SAFE: Final = "/:@!$&'()*+,;=~-._"


def quoted(path: str) -> str:
    """A path as it stands in a request's target."""
    return urllib.parse.quote(path, safe=_PATH_SAFE)


def split(scope: Mapping[str, Any], rest: str) -> tuple[str, str]:
    """A request's path up to `/proxy`, and what follows it as it was encoded; `rest` is that decoded.

    Nothing follows if the path ends with `/proxy`. A slash at its end is kept.
    """
    path = scope["path"].strip("/").split("/")
    depth = len(path) - (len(rest.split("/")) if rest else 0)
    raw = (scope.get("raw_path") or b"").decode("latin-1").strip("/").split("/")
    is_same = urllib.parse.unquote("/".join(raw[:depth])) == "/".join(path[:depth])
    behind = "/".join(raw[depth:]) if is_same and raw[0] else quoted(rest)
    if behind and not behind.startswith("/"):
        behind = f"/{behind}"
    if scope["path"].endswith("/") and not behind.endswith("/"):
        behind = f"{behind}/"
    return quoted("/" + "/".join(path[:depth])), behind


def target(scope: Mapping[str, Any], path: str) -> str:
    """Path and query as they are sent."""
    query = (scope.get("query_string") or b"").decode("latin-1")
    return f"{path or '/'}?{query}" if query else path or "/"


def request_headers(scope: Mapping[str, Any], forwarded_uri: str) -> Headers:
    """The client's, but for those that are for the API server or its neighbour."""
    headers = list(scope["headers"])
    named = _named_hops(headers)
    kept = [(n, v) for n, v in headers if n not in _HOP | named and not _is_ours(n) and n != _URI]
    return [*kept, *_forwarded_for(scope), (_URI, forwarded_uri.encode())]


def upgrade_headers(scope: Mapping[str, Any]) -> Headers:
    """As `request_headers`, but for what asks for the other protocol."""
    return [*((n, v) for n, v in scope["headers"] if not _is_ours(n)), *_forwarded_for(scope)]


_URI: Final = b"x-forwarded-uri"


def answer_headers(headers: Iterable[tuple[bytes, bytes]]) -> Headers:
    listed = list(headers)
    dropped = _HOP | _NOT_ANSWERED | _named_hops(listed)
    return [(name, value) for name, value in listed if name not in dropped]


def _is_ours(name: bytes) -> bool:
    return name in _OURS or name.startswith(_ABOUT_CALLERS)


def _named_hops(headers: Headers) -> frozenset[bytes]:
    """What a message itself says is between neighbours only."""
    values = [value for name, value in headers if name == b"connection"]
    return frozenset(word.strip().lower() for value in values for word in value.split(b","))


def _forwarded_for(scope: Mapping[str, Any]) -> Iterator[tuple[bytes, bytes]]:
    before = [value for name, value in scope["headers"] if name == b"x-forwarded-for"]
    client = scope.get("client")
    addresses = [*before, *([str(client[0]).encode()] if client else [])]
    if addresses:
        yield b"x-forwarded-for", b", ".join(addresses)
