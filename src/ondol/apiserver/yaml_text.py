"""JSON values as YAML and back, for bodies and answers.

A body may come from anyone. A YAML library's own loader recurses with it, writes every alias out and
lets the last of two equal keys win; so bodies are read event by event here, with bounds on their depth,
their number of values and what their aliases come to, and repeated keys are told.

Plain scalars mean what they mean to kubectl (YAML 1.1 as Go reads it): `yes` is true, `12:30` is text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

import yaml

from ondol.base import errors

VALUES_MAX: Final = 100_000
"""Scalars, lists and mappings of one body: some megabytes as people write them; and those of its aliases."""
_EXPANDED_BYTES_MAX: Final = 3 * 1024 * 1024
"""What a body may be with its aliases written out: no more than a body without any."""

_Loader: Final = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Dumper(getattr(yaml, "CSafeDumper", yaml.SafeDumper)):  # type: ignore[misc]  # chosen at run time
    """Writes each value where it stands, and text so that it stays text."""

    def ignore_aliases(self, data: Any) -> bool:
        del data
        return True


_INTEGER: Final = re.compile(r"[-+]?(0b[01][01_]*|0o?[0-7_]+|0x[0-9a-fA-F][0-9a-fA-F_]*|[1-9][0-9_]*|0)")
_FLOAT: Final = re.compile(r"[-+]?(\.[0-9]+|[0-9][0-9_]*(\.[0-9_]*)?)([eE][-+]?[0-9]+)?")
_NOT_JSON: Final = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_NULL: Final = frozenset({"", "~", "null", "Null", "NULL"})
_TRUE: Final = frozenset({"y", "Y", "yes", "Yes", "YES", "true", "True", "TRUE", "on", "On", "ON"})
_FALSE: Final = frozenset({"n", "N", "no", "No", "NO", "false", "False", "FALSE", "off", "Off", "OFF"})
_TAG: Final = "tag:yaml.org,2002:"


class Parsed(NamedTuple):
    """The value of a body, and what strict decoding says of its keys."""

    value: Any
    repeated: list[str]


class _Node(NamedTuple):
    """A value, and how many bytes and values it is worth with its aliases written out."""

    value: Any
    size: int
    values: int = 1


class _Merge:
    """The key `<<`."""


_MERGE: Final = _Merge()


class _Open:
    """A list or mapping whose end has not come yet."""

    def __init__(self, event: Any) -> None:
        self.anchor: str | None = event.anchor
        self.size = 1
        self.values = 1
        self.items: list[Any] | None = [] if isinstance(event, yaml.SequenceStartEvent) else None
        self.pairs: dict[str, Any] = {}
        self.merged: list[Any] = []
        self.key: str | _Merge | None = None

    def value(self) -> Any:
        if self.items is not None:
            return self.items
        # The mapping's own keys win over merged ones, and earlier merged ones over later ones.
        return {k: v for pairs in (*reversed(self.merged), self.pairs) for k, v in pairs.items()}


def parse(body: bytes, depth_max: int) -> Parsed:
    """The one document of a body; `BadRequest` if it cannot be read or is beyond a bound."""
    return _Reading(depth_max).run(_events(body))


def dump(value: Any) -> bytes:
    """A JSON value as YAML that kubectl reads as the same value."""
    text: str = yaml.dump(value, Dumper=_Dumper, sort_keys=False)
    return text.encode()


def _text_node(dumper: Any, text: str) -> Any:
    # The library leaves words bare that mean something else elsewhere, `y` and `1e3` for instance.
    style = "'" if text[:1] != "." and _plain(text) != text else None
    return dumper.represent_scalar(f"{_TAG}str", text, style=style)


def _events(body: bytes) -> Iterator[Any]:
    try:
        for number, event in enumerate(yaml.parse(body, Loader=_Loader)):
            if number > VALUES_MAX:
                raise _refused(f"more than {VALUES_MAX} values; send it as JSON")
            yield event
    except yaml.YAMLError as error:
        raise _refused(str(error)) from error
    except UnicodeDecodeError as error:
        raise _refused(error.reason) from error


class _Reading:
    """One body while it is read."""

    def __init__(self, depth_max: int) -> None:
        self._depth_max = depth_max
        self._open: list[_Open] = []
        self._anchors: dict[str, _Node] = {}
        self._documents: list[Any] = []
        self._repeated: list[str] = []
        self._copied = 0
        """Values that aliases have been written out to."""

    def run(self, events: Iterator[Any]) -> Parsed:
        for event in events:
            if isinstance(event, yaml.ScalarEvent):
                self._scalar(event)
            elif isinstance(event, yaml.CollectionStartEvent):
                self._begin(event)
            elif isinstance(event, yaml.CollectionEndEvent):
                self._end(event)
            elif isinstance(event, yaml.AliasEvent):
                self._alias(event)
        if len(self._documents) > 1:
            raise _refused("a body holds one document")
        return Parsed(self._documents[0] if self._documents else None, self._repeated)

    def _begin(self, event: Any) -> None:
        if len(self._open) >= self._depth_max:
            raise _refused(f"nested more than {self._depth_max} deep")
        self._open.append(_Open(event))

    def _end(self, event: Any) -> None:
        ended = self._open.pop()
        self._take(_Node(ended.value(), ended.size, ended.values), ended.anchor, event)

    def _alias(self, event: Any) -> None:
        node = self._anchors.get(event.anchor)
        if node is None:  # or it stands inside of what it names, which has no end
            raise _refused(f"line {_line(event)}: unknown anchor '{event.anchor}' referenced")
        self._copied += node.values
        if self._copied > VALUES_MAX:  # before they are: copies of copies grow faster than bytes tell
            raise _refused("document contains excessive aliasing")
        self._take(node._replace(value=_copy(node.value)), None, event)

    def _scalar(self, event: Any) -> None:
        if self._wants_key() and event.implicit[0] and event.value == "<<":
            self._open[-1].key = _MERGE
            return
        value = _resolved(event)
        self._take(_Node(value, 1 + len(event.value)), event.anchor, event)

    def _wants_key(self) -> bool:
        return bool(self._open) and self._open[-1].items is None and self._open[-1].key is None

    def _take(self, node: _Node, anchor: str | None, event: Any) -> None:
        """Put a finished value where it belongs: it is an item, a key, a key's value or the document."""
        if anchor:
            self._anchors[anchor] = node
        if not self._open:
            self._documents.append(node.value)
            return
        around = self._open[-1]
        around.size += node.size
        around.values += node.values
        if around.size > _EXPANDED_BYTES_MAX:
            raise _refused("document contains excessive aliasing")
        if around.items is not None:
            around.items.append(node.value)
        elif around.key is None:
            around.key = _key(node.value)
        else:
            self._pair(around, around.key, node.value, event)

    def _pair(self, around: _Open, key: str | _Merge, value: Any, event: Any) -> None:
        around.key = None
        if not isinstance(key, _Merge):
            if key in around.pairs:
                self._repeated.append(f'line {_line(event)}: key "{key}" already set in map')
            around.pairs[key] = value
            return
        sources = value if isinstance(value, list) else [value]
        if not all(isinstance(one, dict) for one in sources):
            raise _refused(f"line {_line(event)}: map merge requires map or sequence of maps as the value")
        around.merged += sources


def _copy(value: Any) -> Any:
    """Of one's own: what stands in two places may be changed in one of them."""
    if isinstance(value, dict):
        return {key: _copy(item) for key, item in value.items()}
    return [_copy(item) for item in value] if isinstance(value, list) else value


def _line(event: Any) -> int:
    return int(event.start_mark.line) + 1


def _key(value: Any) -> str:
    """As JSON can have it."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return str(value)
    raise _refused("a key must be a scalar")


def _resolved(event: Any) -> Any:
    """What a scalar means: by its tag, or if it is plain by its looks."""
    if event.tag not in (None, "", "!"):
        return _tagged(event.tag, event.value)
    return _plain(event.value) if event.implicit[0] and not event.tag else event.value


def _tagged(tag: str, text: str) -> Any:
    if tag == f"{_TAG}str":
        return text
    tags = _TAGGED.get(tag)
    if tags is None:
        raise _refused(f"{tag} has no JSON form")
    value = _plain(text)
    if not isinstance(value, tags):
        raise _refused(f"cannot decode !!str `{text}` as a !!{tag.removeprefix(_TAG)}")
    return value


_TAGGED: Final[dict[str, type | tuple[type, ...]]] = {
    f"{_TAG}int": int,
    f"{_TAG}float": (int, float),
    f"{_TAG}bool": bool,
    f"{_TAG}null": type(None),
}
_LITERALS: Final[tuple[tuple[frozenset[str], Any], ...]] = ((_NULL, None), (_TRUE, True), (_FALSE, False))


def _plain(text: str) -> Any:
    for spellings, value in _LITERALS:
        if text in spellings:
            return value
    if text[:1] not in "+-.0123456789":
        return text
    if _INTEGER.fullmatch(text):
        return _integer(text.replace("_", ""))
    if _FLOAT.fullmatch(text):
        return float(text.replace("_", ""))
    if _NOT_JSON.fullmatch(text):
        raise _refused(f"{text} has no JSON form")
    return text


def _integer(text: str) -> int:
    digits = text.lstrip("+-")
    bases: tuple[tuple[str, int], ...] = (("0x", 16), ("0b", 2), ("0o", 8), ("0", 8))
    base = next((base for prefix, base in bases if digits.startswith(prefix) and digits != prefix), 10)
    return int(text.replace("0o", "0"), base)


def _refused(why: str) -> errors.BadRequest:
    return errors.BadRequest(f"error converting YAML to JSON: {why}")


_Dumper.add_representer(str, _text_node)
