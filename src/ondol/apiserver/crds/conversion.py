"""Conversion by webhook: the objects of a definition in the versions that they are not stored in.

A `Converter` calls the webhook of one definition. A `Webhook` is how one version uses it: every record is
shown as that version before anything else looks at it, and what was shown once is kept for the next who asks.

    stored v1, asked for v2:  defaults of v1 -> webhook -> unknown fields of v2 dropped
    written as v2:            (all of a write, in v2) -> webhook -> unknown fields of v1 dropped -> stored
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, Protocol

import anyio
import anyio.lowlevel
import msgspec

from ondol.api.objects import Object
from ondol.apiserver import documents
from ondol.apiserver.webhooks import conversion_review
from ondol.apiserver.webhooks.calling import FAILED, Caller, CallFailed
from ondol.apiserver.webhooks.conversion_review import InvalidConversion
from ondol.base import errors, log
from ondol.store import Record

TIMEOUT_S: Final = 30.0
_OBJECTS_MAX: Final = 500
_CALL_BYTES_MAX: Final = 2 * 1024 * 1024
"""What is asked for in one call: the answer, which has a limit, may be larger."""
_AT_ONCE: Final = 32
_KEPT_BYTES_MAX: Final = 16 * 1024 * 1024

_log = log.get("apiserver.webhooks")


class _Version(msgspec.Struct, rename="camel"):
    api_version: str


_decode_version: Final = msgspec.json.Decoder(_Version).decode


class Schema(Protocol):
    """Of a version: what its defaults are, and which fields it has."""

    has_defaults: bool

    def default(self, obj: Object) -> None: ...

    def prune(self, document: Object) -> Object: ...


Schemas = Callable[[str], Schema]
"""The schema of an apiVersion of the definition; `KeyError` if it has none such."""


class Converter:
    """Calls the webhook of one definition; without a caller, every call fails."""

    def __init__(self, caller: Caller | None, webhook: Mapping[str, Any], new_uid: Callable[[], str]) -> None:
        self._caller = caller
        self._client = webhook.get("clientConfig") or {}
        self._accepted = tuple(webhook.get("conversionReviewVersions") or ())
        self._new_uid = new_uid

    async def convert(self, values: Sequence[bytes], desired: str) -> list[Object]:
        """Objects, of whichever versions but `desired`, as that; `Internal` if the webhook does not do it."""
        originals = [documents.parse(value) for value in values]
        try:
            spoken, uid = conversion_review.version(self._accepted), self._new_uid()
            body = await self._post(conversion_review.review(values, desired, uid, spoken))
            return conversion_review.converted(body, originals, desired, uid, spoken)
        except InvalidConversion as error:
            source = f"{originals[0]['apiVersion']}, Kind={originals[0]['kind']}"
            _log.warning("conversion_failed", source=source, desired=desired, error=str(error))
            raise errors.Internal(f"conversion webhook for {source} {error}") from error

    async def _post(self, document: Object) -> bytes:
        if self._caller is None:
            raise InvalidConversion("failed: this server calls no webhooks")
        try:
            return await self._caller.post(self._client, document, TIMEOUT_S)
        except CallFailed as error:
            raise InvalidConversion(f"failed: {str(error).removeprefix(f'{FAILED}: ')}") from error


class LocalConverter(Converter):
    """Converts by a function, where the author of a kind is in this process."""

    def __init__(self, function: Callable[[Object, str], Object]) -> None:
        super().__init__(None, {}, str)
        self._function = function

    async def convert(self, values: Sequence[bytes], desired: str) -> list[Object]:
        return [self._function(documents.parse(value), desired) for value in values]


class _Asking:
    """A conversion under way, for who needs it as well."""

    def __init__(self) -> None:
        self.done = anyio.Event()
        self.shown: dict[bytes, bytes] = {}
        self.failure = ""


class Webhook:
    """One version of a definition whose objects a webhook converts."""

    def __init__(self, converter: Converter, version: str, storage: str, schemas: Schemas) -> None:
        """`version` and `storage` are apiVersions: the one that is shown, and the one that is stored."""
        self._converter = converter
        self._version = version
        self._storage = storage
        self._schemas = schemas
        self._own = head(version)
        self._current = head(storage)
        self._kept: dict[bytes, bytes] = {}
        self._kept_bytes = 0
        self._asked: dict[bytes, _Asking] = {}

    # What is read

    async def records(self, records: Sequence[Record]) -> list[Record]:
        """Records as this version, whichever they are stored in; asked for all at once."""
        shown = await self._shown([record.value for record in records])
        return [Record(record.name, record.revision, shown[record.value]) for record in records]

    def labelled(self, records: Sequence[Record]) -> list[Record]:
        """Records that only say to be of this version, for who looks at nothing but their metadata."""
        return [Record(record.name, record.revision, renamed(record.value, self._own)) for record in records]

    async def _shown(self, values: Iterable[bytes]) -> dict[bytes, bytes]:
        """Each of some stored objects with what is shown for it."""
        shown: dict[bytes, bytes] = {}
        missing: list[bytes] = []
        for value in dict.fromkeys(values):
            ready = self._ready(value)
            if ready is None:
                missing.append(value)
            else:
                shown[value] = ready
        while missing:
            await self._ask([value for value in missing if value not in self._asked], shown)
            for asking in {id(a): a for v in missing if (a := self._asked.get(v)) is not None}.values():
                await asking.done.wait()
                if asking.failure:
                    raise errors.Internal(asking.failure)
                shown |= asking.shown
            missing = [value for value in missing if value not in shown]
        return shown

    def _ready(self, value: bytes) -> bytes | None:
        """What is shown where nobody has to be asked."""
        kept = self._kept.get(value)
        if kept is not None or not value.startswith(self._own):
            return kept
        schema = self._schemas(self._version)
        if not schema.has_defaults:
            return value
        filled = _defaulted(value, schema)
        self.keep(value, filled)
        return filled

    async def _ask(self, values: Sequence[bytes], shown: dict[bytes, bytes]) -> None:
        """Convert what nobody else is converting. Who is cancelled leaves it to the others."""
        for part in _calls(values):
            # Somebody may have begun while the part before was away.
            mine = [value for value in part if value not in self._asked and value not in shown]
            if not mine:
                continue
            asking = _Asking()
            self._asked |= dict.fromkeys(mine, asking)
            try:
                asking.shown = await self._converted(mine)
                shown |= asking.shown
            except errors.ApiError as error:
                asking.failure = error.message
                raise
            finally:
                for value in mine:
                    del self._asked[value]
                asking.done.set()

    async def _converted(self, values: Sequence[bytes]) -> dict[bytes, bytes]:
        sources = [self._filled(value) for value in values]
        converted = await self._converter.convert(sources, self._version)
        schema = self._schemas(self._version)
        shown: dict[bytes, bytes] = {}
        for number, (value, obj) in enumerate(zip(values, converted, strict=True)):
            if number % _AT_ONCE == 0:
                await anyio.lowlevel.checkpoint()  # others have their turn
            shown[value] = documents.encode(schema.prune(obj))
        for value, text in shown.items():
            self.keep(value, text)
        return shown

    def _filled(self, value: bytes) -> bytes:
        """With the defaults of the version in which it is stored."""
        version = _decode_version(value).api_version
        try:
            schema = self._schemas(version)
        except KeyError:
            message = f"request to convert CR from an invalid group/version: {version}"
            raise errors.Internal(message) from None
        return _defaulted(value, schema) if schema.has_defaults else value

    def keep(self, value: bytes, shown: bytes) -> None:
        """Remember how stored bytes are shown; the oldest go when there is no room."""
        size_bytes = len(value) + len(shown)
        if value in self._kept or size_bytes > _KEPT_BYTES_MAX // 4:
            return
        while self._kept and self._kept_bytes + size_bytes > _KEPT_BYTES_MAX:
            oldest = next(iter(self._kept))
            self._kept_bytes -= len(oldest) + len(self._kept.pop(oldest))
        self._kept[value] = shown
        self._kept_bytes += size_bytes

    # What is written

    async def stored(self, obj: Object) -> Object:
        """An object of this version as it is stored."""
        if self._version == self._storage:
            return obj
        (converted,) = await self._converter.convert([documents.encode(obj)], self._storage)
        return self._schemas(self._storage).prune(converted)

    async def read_again(self, stored: Object) -> Object:
        """What was just made of an object to be stored, as who reads it will see it."""
        if stored["apiVersion"] == self._version:
            return stored
        (converted,) = await self._converter.convert([self._filled(documents.encode(stored))], self._version)
        return self._schemas(self._version).prune(converted)

    async def shown(self, obj: Object) -> Object:
        """An object of any version as this one."""
        if obj["apiVersion"] == self._version:
            return obj
        (converted,) = await self._converter.convert([documents.encode(obj)], self._version)
        return self._schemas(self._version).prune(converted)

    def is_current(self, value: bytes) -> bool:
        """Whether bytes are of the version that is stored now."""
        return value.startswith(self._current)


class AsShown:
    """The conversion of records that a `Webhook` has shown already."""

    keeps_texts = False

    def __init__(self, version: str) -> None:
        self._head = head(version)

    def as_served(self, value: bytes) -> bytes:
        """The same; `Internal` for what is of another version, which would be shown as what it is not."""
        if not value.startswith(self._head):
            raise errors.Internal("Internal error occurred: an object was not converted")
        return value

    def stored(self, obj: Object) -> Object:
        """Nothing is stored without the webhook."""
        del obj
        raise errors.Internal("Internal error occurred: an object was not converted")


def head(version: str) -> bytes:
    """How stored bytes of an apiVersion begin: so it can be read, or exchanged, without parsing."""
    return b'{"apiVersion":' + msgspec.json.encode(version)


def renamed(value: bytes, own: bytes) -> bytes:
    """Stored bytes with another beginning."""
    if value.startswith(own):
        return value
    if not value.startswith(b'{"apiVersion":'):
        raise errors.Internal("a stored object does not begin with its apiVersion")
    return own + value[value.index(b",") :]


def _defaulted(value: bytes, schema: Schema) -> bytes:
    document = documents.parse(value)
    schema.default(document)
    return documents.dump(document)


def _calls(values: Sequence[bytes]) -> Iterator[list[bytes]]:
    """So many objects as one call may be about."""
    part: list[bytes] = []
    size_bytes = 0
    for value in values:
        if part and (len(part) == _OBJECTS_MAX or size_bytes + len(value) > _CALL_BYTES_MAX):
            yield part
            part, size_bytes = [], 0
        part.append(value)
        size_bytes += len(value)
    if part:
        yield part
