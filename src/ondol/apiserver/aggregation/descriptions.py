"""The OpenAPI of other servers beside this one's. Pure.

Of the newer form each version has a document of its own, which is handed on; the older form is one document
for all, into which that of others is merged.
"""

from __future__ import annotations

import hashlib
import re
import struct
import urllib.parse
from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec

from ondol.api.objects import Object
from ondol.api.openapi import gnostic

_REFERENCE: Final = "#/definitions/"
_PARAMETER: Final = "#/parameters/"
_HASH: Final = re.compile(r"[A-Za-z0-9]{1,128}")

_GARBAGE: Final = (
    msgspec.MsgspecError,
    AttributeError,
    KeyError,
    RecursionError,
    TypeError,
    ValueError,
    struct.error,
)
"""What reading a document raises that is none."""


def digest(body: bytes) -> bytes:
    return hashlib.sha256(body).digest()


class _Place(msgspec.Struct):
    url: str = msgspec.field(name="serverRelativeURL")


class _Index(msgspec.Struct):
    paths: dict[str, _Place]


def hash_of(body: bytes, key: str) -> str:
    """Of a version's document, in an index (`/openapi/v3`); empty if it has none.

    One without a hash has its URL's, so that what is kept by it is found again.
    """
    place = msgspec.json.decode(body, type=_Index).paths.get(key)
    if place is None:
        return ""
    named = urllib.parse.parse_qs(urllib.parse.urlsplit(place.url).query).get("hash", [""])[0]
    return named if _HASH.fullmatch(named) else hashlib.sha256(place.url.encode()).hexdigest().upper()


def part(body: bytes, root: str) -> bytes:
    """What a document of the older form says of the paths below `root`, and nothing else of it.

    Empty for what is no such document.
    """
    try:
        document = msgspec.json.decode(body, type=dict[str, Any])
        paths = {path: item for path, item in document["paths"].items() if f"{path}/".startswith(f"{root}/")}
        paths = _inlined(paths, document.get("parameters") or {})
        definitions = _reachable(paths, document.get("definitions") or {})
        chosen = {"paths": paths, "definitions": definitions}
        gnostic.encode({"swagger": "2.0", "info": {"title": "", "version": ""}, **chosen})
        return msgspec.json.encode(chosen)
    except _GARBAGE:
        return b""


def _inlined(node: Any, parameters: Mapping[str, Any]) -> Any:
    """With the parameters of which a document has one for all, where they are referred to."""
    if isinstance(node, dict):
        reference = node.get("$ref")
        if isinstance(reference, str) and reference.startswith(_PARAMETER):
            return parameters[reference.removeprefix(_PARAMETER)]
        return {key: _inlined(value, parameters) for key, value in node.items()}
    return [_inlined(each, parameters) for each in node] if isinstance(node, list) else node


def _reachable(paths: Object, definitions: Mapping[str, Any]) -> Object:
    """The definitions that are referred to, also by each other."""
    chosen: Object = {}
    waiting = _references(paths)
    while waiting:
        name = waiting.pop()
        if name in definitions and name not in chosen:
            chosen[name] = definitions[name]
            waiting |= _references(definitions[name])
    return chosen


def _references(node: Any) -> set[str]:
    names: set[str] = set()
    waiting = [node]
    while waiting:
        each = waiting.pop()
        if isinstance(each, dict):
            reference = each.get("$ref")
            if isinstance(reference, str) and reference.startswith(_REFERENCE):
                names.add(reference.removeprefix(_REFERENCE))
            waiting += each.values()
        elif isinstance(each, list):
            waiting += each
    return names


def merged(document: Mapping[str, Any], taken: Iterable[str], parts: Iterable[bytes]) -> Object:
    """A document of the older form with what others say.

    `taken` are the paths below which others answer. A definition that is another one under a name that is
    there already is renamed (`_v2`, and so on), as kube-aggregator does.
    """
    roots = tuple(f"{root}/" for root in taken)
    paths = {path: item for path, item in document["paths"].items() if not f"{path}/".startswith(roots)}
    definitions = dict(document["definitions"])
    for each in parts:
        if not each:
            continue
        part_: Any = msgspec.json.decode(each)
        names = {name: _name(name, entry, definitions) for name, entry in part_["definitions"].items()}
        renamed = {name: new for name, new in names.items() if name != new}
        if renamed:
            part_ = _renamed(part_, renamed)
        for name, entry in part_["definitions"].items():
            definitions.setdefault(names[name], entry)
        paths |= part_["paths"]
    return {**document, "paths": dict(sorted(paths.items())), "definitions": definitions}


def _name(name: str, definition: Any, definitions: Mapping[str, Any]) -> str:
    new, number = name, 1
    while new in definitions and definitions[new] != definition:
        number += 1
        new = f"{name}_v{number}"
    return new


def _renamed(node: Any, names: Mapping[str, str]) -> Any:
    """With references to the new names; what is a text elsewhere stays."""
    if isinstance(node, dict):
        return {
            key: _referring(value, names) if key == "$ref" else _renamed(value, names)
            for key, value in node.items()
        }
    return [_renamed(each, names) for each in node] if isinstance(node, list) else node


def _referring(value: Any, names: Mapping[str, str]) -> Any:
    if not isinstance(value, str) or not value.startswith(_REFERENCE):
        return value
    name = value.removeprefix(_REFERENCE)
    return f"{_REFERENCE}{names.get(name, name)}"
