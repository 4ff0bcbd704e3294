"""Events in two spellings: kept as core Events, served as events.k8s.io too."""

from __future__ import annotations

from typing import Final

from ondol.api.objects import Object
from ondol.apiserver import documents

_CORE: Final = "v1"
_EVENTS: Final = "events.k8s.io/v1"
_NAMES: Final = {
    "involvedObject": "regarding",
    "reportingComponent": "reportingController",
    "message": "note",
    "source": "deprecatedSource",
    "firstTimestamp": "deprecatedFirstTimestamp",
    "lastTimestamp": "deprecatedLastTimestamp",
    "count": "deprecatedCount",
}
_BACK: Final = {new: old for old, new in _NAMES.items()}


class EventConversion:
    """Between events.k8s.io/v1 and the stored core/v1."""

    keeps_texts = True

    def as_served(self, value: bytes) -> bytes:
        document = documents.parse(value)
        renamed = {_NAMES.get(key, key): item for key, item in document.items()}
        return documents.dump({**renamed, "apiVersion": _EVENTS})

    def stored(self, obj: Object) -> Object:
        return {**{_BACK.get(key, key): value for key, value in obj.items()}, "apiVersion": _CORE}
