"""Request bodies: JSON, YAML and protobuf into documents, and what is repeated in them."""

from __future__ import annotations

import json
from typing import Any, Final

import msgspec
import yaml

from ondol.api import protobuf
from ondol.api.objects import Object
from ondol.base import errors

JSON: Final = "application/json"
YAML: Final = "application/yaml"
PROTOBUF: Final = "application/vnd.kubernetes.protobuf"
_YAMLS: Final = (YAML, "application/x-yaml", "text/yaml")


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
    if content_type == JSON:
        return _json(body)
    if content_type in _YAMLS:
        return _yaml(body)
    if content_type == PROTOBUF:
        return protobuf.decode(body)
    raise errors.UnsupportedMediaType(
        "the body of the request was in an unknown format - accepted media types include: "
        f"{JSON}, {YAML}, {PROTOBUF}"
    )


def _json(body: bytes) -> Any:
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError) as error:
        raise errors.BadRequest(f"the object provided is not valid JSON: {error}") from error


def _yaml(body: bytes) -> Any:
    try:
        return _plain(yaml.load(body, Loader=_Loader))  # noqa: S506 - a safe loader's subclass
    except (yaml.YAMLError, RecursionError) as error:
        raise errors.BadRequest(f"error converting YAML to JSON: {error}") from error
    except UnicodeDecodeError as error:
        raise errors.BadRequest(f"error converting YAML to JSON: {error.reason}") from error


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]  # chosen at run time
    """YAML as JSON sees it: dates stay text, and only true and false are booleans in 1.2 style."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in _Loader.yaml_implicit_resolvers.items()
}


def _plain(value: Any) -> Any:
    """With the keys JSON can have."""
    if isinstance(value, dict):
        return {_key(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if value is None or isinstance(value, str | int | float | bool):
        return value
    raise errors.BadRequest(f"error converting YAML to JSON: {type(value).__name__} has no JSON form")


def _key(key: Any) -> str:
    if isinstance(key, str):
        return key
    if isinstance(key, bool):
        return "true" if key else "false"
    if isinstance(key, int | float):
        return str(key)
    raise errors.BadRequest("error converting YAML to JSON: a key must be a scalar")


def duplicates(body: bytes, content_type: str) -> list[str]:
    """The paths of keys that stand twice in one object, in the words of strict decoding."""
    if content_type == JSON:
        return _json_duplicates(body)
    return []


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
