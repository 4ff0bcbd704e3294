"""The small rules many kinds share: ranges, choices, names of things inside objects."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator
from typing import Any, Final

from ondol.api import labels
from ondol.api.schema import causes
from ondol.base import names
from ondol.base.errors import Cause

IMMUTABLE: Final = "field is immutable"
PROTOCOLS: Final = ("SCTP", "TCP", "UDP")

LABEL: Final = (
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start"
    " and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is"
    " '[a-z0-9]([-a-z0-9]*[a-z0-9])?')"
)
SUBDOMAIN: Final = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must"
    " start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is"
    " '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
)
LABEL_1035: Final = (
    "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic"
    " character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for"
    " validation is '[a-z]([-a-z0-9]*[a-z0-9])?')"
)
_PORT_NAME: Final = re.compile(r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?")
_KEY: Final = re.compile(r"[-._a-zA-Z0-9]+")
_PERCENT: Final = re.compile(r"[0-9]+%")


def non_negative(path: str, value: int | None) -> Iterator[Cause]:
    if value is not None and value < 0:
        yield causes.invalid(path, value, "must be greater than or equal to 0")


def between(path: str, value: int | None, least: int, most: int) -> Iterator[Cause]:
    if value is not None and not least <= value <= most:
        yield causes.invalid(path, value, f"must be between {least} and {most}, inclusive")


def port(path: str, value: int | None) -> Iterator[Cause]:
    yield from between(path, value or 0, 1, 65535)


def port_name(path: str, value: str) -> Iterator[Cause]:
    """An IANA service name, as ports are called."""
    if len(value) > 15:
        yield causes.invalid(path, value, "must be no more than 15 characters")
    if not _PORT_NAME.fullmatch(value):
        detail = "must contain only alphanumeric characters (a-z, 0-9), and hyphens (-)"
        yield causes.invalid(path, value, detail)
    elif not re.search("[a-z]", value):
        yield causes.invalid(path, value, "must contain at least one letter (a-z)")
    elif "--" in value:
        yield causes.invalid(path, value, "must not contain consecutive hyphens")


def port_or_name(path: str, value: Any) -> Iterator[Cause]:
    if isinstance(value, str):
        yield from port_name(path, value)
    else:
        yield from port(path, value)


def one_of(path: str, value: Any, allowed: Collection[str], *, required: bool = False) -> Iterator[Cause]:
    if not value:
        if required:
            yield causes.required(path)
    elif value not in allowed:
        yield causes.not_supported(path, value, allowed)


def label(path: str, value: str) -> Iterator[Cause]:
    if len(value) > 63:
        yield causes.invalid(path, value, "must be no more than 63 bytes")
    if not names.is_dns1123_label(value[:63]) and not (len(value) > 63 and names.is_dns1123_subdomain(value)):
        yield causes.invalid(path, value, LABEL)


def subdomain(path: str, value: str) -> Iterator[Cause]:
    if len(value) > 253:
        yield causes.invalid(path, value, "must be no more than 253 bytes")
    elif not names.is_dns1123_subdomain(value):
        yield causes.invalid(path, value, SUBDOMAIN)


def fully_qualified(path: str, value: str) -> Iterator[Cause]:
    """A name in a domain that is somebody's: three parts at least."""
    if not value:
        yield causes.required(path)
    elif not names.is_dns1123_subdomain(value):
        yield from subdomain(path, value)
    elif value.count(".") < 2:
        yield causes.invalid(path, value, "should be a domain with at least three segments separated by dots")


def label_1035(path: str, value: str) -> Iterator[Cause]:
    if len(value) > 63:
        yield causes.invalid(path, value, "must be no more than 63 bytes")
    elif not names.is_dns1035_label(value):
        yield causes.invalid(path, value, LABEL_1035)


def path_segment(path: str, value: str) -> Iterator[Cause]:
    """A name that may be anything a URL's segment can be, as RBAC allows."""
    if value in (".", ".."):
        yield causes.invalid(path, value, f"may not be '{value}'")
    for illegal in ("/", "%"):
        if illegal in value:
            yield causes.invalid(path, value, f"may not contain '{illegal}'")


def qualified(path: str, value: str) -> Iterator[Cause]:
    """A name as the keys of labels are, with or without a prefix."""
    yield from (causes.invalid(path, value, detail) for detail in labels.label_key_problems(value))


def key(path: str, value: str) -> Iterator[Cause]:
    """A key of a ConfigMap or Secret."""
    if len(value) > 253:
        yield causes.invalid(path, value, "must be no more than 253 bytes")
    if not _KEY.fullmatch(value):
        detail = (
            "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name', "
            " or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')"
        )
        yield causes.invalid(path, value, detail)
    elif value in (".", ".."):
        yield causes.invalid(path, value, f"must not be '{value}'")
    elif value.startswith(".."):
        yield causes.invalid(path, value, "must not start with '..'")


def inner_path(path: str, value: str) -> Iterator[Cause]:
    """A path that must stay below where it is taken."""
    if value.startswith("/"):
        yield causes.invalid(path, value, "must be a relative path")
    if ".." in value.split("/"):
        yield causes.invalid(path, value, "must not contain '..'")


def int_or_percent(path: str, value: Any) -> Iterator[Cause]:
    if isinstance(value, str):
        if not _PERCENT.fullmatch(value):
            detail = "a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', regex used for validation is '[0-9]+%')"  # noqa: E501  # one message
            yield causes.invalid(path, value, detail)
    else:
        yield from non_negative(path, value)


def at_most_100_percent(path: str, value: Any) -> Iterator[Cause]:
    if isinstance(value, str) and _PERCENT.fullmatch(value) and int(value[:-1]) > 100:
        yield causes.invalid(path, value, "must not be greater than 100%")


def is_zero(value: Any) -> bool:
    """Whether a number or a percentage comes to nothing."""
    return value == 0 or (isinstance(value, str) and value.rstrip("%").strip("0") == "")


def same(path: str, new: Any, old: Any, detail: str = IMMUTABLE) -> Iterator[Cause]:
    """The cause if a field that must not change did."""
    if new != old:
        yield causes.invalid(path, new, detail)


def unique(path: str, values: Iterable[tuple[int, Any]], field: str = "") -> Iterator[Cause]:
    seen = set()
    for index, value in values:
        if value in seen:
            yield causes.duplicate(f"{path}[{index}].{field}" if field else f"{path}[{index}]", value)
        seen.add(value)
