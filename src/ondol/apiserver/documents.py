"""Documents as bytes and back: how objects are encoded in the store, and parsed views of records."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import msgspec

from ondol.api.objects import Object
from ondol.base import errors
from ondol.store import Record

_encode: Final = msgspec.json.Encoder().encode
_decode: Final = msgspec.json.Decoder(dict).decode
_skip: Final = msgspec.json.Decoder(msgspec.Raw).decode
_VIEWS_MAX: Final = 2048


def encode(document: Object, revision: int = 0) -> bytes:
    """The stored form: apiVersion and kind first, and the revision as the resourceVersion."""
    metadata = document.get("metadata") or {}
    if revision:
        metadata = {**metadata, "resourceVersion": str(revision)}
    ordered = {
        "apiVersion": document["apiVersion"],
        "kind": document["kind"],
        "metadata": metadata,
        **{k: v for k, v in document.items() if k not in ("apiVersion", "kind", "metadata")},
    }
    return _encode(ordered)


def dump(value: object) -> bytes:
    return _encode(value)


def parse(value: bytes) -> Object:
    document: Object = _decode(value)
    return document


def fresh(record: Record) -> Object:
    """A document of one's own, to be changed at will."""
    document: Object = _decode(record.value)
    return document


def looks_whole(value: bytes) -> bool:
    """Whether bytes of the store can be an object, told quickly: no page of zeros or of something else."""
    if value[:1] != b"{" or value[-1:] != b"}" or b"\0" in value:
        return False
    if value.isascii():
        return True
    try:
        value.decode()
    except UnicodeDecodeError:
        return False
    return True


def is_whole(value: bytes) -> bool:
    """Whether bytes of the store are an object: JSON from beginning to end."""
    try:
        _skip(value)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return False
    return looks_whole(value)


class Views:
    """Parsed documents of records, shared and read-only, kept while they are likely to be asked for."""

    def __init__(self) -> None:
        self._parsed: dict[tuple[int, object], Object] = {}

    def of(self, record: Record, form: object, shown: Callable[[bytes], bytes]) -> Object:
        """A record's document as `shown` shows its bytes; `form` tells one way of showing from another."""
        key = (record.revision, form)
        found = self._parsed.get(key)
        if found is None:
            if len(self._parsed) >= _VIEWS_MAX:
                for old in list(self._parsed)[: _VIEWS_MAX // 4]:
                    del self._parsed[old]
            try:
                found = self._parsed[key] = parse(shown(record.value))
            except msgspec.DecodeError as error:
                raise _damaged(record, error) from error
        return found


def _damaged(record: Record, error: msgspec.DecodeError) -> errors.Internal:
    return errors.Internal(
        f"the stored object {record.name} (row {record.revision}) is damaged: {error}; "
        "stop the platform and see ondol doctor"
    )
