"""Which objects a list or a watch is about, decided by their stored bytes as far as that goes.

Most objects of a large kind are ruled out without being parsed: what a selector pins must stand in the
bytes as it is written there, since all of them come from one encoder and no conversion changes labels or
rewrites text. Where a conversion adds text (defaults), fields rule nothing out. What is left has its labels
read, and is parsed whole only for a field selector.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from ondol.api import fields, labels
from ondol.apiserver import documents
from ondol.apiserver.exchange import Request
from ondol.apiserver.served import Served
from ondol.apiserver.state import State
from ondol.store import Record

_PINNED: Final = (labels.IN, labels.EQUALS, labels.DOUBLE_EQUALS)
_PRESENT: Final = (labels.EXISTS, labels.GREATER_THAN, labels.LESS_THAN)
_TEXT: Final = re.compile(r"(?!(true|false)\Z)[A-Za-z][^,]*")
"""Values of fields that are text as it stands in the object: no number, no truth value, nothing joined."""
_ALTERNATIVES_MAX: Final = 16
"""To look for each of more values in the bytes costs more than to read the labels."""
_TERMS_A_COST: Final = 10
_OF_KEY: Final = frozenset({"metadata.name", "metadata.namespace"})


@dataclass(frozen=True, slots=True)
class Selection:
    """Which objects of a kind a list or watch is about."""

    namespace: str
    label: labels.Selector
    field: fields.Selector

    @property
    def is_everything(self) -> bool:
        return self.label.is_everything and self.field.is_everything

    @property
    def reads_content(self) -> bool:
        """Whether more of an object must be read than where it lies and its metadata."""
        return any(term.field not in _OF_KEY for term in self.field.terms)

    @property
    def cost(self) -> int:
        """How many times the usual it costs to look at one object."""
        return 1 + (len(self.label.requirements) + len(self.field.terms)) // _TERMS_A_COST


def selection(request: Request, served: Served) -> Selection:
    """What the query selects; `BadRequest` for selectors that cannot be read."""
    query = request.query
    field = fields.parse_for(served.resource, query.get("fieldSelector") or "", served.schema.selectable)
    named = fields.Term("metadata.name", request.info.name)
    if named.value and named not in field.terms:  # the legacy watch path of one object
        field = fields.Selector((named, *field.terms))  # always: the right to it is that to this name
    return Selection(
        request.info.namespace if served.resource.namespaced else "",
        labels.parse(query.get("labelSelector") or ""),
        field,
    )


class Chooser:
    """Tells of each record of a kind whether a selection is about it."""

    def __init__(self, state: State, served: Served, chosen: Selection) -> None:
        self._served = served
        self._read = state.reader(served, state.store.count(served.bucket))
        self._label = chosen.label
        terms = chosen.field.terms
        self._key = fields.Selector(tuple(term for term in terms if term.field in _OF_KEY))
        self._field = fields.Selector(tuple(term for term in terms if term.field not in _OF_KEY))
        keeps_texts = served.conversion is None or served.conversion.keeps_texts
        self._needles = needles(self._label, self._field if keeps_texts else fields.everything())

    def __call__(self, record: Record) -> bool:
        value = record.value
        for alternatives in self._needles:
            if not any(needle in value for needle in alternatives):
                return False
        return self._has_key(record) and self._has_labels(record) and self._has_fields(record)

    def _has_key(self, record: Record) -> bool:
        if self._key.is_everything:
            return True
        namespace, _, name = record.name.rpartition("/")
        return self._key.matches(lambda field: name if field == "metadata.name" else namespace)

    def _has_labels(self, record: Record) -> bool:
        return self._label.is_everything or self._label.matches(documents.labels(record.value))

    def _has_fields(self, record: Record) -> bool:
        if self._field.is_everything:
            return True
        served = self._served
        return fields.matches(self._field, served.resource, self._read(record), served.schema.selectable)


def needles(label: labels.Selector, field: fields.Selector) -> list[tuple[bytes, ...]]:
    """What must stand in the bytes of every object that is selected: one of each of these.

    Nothing is lost by leaving some out: what they would rule out is found not to match.
    """
    pinned = [
        tuple(b"%b:%b" % (documents.dump(r.key), documents.dump(value)) for value in r.values)
        for r in label.requirements
        if r.operator in _PINNED and len(r.values) <= _ALTERNATIVES_MAX
    ]
    present = [(b"%b:" % documents.dump(r.key),) for r in label.requirements if r.operator in _PRESENT]
    texts = [
        (documents.dump(term.value),) for term in field.terms if term.equal and _TEXT.fullmatch(term.value)
    ]
    return [*pinned, *present, *texts]
