"""Request bodies: JSON, YAML and protobuf into documents, and what is repeated in them."""

from __future__ import annotations

import json
from typing import Any, Final

import msgspec

from ondol.api import protobuf
from ondol.api.objects import Object
from ondol.apiserver import yaml_text
from ondol.base import errors

JSON: Final = "application/json"
YAML: Final = "application/yaml"
PROTOBUF: Final = "application/vnd.kubernetes.protobuf"
YAMLS: Final = (YAML, "application/x-yaml", "text/yaml")
DEPTH_MAX: Final = 200
"""Lists and objects inside of each other in one document; people's go to some thirty."""


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

    The record of who owns its fields is as deep as the document itself and does not count.
    """
    level, depth = [value], 0
    while level:
        if depth >= DEPTH_MAX:
            raise too_deep()
        level = [inner for one in level for inner in _inner(one)]
        depth += 1


def _inner(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return [v for k, v in value.items() if isinstance(v, dict | list) and k != "managedFields"]
    return [v for v in value if isinstance(v, dict | list)] if isinstance(value, list) else []


def too_deep() -> errors.BadRequest:
    return errors.BadRequest(f"the object provided is nested more than {DEPTH_MAX} deep")


def duplicates(body: bytes, content_type: str) -> list[str]:
    """What strict decoding says of keys that stand twice in one object."""
    if content_type == JSON:
        return [f'duplicate field "{path}"' for path in _json_duplicates(body)]
    return yaml_text.parse(body, DEPTH_MAX).repeated if content_type in YAMLS else []


class _Twice(dict[str, Any]):
    """An object in which `again` stood more than once."""

    __slots__ = ("again",)
    again: list[str]


def _json_duplicates(body: bytes) -> list[str]:
    seen = False

    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        nonlocal seen
        plain = dict(items)
        if len(plain) == len(items):
            return plain
        seen = True
        marked = _Twice(plain)
        counted: set[str] = set()
        marked.again = [key for key, _ in items if key in counted or counted.add(key)]  # type: ignore[func-returns-value]  # set.add answers None, which is the point
        return marked

    document = json.loads(body, object_pairs_hook=pairs)
    return list(dict.fromkeys(_paths(document, ""))) if seen else []


def _paths(value: Any, path: str) -> list[str]:
    found: list[str] = []
    if isinstance(value, dict):
        if isinstance(value, _Twice):
            found += [f"{path}.{key}".lstrip(".") for key in value.again]
        for key, item in value.items():
            found += _paths(item, f"{path}.{key}")
    elif isinstance(value, list):
        for index, item in enumerate(value):
            found += _paths(item, f"{path}[{index}]")
    return found
