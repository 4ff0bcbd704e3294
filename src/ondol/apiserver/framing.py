"""What the head of a request must be before anything in it is believed (RFC 9112, and Go's stricter habits).

Pure: `server` asks it about every request. Where two readers could see two different requests in the same
bytes (two lengths, two hosts, an encoding one of them does not know) there is none: it is refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

VERSIONS: Final = ("1.0", "1.1")
# Characters Go lets stand in a Host header.
_HOST: Final = re.compile(rb"[A-Za-z0-9!$%&'()*+,\-./:;=\[\]_~]*")
_BAD_ESCAPE: Final = re.compile(rb"%(?![0-9A-Fa-f]{2})")


def problem(version: str, target: bytes, headers: Iterable[tuple[bytes, bytes]]) -> str:
    """Why the request is refused with 400, or nothing; names of headers are in lower case."""
    hosts = [value for name, value in headers if name == b"host"]
    encodings = [value for name, value in headers if name == b"transfer-encoding"]
    if version not in VERSIONS:
        return f"HTTP/{version} is not spoken here"
    if len(hosts) > 1:
        return "too many Host headers"
    if not hosts and version == "1.1":
        return "missing required Host header"
    if hosts and not _HOST.fullmatch(hosts[0]):
        return "malformed Host header"
    if encodings and (version == "1.0" or [e.strip().lower() for e in encodings] != [b"chunked"]):
        return "unsupported transfer encoding"
    if _BAD_ESCAPE.search(target.partition(b"?")[0]):
        return "invalid URL escape"
    return ""
