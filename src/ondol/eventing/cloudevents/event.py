"""One event: its context attributes as canonical strings, and its data as bytes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

SPEC_VERSION: Final = "1.0"
FORMER_VERSION: Final = "0.3"
"""Taken too, and passed on as it came: an event is never lifted to another version."""
REQUIRED: Final = ("specversion", "id", "source", "type")
OPTIONAL: Final[tuple[str, ...]] = ("datacontenttype", "dataschema", "subject", "time")
FORMER_OPTIONAL: Final[tuple[str, ...]] = (
    "datacontenttype",
    "datacontentencoding",
    "schemaurl",
    "subject",
    "time",
)
CORE: Final = frozenset(REQUIRED + OPTIONAL)
"""The attributes that the specification itself defines; every other one is an extension."""
_NO_ATTRIBUTES: Final[Mapping[str, str]] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Event:
    """An event; whoever makes one of strange strings has `attributes.problem` look at them first.

    `data` is None where there is none; no bytes (`b""`) and none are the same over HTTP.
    """

    attributes: Mapping[str, str]
    data: bytes | None = None

    @property
    def id(self) -> str:
        return self.attributes["id"]

    @property
    def source(self) -> str:
        return self.attributes["source"]

    @property
    def type(self) -> str:
        return self.attributes["type"]

    @property
    def subject(self) -> str | None:
        return self.attributes.get("subject")

    @property
    def time(self) -> str | None:
        return self.attributes.get("time")

    @property
    def datacontenttype(self) -> str | None:
        return self.attributes.get("datacontenttype")

    @property
    def dataschema(self) -> str | None:
        return self.attributes.get("dataschema")

    @property
    def is_former(self) -> bool:
        """Whether this is an event of the version before."""
        return self.attributes["specversion"] == FORMER_VERSION

    @property
    def extensions(self) -> dict[str, str]:
        """The attributes that the specification does not define."""
        return {name: value for name, value in self.attributes.items() if name not in CORE}

    def with_attributes(self, attributes: Mapping[str, str] = _NO_ATTRIBUTES, /, **named: str) -> Event:
        """The same event with these attributes set, in place of those of the same name."""
        return Event({**self.attributes, **attributes, **named}, self.data)

    def without(self, *names: str) -> Event:
        """The same event without these attributes."""
        return Event({k: v for k, v in self.attributes.items() if k not in names}, self.data)


def new(
    *,
    id: str,
    source: str,
    type: str,
    data: bytes | None = None,
    **optional: str,
) -> Event:
    """An event of this version; `optional` are optional attributes and extensions."""
    return Event({"specversion": SPEC_VERSION, "id": id, "source": source, "type": type, **optional}, data)
