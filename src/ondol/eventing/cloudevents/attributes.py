"""What names and values context attributes may have; the reason in words where one may not.

Called for each event that arrives, so the usual value passes after a look or two. As strict as the
specification where it says MUST, except that a URI is not taken apart: what of it Knative takes, passes.
"""

from __future__ import annotations

import calendar
import functools
import re
from collections.abc import Mapping
from typing import Final

from ondol.eventing.cloudevents.event import (
    FORMER_OPTIONAL,
    FORMER_VERSION,
    OPTIONAL,
    REQUIRED,
    SPEC_VERSION,
)

DATA: Final = "data"
"""No attribute may be called so: formats keep the payload under this name."""
ENCODING: Final = "datacontentencoding"
"""Of events of the former version: how a document carries data that is no text."""
BASE64: Final = "base64"
INTEGER_MIN: Final = -(2**31)
INTEGER_MAX: Final = 2**31 - 1
_OPTIONAL_OF: Final[Mapping[str, tuple[str, ...]]] = {SPEC_VERSION: OPTIONAL, FORMER_VERSION: FORMER_OPTIONAL}
_REMEMBERED: Final = 1024
_NAME: Final = re.compile(r"[a-z0-9]+")
_DISALLOWED: Final = re.compile(
    "[\x00-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef"
    + "".join(chr(plane << 16 | last) for plane in range(17) for last in (0xFFFE, 0xFFFF))
    + "]"
)
_TOKEN: Final = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"  # noqa: S105 - a token of HTTP's grammar
_MEDIA_TYPE: Final = re.compile(
    rf"{_TOKEN}/{_TOKEN}(?:[ \t]*;[ \t]*(?:{_TOKEN}=(?:{_TOKEN}|\"(?:[\t !#-\[\]-~]|\\[\t -~])*\"))?)*[ \t]*"
)
_TIME: Final = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[Tt](\d\d):(\d\d):(\d\d)(?:\.\d+)?(?:[Zz]|[+-](\d\d):(\d\d))", re.ASCII
)
_NO_REFERENCE: Final = re.compile(r":|[^/?#]*%(?![0-9A-Fa-f]{2})|[^?#]*%(?![0-9A-Fa-f]{2})")


@functools.lru_cache(_REMEMBERED)
def name_problem(name: str) -> str | None:
    """Why no attribute may have this name."""
    if not _NAME.fullmatch(name):
        return f"attribute name {name!r} is invalid: it must consist of lower-case letters a-z and digits"
    if name == DATA:
        return f"attribute name {name!r} is reserved for the payload"
    return None


def value_problem(name: str, value: str) -> str | None:
    """Why this attribute may not have this value, which is a string for any type."""
    if not (value.isascii() and value.isprintable()) and (match := _DISALLOWED.search(value)):
        return f"attribute {name} has the character U+{ord(match[0]):04X}, which is not allowed"
    return None


def problem(attributes: Mapping[str, str]) -> str | None:
    """Why an event cannot have these attributes, whose names and characters were looked at already."""
    version = attributes.get("specversion")
    optional = _OPTIONAL_OF.get(version or "")
    if optional is None:
        return _version_problem(version)
    for name in REQUIRED:
        if not attributes.get(name):
            return f"attribute {name} is required" + (" and must not be empty" if name in attributes else "")
    if not is_reference(attributes["source"]):
        return f"attribute source is not a URI-reference: {attributes['source']!r}"
    for name in optional:
        value = attributes.get(name)
        if value is not None and (reason := _optional_problem(name, value)):
            return reason
    return None


def _version_problem(version: str | None) -> str:
    if version is None:
        return "attribute specversion is required"
    return f"specversion {version!r} is not supported: send {SPEC_VERSION!r} (or {FORMER_VERSION!r})"


def _optional_problem(name: str, value: str) -> str | None:
    if not value:
        return f"attribute {name} must not be empty: leave it out"
    if name == "datacontenttype" and not is_media_type(value):
        return f"attribute datacontenttype is not a media type such as application/json: {value!r}"
    if name == "time" and not is_time(value):
        return f"attribute time is not an RFC 3339 time such as 2018-04-05T17:31:00Z: {value!r}"
    if name in {"dataschema", "schemaurl"} and not is_reference(value):
        return f"attribute {name} is not a URI: {value!r}"
    if name == ENCODING and value.lower() != BASE64:
        return f"attribute {name} {value!r} is not supported: send {BASE64!r} or leave it out"
    return None


@functools.lru_cache(_REMEMBERED)
def is_media_type(text: str) -> bool:
    """Whether this is a media type with parameters, as RFC 2046 has them."""
    return _MEDIA_TYPE.fullmatch(text) is not None


def is_reference(text: str) -> bool:
    """Whether this may be a URI-reference: no scheme that is empty, no `%` that escapes nothing."""
    return (":" not in text and "%" not in text) or _NO_REFERENCE.match(text) is None


def is_time(text: str) -> bool:
    """Whether this is a time that RFC 3339 can say."""
    match = _TIME.fullmatch(text)
    if match is None:
        return False
    year, month, day, hour, minute, second = (int(part) for part in match.group(1, 2, 3, 4, 5, 6))
    if not (1 <= month <= 12 and hour <= 23 and minute <= 59 and second <= 60):
        return False
    if match[7] is not None and (int(match[7]) > 23 or int(match[8]) > 59):
        return False
    return 1 <= day <= (calendar.monthrange(year, month)[1] if year else 31)


def media_type(content_type: str) -> str:
    """The type itself in lower case, without parameters."""
    return content_type.partition(";")[0].strip().lower()


@functools.lru_cache(_REMEMBERED)
def is_json(content_type: str) -> bool:
    """Whether data of this type is JSON."""
    subtype = media_type(content_type).partition("/")[2]
    return subtype == "json" or subtype.endswith("+json")
