"""String formats of CRD schemas, checked as kube-openapi does.

An unknown format is ignored, as Kubernetes ignores it. The expressions here are our own and the texts users':
none of them can be matched in two ways, which is what backtracking would cost.
"""

from __future__ import annotations

import base64
import binascii
import ipaddress
import re
from collections.abc import Callable
from datetime import datetime
from typing import Any, Final
from urllib.parse import urlsplit

from ondol.base import names

_DURATION: Final = re.compile(
    r"[-+]?(?:0|(?:\d+(?:\.\d*)?|\.\d+)\s?(?:ns|us|µs|μs|ms|s|m|h|d|w)(?:\s?(?:\d+(?:\.\d*)?|\.\d+)\s?(?:ns|us|µs|μs|ms|s|m|h|d|w))*)"
)


def _matches(expression: str, flags: int = 0) -> Callable[[str], bool]:
    compiled = re.compile(expression, flags | re.ASCII)
    return lambda text: compiled.fullmatch(text) is not None


def _parses(parse: Callable[[str], Any]) -> Callable[[str], bool]:
    def check(text: str) -> bool:
        try:
            parse(text)
        except (ValueError, binascii.Error):
            return False
        return True

    return check


def _date(text: str) -> None:
    if len(text) != 10:
        raise ValueError(text)
    datetime.fromisoformat(text)


def _date_time(text: str) -> None:
    if len(text) < 19 or text[10] not in "Tt " or datetime.fromisoformat(text).tzinfo is None:
        raise ValueError(text)


def _cidr(text: str) -> None:
    address, slash, bits = text.partition("/")
    if not slash or not bits.isdigit():
        raise ValueError(text)
    ipaddress.ip_interface(f"{address}/{bits}")


def _uri(text: str) -> bool:
    parts = urlsplit(text)
    return text.startswith("/") or bool(parts.scheme)


def _hostname(text: str) -> bool:
    label = r"[a-zA-Z0-9_](?:[a-zA-Z0-9_-]{0,61}[a-zA-Z0-9_])?"
    return len(text) <= 255 and re.fullmatch(rf"{label}(?:\.{label})*\.?", text) is not None


def _isbn(text: str) -> bool:
    digits = text.replace("-", "").replace(" ", "")
    return _isbn10(digits) or _isbn13(digits)


def _isbn10(text: str) -> bool:
    digits = text.replace("-", "").replace(" ", "")
    if not re.fullmatch(r"\d{9}[\dX]", digits):
        return False
    return sum((i + 1) * (10 if c == "X" else int(c)) for i, c in enumerate(digits)) % 11 == 0


def _isbn13(text: str) -> bool:
    digits = text.replace("-", "").replace(" ", "")
    return (
        bool(re.fullmatch(r"\d{13}", digits))
        and sum(int(c) * (3 if i % 2 else 1) for i, c in enumerate(digits)) % 10 == 0
    )


def _card(text: str) -> bool:
    digits = re.sub(r"\D", "", text)
    issued = (
        r"4\d{12}(?:\d{3})?|5[1-5]\d{14}|6(?:011|5\d\d)\d{12}|3[47]\d{13}"
        r"|3(?:0[0-5]|[68]\d)\d{11}|(?:2131|1800|35\d{3})\d{11}"
    )
    if not re.fullmatch(issued, digits):
        return False
    doubled = (int(c) * (2 if i % 2 else 1) for i, c in enumerate(reversed(digits)))
    return sum(d - 9 if d > 9 else d for d in doubled) % 10 == 0


def _hex_uuid(version: str = "", variant: str = "") -> Callable[[str], bool]:
    third = f"{version}[0-9a-f]{{3}}" if version else "[0-9a-f]{4}"
    fourth = f"{variant}[0-9a-f]{{3}}" if variant else "[0-9a-f]{4}"
    return _matches(rf"[0-9a-f]{{8}}-?[0-9a-f]{{4}}-?{third}-?{fourth}-?[0-9a-f]{{12}}", re.IGNORECASE)


_CHECKS: Final[dict[str, Callable[[str], bool]]] = {
    "bsonobjectid": _matches(r"[0-9a-fA-F]{24}"),
    "uri": _uri,
    "email": _matches(r"(?:[^@<>]*<)?[^\s@<>]+@[^\s@<>]+>?"),
    "hostname": _hostname,
    "ipv4": _parses(ipaddress.IPv4Address),
    "ipv6": _parses(ipaddress.IPv6Address),
    "cidr": _parses(_cidr),
    "mac": _matches(
        r"(?:[0-9a-fA-F]{2}([:-]))(?:[0-9a-fA-F]{2}\1){4}(?:(?:[0-9a-fA-F]{2}\1){2})?[0-9a-fA-F]{2}|(?:[0-9a-fA-F]{4}\.){2,3}[0-9a-fA-F]{4}"
    ),
    "uuid": _hex_uuid(),
    "uuid3": _hex_uuid("3"),
    "uuid4": _hex_uuid("4", "[89ab]"),
    "uuid5": _hex_uuid("5", "[89ab]"),
    "isbn": _isbn,
    "isbn10": _isbn10,
    "isbn13": _isbn13,
    "creditcard": _card,
    "ssn": _matches(r"\d{3}[- ]?\d{2}[- ]?\d{4}"),
    "hexcolor": _matches(r"#?(?:[0-9a-fA-F]{3}|[0-9a-fA-F]{6})"),
    "rgbcolor": _matches(
        r"rgb\(\s*(?:25[0-5]|2[0-4]\d|1?\d?\d)\s*(?:,\s*(?:25[0-5]|2[0-4]\d|1?\d?\d)\s*){2}\)"
    ),
    "byte": _parses(lambda text: base64.b64decode(text, validate=True)),
    "date": _parses(_date),
    "datetime": _parses(_date_time),
    "duration": lambda text: _DURATION.fullmatch(text) is not None,
    "k8sshortname": names.is_dns1123_label,
    "k8slongname": names.is_dns1123_subdomain,
}


def check(format: str) -> Callable[[str], bool] | None:
    """The test of a format's name; None for formats that mean nothing here."""
    return _CHECKS.get(format.replace("-", ""))
