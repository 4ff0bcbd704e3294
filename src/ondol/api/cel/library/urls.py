"""URLs: `url(text)`, `isURL(text)`, and the parts of one. An absolute URL, or a path."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import parse_qs, quote, unquote

from ondol.api.cel import types as t
from ondol.api.cel.errors import EvaluationError
from ondol.api.cel.functions import Function, function, method, overload
from ondol.api.cel.library.standard import traversal
from ondol.api.cel.values import Opaque, TypeValue

URL: Final = t.object_named("kubernetes.URL")
_PARTS: Final = re.compile(
    r"(?:([a-zA-Z][a-zA-Z0-9+.-]*):)?(?://([^/?#]*))?([^?#]*)(?:\?([^#]*))?(?:#(.*))?", re.DOTALL
)
_BAD_ESCAPE: Final = re.compile(r"%(?![0-9a-fA-F]{2})")
_HOST: Final = re.compile(r"(?:\[[0-9a-fA-F:.%a-zA-Z0-9]*\]|[^\[\]:<>\"\s^`{|}\\]*)(?::[0-9]*)?")
_SAFE: Final = "$&+,/:;=@-._~!'()*"


@dataclass(frozen=True, slots=True)
class Url(Opaque):
    scheme: str
    host: str
    path: str
    query: str

    cel_type = TypeValue("kubernetes.URL")

    @property
    def hostname(self) -> str:
        if self.host.startswith("["):
            return self.host[1:].partition("]")[0]
        return self.host.partition(":")[0]

    @property
    def port(self) -> str:
        return self.host.rpartition("]")[2].partition(":")[2]

    @property
    def escaped_path(self) -> str:
        if _BAD_ESCAPE.search(self.path) is None and quote(unquote(self.path), _SAFE) != self.path:
            return quote(self.path, _SAFE + "%[]")
        return self.path

    @property
    def parameters(self) -> dict[str, list[str]]:
        return parse_qs(self.query, keep_blank_values=True)


def _parsed(text: str) -> Url:
    """`ValueError` for what is no absolute URL and no path."""
    match = _PARTS.fullmatch(text)
    if not text:
        raise ValueError("empty url")
    if match is None or any(ord(character) < 32 or ord(character) == 127 for character in text):
        raise ValueError("invalid control character in URL")
    scheme, authority, path, query, _ = match.groups()
    if scheme is None and not text.startswith("/"):
        raise ValueError("invalid URI for request")
    if scheme is not None and authority is None and not path.startswith("/"):
        return Url(scheme.lower(), "", "", query or "")  # what has no path is not looked into
    host = (authority or "").rpartition("@")[2]
    if not _HOST.fullmatch(host):
        raise ValueError("invalid host")
    if _BAD_ESCAPE.search(path) or _BAD_ESCAPE.search(host):
        raise ValueError("invalid URL escape")
    return Url((scheme or "").lower(), host, path, query or "")


def _url(text: str) -> Url:
    try:
        return _parsed(text)
    except ValueError as wrong:
        message = f'URL parse error during conversion from string: parse "{text}": {wrong}'
        raise EvaluationError(message) from None


def is_url(text: str) -> bool:
    try:
        _parsed(text)
    except ValueError:
        return False
    return True


def _part(name: str, id: str, result: t.Type, run: Any) -> Function:
    return function(name, method(f"url_get_{id}", (URL,), result, run))


_PARAMETERS: Final = t.map_of(t.STRING, t.list_of(t.STRING))
FUNCTIONS: Final[list[Function]] = [
    function("url", overload("string_to_url", (t.STRING,), URL, _url, traversal)),
    function("isURL", overload("is_url_string", (t.STRING,), t.BOOL, is_url)),
    _part("getScheme", "scheme", t.STRING, lambda url: url.scheme),
    _part("getHost", "host", t.STRING, lambda url: url.host),
    _part("getHostname", "hostname", t.STRING, lambda url: url.hostname),
    _part("getPort", "port", t.STRING, lambda url: url.port),
    _part("getEscapedPath", "escaped_path", t.STRING, lambda url: url.escaped_path),
    _part("getQuery", "query", _PARAMETERS, lambda url: url.parameters),
]
TYPES: Final = {"kubernetes.URL": URL}
