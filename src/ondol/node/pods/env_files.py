"""Variables from a file in a volume of the pod (`fileKeyRef`): which are asked for, and how they are read.

NAME='value'   # in single quotes, over several lines if need be; nothing in it is expanded
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from ondol.base import errors
from ondol.node import paths
from ondol.node.pods.model import Record, Spec
from ondol.node.value_sources import ConfigMissing

_SKIPPED: Final = re.compile(r"[ \t]*(?:#[^\n]*)?(?:\n|$)")
_ENTRY: Final = re.compile(
    r"[ \t]*(?P<name>[^=\n]*[^=\s])=(?P<value>'[^']*'|(?=[ \t]))(?P<rest>[^\n]*)(?:\n|$)"
)
_AFTER: Final = re.compile(r"[ \t]*(?:#.*)?")


_UNREADABLE: Final = "couldn't parse env file"


def references(container: Spec) -> list[tuple[str, str]]:
    """Volume and path of each file that the container's variables come from."""
    sources = [(each.get("valueFrom") or {}).get("fileKeyRef") for each in container.get("env") or ()]
    return list(dict.fromkeys((str(s["volumeName"]), str(s["path"])) for s in sources if s))


def read(record: Record, container: Spec) -> Mapping[tuple[str, str], str]:
    """The text of each; `ConfigMissing` in the kubelet's words. Blocks."""
    return {(volume, path): _read(record, volume, path) for volume, path in references(container)}


def _read(record: Record, volume: str, path: str) -> str:
    if not record.volume(volume).is_placed:
        raise ConfigMissing(f'cannot find the volume "{volume}" referenced by FileKeyRef')
    try:
        content = paths.read(Path(record.volume(volume).folder), path)
    except (OSError, errors.Invalid) as error:
        raise ConfigMissing(_UNREADABLE) from error
    if content is None:
        raise ConfigMissing(_UNREADABLE)
    return content.decode(errors="replace")


def value(text: str, key: str) -> str:
    """The first of this name, empty if there is none; `ConfigMissing` for a line before it that is none."""
    try:
        return next((value for name, value in _entries(text.replace("\r\n", "\n")) if name == key), "")
    except ValueError as error:
        raise ConfigMissing(_UNREADABLE) from error


def _entries(text: str) -> Iterator[tuple[str, str]]:
    """Names and values. A blank before the value makes it empty, as a shell would have it."""
    position = 0
    while position < len(text):
        if skipped := _SKIPPED.match(text, position):
            position = max(skipped.end(), position + 1)
            continue
        entry = _ENTRY.match(text, position)
        quoted = entry["value"] if entry else ""
        if entry is None or (quoted and not _AFTER.fullmatch(entry["rest"])):
            line = text.count("\n", 0, position) + 1
            raise ValueError(f"invalid environment variable format at line {line}")
        yield entry["name"], quoted[1:-1]
        position = entry.end()
