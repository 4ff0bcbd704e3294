"""The kinds as they are served: each with its place in the store, its schema and its strategy."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from ondol.api import kinds
from ondol.api.objects import Object, Resource
from ondol.api.tables.columns import Layout
from ondol.apiserver.lenses import Scale
from ondol.apiserver.schemas import Schema
from ondol.apiserver.strategy import Strategy
from ondol.apiserver.unsupported import Unsupported
from ondol.store import Record


class Conversion(Protocol):
    """Between one served version of a kind and the one its objects are stored in."""

    @property
    def keeps_texts(self) -> bool:
        """Whether every text of an object as it is shown stands in its stored bytes, too."""
        ...

    def as_served(self, value: bytes) -> bytes:
        """Stored bytes as the served version."""
        ...

    def stored(self, obj: Object) -> Object:
        """A document of the served version as it is stored."""
        ...


class RemoteConversion(Protocol):
    """The same where somebody outside has to be asked, who may take long and may fail (`Internal`).

    Whoever reads or writes such a kind has its records converted first, many at once, and works with those.
    """

    async def records(self, records: Sequence[Record]) -> list[Record]:
        """Records as the served version; what is that already stays as it is."""
        ...

    def labelled(self, records: Sequence[Record]) -> list[Record]:
        """Records that only say to be of the served version, for who looks at their metadata alone."""
        ...

    async def stored(self, obj: Object) -> Object:
        """A document of the served version as it is stored."""
        ...

    async def shown(self, obj: Object) -> Object:
        """A document of any other version as the served one."""
        ...

    async def read_again(self, stored: Object) -> Object:
        """A document as it is to be stored, as it will be read."""
        ...

    def keep(self, value: bytes, shown: bytes) -> None:
        """Remember how stored bytes are shown."""
        ...

    def is_current(self, value: bytes) -> bool:
        """Whether bytes are of the version that is stored now."""
        ...


@dataclass(frozen=True, slots=True)
class Served:
    """One kind at one path."""

    kind: kinds.Kind
    resource: Resource
    bucket: str
    schema: Schema
    strategy: Strategy
    layout: Layout
    """The columns of its tables."""
    scale: Scale | None = None
    """Where the kind keeps what the scale subresource shows."""
    conversion: Conversion | None = None
    """Between this version and the stored one; none where they are the same."""

    remote: RemoteConversion | None = None
    """What converts records before `conversion` sees them, if that cannot be done here."""
    terminating: bool = False
    """Whether the definition of a custom kind is being deleted: nothing new may be created."""
    deprecation: str = ""
    """What every request for the version is warned of; empty where it is in good standing."""
    unsupported: Unsupported | None = None
    """The fields of a built-in kind that nothing acts on."""
    form: object = None
    """Stands for what a custom kind's definition says: another object once it says something else."""

    async def shown(self, record: Record) -> Record:
        """A stored record, ready to be read as this version."""
        return record if self.remote is None else (await self.remote.records([record]))[0]

    def as_served(self, value: bytes) -> bytes:
        """Stored bytes as this version."""
        return value if self.conversion is None else self.conversion.as_served(value)

    def stored(self, obj: Object) -> Object:
        """An object of this version as it is stored."""
        return obj if self.conversion is None else self.conversion.stored(obj)

    def key(self, namespace: str, name: str) -> str:
        """Where an object of the kind lies in its bucket."""
        return f"{namespace}/{name}" if self.resource.namespaced else name

    def prefix(self, namespace: str) -> str:
        """What the keys of a namespace's objects begin with; nothing for all of them."""
        return f"{namespace}/" if namespace and self.resource.namespaced else ""


class Catalogue:
    """What is served now, by path."""

    def __init__(self, builtin: Iterable[Served] = ()) -> None:
        self.registry = kinds.Registry()
        self.version = 0
        """Grows whenever kinds come or go, for what is made from all of them."""
        self._served: dict[tuple[str, str, str], Served] = {}
        for served in builtin:
            self.add(served)

    def get(self, group: str, version: str, plural: str) -> Served | None:
        return self._served.get((group, version, plural))

    def of(self, resource: Resource) -> Served:
        """The kind a resource constant names; `KeyError` if it is not served."""
        return self._served[resource.group, resource.version, resource.plural]

    def add(self, served: Served) -> None:
        self.version += 1
        self.registry.add(served.kind)
        self._served[served.kind.group, served.kind.version, served.kind.plural] = served

    def remove(self, served: Served) -> None:
        self.version += 1
        self.registry.remove(served.kind)
        self._served.pop((served.kind.group, served.kind.version, served.kind.plural), None)

    def __iter__(self) -> Iterator[Served]:
        return iter(tuple(self._served.values()))
