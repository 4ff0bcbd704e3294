"""`Table`: the registrations of the built-in kinds, joined with the table of facts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from ondol.api import kinds
from ondol.api.objects import Object
from ondol.apiserver import schemas
from ondol.apiserver.admission.chain import Plugins
from ondol.apiserver.auth.bootstrap_policy import Grant
from ondol.apiserver.kinds.registration import Kind
from ondol.apiserver.lenses import Scale
from ondol.apiserver.schemas import BuiltinSchema
from ondol.apiserver.served import Served

_PLAIN: Final = Kind("", "")


class Table:
    """Registrations by group, kind and version; `ValueError` if two are of one."""

    def __init__(self, registrations: Iterable[Kind], facts: Iterable[kinds.Kind] | None = None) -> None:
        """`facts` are the kinds to serve; those of the table of facts if they are not given."""
        self._facts = tuple(facts) if facts is not None else None
        self._registrations: dict[tuple[str, str, str], Kind] = {}
        for registration in registrations:
            place = (registration.group, registration.kind, registration.version)
            if place in self._registrations:
                raise ValueError(f"{registration.kind} of {registration.group!r} is registered twice")
            self._registrations[place] = registration

    def __iter__(self) -> Iterator[Kind]:
        return iter(self._registrations.values())

    def of(self, group: str, kind: str, version: str = "") -> Kind:
        """The registration of a kind; one that says nothing if there is none."""
        own = self._registrations.get((group, kind, version))
        return own or self._registrations.get((group, kind, ""), _PLAIN)

    def _kinds(self) -> Iterable[kinds.Kind]:
        return kinds.builtin() if self._facts is None else self._facts

    def served(self) -> list[Served]:
        """The kinds, as they are served."""
        return [self._served(fact) for fact in self._kinds()]

    def _served(self, fact: kinds.Kind) -> Served:
        own = self.of(fact.group, fact.kind, fact.version)
        return Served(
            kind=fact,
            resource=fact.resource,
            bucket=own.bucket or fact.group_resource,
            schema=self._schema(fact),
            strategy=own.strategy,
            layout=own.layout,
            scale=(own.scale or Scale()) if fact.subresource("scale") else None,
            conversion=own.conversion,
            deprecation=own.deprecation,
            unsupported=own.unsupported,
        )

    def schemas(self) -> list[BuiltinSchema]:
        """The forms of the kinds, and of what is sent to their subresources."""
        forms = [self._schema(fact) for fact in self._kinds()]
        types = {form.type_name for form in forms}
        return [*forms, *(part for part in schemas.PARTS if part.type_name not in types)]

    def _schema(self, fact: kinds.Kind) -> BuiltinSchema:
        own = self.of(fact.group, fact.kind, fact.version)
        return BuiltinSchema(fact.type, own.default, own.rules)

    def plugins(self) -> Mapping[str, Plugins]:
        """Admission of single kinds, by the name of their type."""
        return {fact.type: self.of(fact.group, fact.kind, fact.version).plugins for fact in self._kinds()}

    def grants(self) -> list[Grant]:
        """What the default roles may do with the kinds, by their groups."""
        return [Grant(each.group, each.access) for each in self if each.access is not None]

    def unsupported(self, obj: Object) -> list[str]:
        """What the author of an object should know of fields that nothing acts on."""
        group, _, version = str(obj.get("apiVersion") or "").rpartition("/")
        unsupported = self.of(group, str(obj.get("kind") or ""), version).unsupported
        return unsupported.warnings(obj) if unsupported is not None else []
