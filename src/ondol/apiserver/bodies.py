"""Request bodies: JSON, YAML and protobuf read into documents, and the keys that a body has twice."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator
from typing import Any, Final

import msgspec

from ondol.api import protobuf
from ondol.api.objects import Object
from ondol.apiserver import yaml_text
from ondol.base import errors

JSON: Final = "application/json"
YAML: Final = "application/yaml"
PROTOBUF: Final = protobuf.MEDIA_TYPE
YAMLS: Final = (YAML, "application/x-yaml", "text/yaml")
_BEHIND_KEY: Final = b'":'
_SPACED: Final = re.compile(rb'"[ \t\r\n]+:')
DEPTH_MAX: Final = 200
"""Lists and objects inside of each other in one document; people's go to some thirty."""
_OWNERS_DEPTH: Final = 8
"""Around the fields in a record of their owners: metadata, managedFields, its entry, fieldsV1."""


def media_type(header: str) -> str:
    """The media type without its parameters; JSON when none is given."""
    return header.partition(";")[0].strip().lower() or JSON


def decode(body: bytes, content_type: str) -> Object:
    """The document in a body; `BadRequest` if it cannot be read, `UnsupportedMediaType` if unknown."""
    value = parse(body, content_type)
    if not isinstance(value, dict):
        raise errors.BadRequest("the object provided is not a JSON object: want apiVersion, kind, metadata")
    return value


def parse(body: bytes, content_type: str) -> Any:
    """Any JSON value in a JSON or YAML body."""
    try:
        if content_type == JSON:
            return _json(body)
        if content_type in YAMLS:
            return yaml_text.parse(body, DEPTH_MAX).value
        if content_type == PROTOBUF:
            return protobuf.decode(body)
    except RecursionError as error:
        raise too_deep() from error
    raise errors.UnsupportedMediaType(
        "the body of the request was in an unknown format - accepted media types include: "
        f"{JSON}, {YAML}, {PROTOBUF}"
    )


def _json(body: bytes) -> Any:
    try:
        value = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise errors.BadRequest(f"the object provided is not valid JSON: {error}") from error
    # Few documents have as many lists and objects as the bound, let alone inside of each other.
    if body.count(b"{") + body.count(b"[") > DEPTH_MAX:
        check_depth(value)
    return value


def check_depth(value: Any) -> None:
    """`BadRequest` if a document is nested more deeply than the server, which recurses, can follow.

    The record of who owns its fields is as deep as the document itself and what it stands in: that much more
    is left to it.
    """
    level, owners, depth = [value], list[Any](), 0
    while level or owners:
        if depth >= (DEPTH_MAX if level else DEPTH_MAX + _OWNERS_DEPTH):
            raise too_deep()
        recorded = [one["managedFields"] for one in level if isinstance(one, dict) and "managedFields" in one]
        owners = [inner for one in owners for inner in _inner(one)]
        owners += [one for one in recorded if isinstance(one, dict | list)]
        level = [inner for one in level for inner in _inner(one, "managedFields")]
        depth += 1


def _inner(value: Any, besides: str | None = None) -> list[Any]:
    if isinstance(value, dict):
        return [v for k, v in value.items() if isinstance(v, dict | list) and k != besides]
    return [v for v in value if isinstance(v, dict | list)] if isinstance(value, list) else []


def too_deep() -> errors.BadRequest:
    return errors.BadRequest(f"the object provided is nested more than {DEPTH_MAX} deep")


def duplicates(body: bytes, content_type: str, value: Any) -> list[str]:
    """What strict decoding says of keys that stand twice in one object; `value` is what was decoded."""
    if content_type == JSON:
        return [] if repeats_nothing(body, value) else strict_findings(body, frozenset())
    return yaml_text.parse(body, DEPTH_MAX).repeated if content_type in YAMLS else []


def strict_findings(body: bytes, unknown: Collection[str]) -> list[str]:
    """What strict decoding of a JSON body says, in the order of the body.

    `unknown` are the paths of fields that the kind does not have; what is inside of these is not read.
    """
    if not unknown and not _repeats_keys(body):
        return []
    document = json.loads(body, object_pairs_hook=_Pairs)
    return list(dict.fromkeys(_findings(document, "", frozenset(unknown))))


class _Pairs(list[tuple[str, Any]]):
    """The members of an object as they stand, with those that are repeated."""

    __slots__ = ()


def repeats_nothing(body: bytes, value: Any) -> bool:
    r"""Whether it is plain that no key stands twice in one object of a JSON body; `value` is it decoded.

    Decoding keeps the last of repeated members, so what is written anew from the value has fewer keys. They
    are counted by the `":` behind each. Inside of texts it stands too, but in both the same number of times,
    unless the body spells quotation marks by number; and it is `" :` where people put spaces.

        {"a":1,"a":2} has two, and {"a":2} one          {"a":"\"b\":1"} has two, and so is it written anew
    """
    written = msgspec.json.encode(value)
    if written == body:
        return True
    if b"\\u" in body or _SPACED.search(body):
        return False
    return written.count(_BEHIND_KEY) == body.count(_BEHIND_KEY)


def _repeats_keys(body: bytes) -> bool:
    seen = False

    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        nonlocal seen
        members = dict(items)
        seen = seen or len(members) != len(items)
        return members

    json.loads(body, object_pairs_hook=pairs)
    return seen


def _findings(value: Any, path: str, unknown: frozenset[str]) -> Iterator[str]:
    if isinstance(value, _Pairs):
        yield from _findings_in_object(value, path, unknown)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _findings(item, f"{path}[{index}]", unknown)


def _findings_in_object(members: _Pairs, path: str, unknown: frozenset[str]) -> Iterator[str]:
    seen: set[str] = set()
    for key, item in members:
        where = f"{path}.{key}" if path else key
        if where in unknown:
            yield f'unknown field "{where}"'
            continue
        if key in seen:
            yield f'duplicate field "{where}"'
        seen.add(key)
        yield from _findings(item, where, unknown)
