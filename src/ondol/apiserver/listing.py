"""List: options, selectors, pages and the consistency a client asks for.

Nothing is parsed here: a page is the stored records, chosen by their bytes where there is a selector.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Final

import anyio
import msgspec

from ondol.apiserver.core import Core
from ondol.apiserver.exchange import Request
from ondol.apiserver.selecting import Chooser, Selection
from ondol.apiserver.served import Served
from ondol.base import errors
from ondol.store import Page, Record
from ondol.store.log import RevisionCompacted

_TOO_LARGE_WAIT_S: Final = 3.0
_INCONSISTENT: Final = -1
_DIGITS_MAX: Final = 18  # what fits the 64 bits a revision has everywhere else
_CONTINUE_EXPIRED: Final = (
    "The provided continue parameter is too old to display a consistent list result. You can start a new "
    "list without the continue parameter, or use the continue token in this response to retrieve the "
    "remainder of the results. Continuing with the provided token results in an inconsistent list - "
    "objects that were created, modified, or deleted between the time the first chunk was returned and "
    "now may show up in the list."
)


@dataclass(frozen=True, slots=True)
class Listing:
    """One page of a list."""

    records: Sequence[Record]
    revision: int
    continue_token: str = ""
    remaining: int | None = None

    def metadata(self) -> dict[str, Any]:
        """`ListMeta`."""
        metadata: dict[str, Any] = {"resourceVersion": str(self.revision)}
        if self.continue_token:
            metadata["continue"] = self.continue_token
            if self.remaining is not None:
                metadata["remainingItemCount"] = self.remaining
        return metadata


def revision_of(text: str) -> int:
    """A resourceVersion as a number; `BadRequest` if it is none."""
    if not text:
        return 0
    if not (text.isascii() and text.isdigit() and len(text) <= _DIGITS_MAX):
        raise errors.BadRequest(f'resourceVersion: Invalid value: "{text[:40]}": must be a decimal number')
    return int(text)


async def reached(core: Core, revision: int) -> None:
    """Wait a moment for a revision the client already knows; `Timeout` if it does not come."""
    if revision <= core.store.revision:
        return
    async with anyio.create_task_group() as group:

        async def give_up() -> None:
            await core.clock.sleep(_TOO_LARGE_WAIT_S)
            group.cancel_scope.cancel()

        group.start_soon(give_up)
        await core.store.reached(revision)
        group.cancel_scope.cancel()
    if revision > core.store.revision:
        raise errors.Timeout(
            f"Too large resource version: {revision}, current: {core.store.revision}",
            causes=[errors.Cause("ResourceVersionTooLarge", "Too large resource version")],
            retry_after_s=1,
        )


async def listing(core: Core, request: Request, served: Served, chosen: Selection) -> Listing:
    """The page a list request asks for."""
    query = request.query
    limit = max(request.number("limit") or 0, 0)
    match, version = query.get("resourceVersionMatch") or "", query.get("resourceVersion") or ""
    token = query.get("continue") or ""
    _check(match, version, token, query)
    pages = _Pages(core, request, served, chosen, limit)
    if token:
        return await _continued(pages, served.prefix(chosen.namespace), token)
    revision = revision_of(version)
    if revision:
        await reached(core, revision)
    exact = match == "Exact" or (not match and limit > 0 and revision > 0)
    return await pages.page(after="", revision=revision if exact else None)


def _check(match: str, version: str, token: str, query: dict[str, str]) -> None:
    """Refuse combinations with no meaning, as metainternalversion's validation does."""
    if query.get("sendInitialEvents"):
        raise _forbidden("sendInitialEvents", "sendInitialEvents is forbidden for list")
    if not match:
        if token and version not in ("", "0"):
            raise errors.BadRequest("specifying resource version is not allowed when using continue")
        return
    if token:
        raise _forbidden("resourceVersionMatch", "resourceVersionMatch is forbidden for continue")
    if not version:
        raise _forbidden(
            "resourceVersionMatch", "resourceVersionMatch is forbidden unless resourceVersion is provided"
        )
    if match not in ("Exact", "NotOlderThan"):
        raise errors.Invalid(
            f'ListOptions.meta.k8s.io "" is invalid: resourceVersionMatch: Unsupported value: "{match}": '
            'supported values: "Exact", "NotOlderThan", ""'
        )
    if match == "Exact" and version == "0":
        raise _forbidden(
            "resourceVersionMatch", 'resourceVersionMatch "exact" is forbidden for resourceVersion "0"'
        )


def _forbidden(field: str, message: str) -> errors.Invalid:
    cause = errors.Cause("FieldValueForbidden", f"Forbidden: {message}", field)
    return errors.Invalid(
        f'ListOptions.meta.k8s.io "" is invalid: {field}: {cause.message}',
        causes=[cause],
        details={"group": "meta.k8s.io", "kind": "ListOptions"},
    )


class _Pages:
    """The pages of one request's list."""

    def __init__(self, core: Core, request: Request, served: Served, chosen: Selection, limit: int) -> None:
        self._core = core
        self._user = request.user.tenant
        self._served = served
        self._chosen = chosen
        self._limit = limit

    async def page(self, *, after: str, revision: int | None) -> Listing:
        """The page behind a name, at a revision if one is asked for."""
        prefix = self._served.prefix(self._chosen.namespace)
        if self._chosen.is_everything:
            page = self._records(prefix, after=after, limit=self._limit, revision=revision)
            token = _token(page.revision, page.records[-1].name) if page.remaining else ""
            return Listing(page.records, page.revision, token, page.remaining or None)
        page = self._records(self._pinned() or prefix, after=after, limit=0, revision=revision)
        records = await self._selected(page.records)
        if self._limit and len(records) > self._limit:
            records = records[: self._limit]
            return Listing(records, page.revision, _token(page.revision, records[-1].name))
        return Listing(records, page.revision)

    def _records(self, prefix: str, *, after: str, limit: int, revision: int | None) -> Page:
        return self._core.store.page(self._served.bucket, prefix, after=after, limit=limit, revision=revision)

    def _pinned(self) -> str:
        """The place of the one object that can be meant, if that is clear."""
        name = self._chosen.field.required_value("metadata.name")
        if not name or (self._served.resource.namespaced and not self._chosen.namespace):
            return ""
        return self._served.key(self._chosen.namespace, name)

    async def _selected(self, records: list[Record]) -> list[Record]:
        """Those that are selected, up to one more than is asked for, which tells that there are more."""
        chooser = Chooser(self._core.state, self._served, self._chosen)
        selected: list[Record] = []
        remote = self._served.remote if self._chosen.reads_content else None
        async with aclosing(self._core.turns.slices(self._user, records, self._chosen.cost)) as parts:
            async for part in parts:
                selected += filter(chooser, part if remote is None else await remote.records(part))
                if self._limit and len(selected) > self._limit:
                    break
        return selected


async def _continued(pages: _Pages, prefix: str, token: str) -> Listing:
    revision, after = _read_token(token)
    if not after.startswith(prefix):
        raise errors.BadRequest(f"continue key is not valid: invalid prefix: {after}")
    if revision == _INCONSISTENT:
        return await pages.page(after=after, revision=None)
    try:
        return await pages.page(after=after, revision=revision)
    except RevisionCompacted:
        raise ContinueExpired(_CONTINUE_EXPIRED, _token(_INCONSISTENT, after)) from None


class ContinueExpired(errors.Expired):
    """A page of a list that is forgotten; `token` goes on inconsistently."""

    def __init__(self, message: str, token: str) -> None:
        super().__init__(message)
        self.token = token


def _token(revision: int, name: str) -> str:
    document = {"v": "meta.k8s.io/v1", "rv": revision, "start": f"{name}\0"}
    return base64.urlsafe_b64encode(msgspec.json.encode(document)).rstrip(b"=").decode()


def _read_token(token: str) -> tuple[int, str]:
    try:
        raw = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))
        document = msgspec.json.decode(raw)
        if document["v"] != "meta.k8s.io/v1":
            raise errors.BadRequest(
                f"continue key is not valid: server does not recognize this version {document['v']!r}"
            )
        return int(document["rv"]), str(document["start"]).removesuffix("\0")
    except (binascii.Error, ValueError, KeyError, TypeError) as error:
        raise errors.BadRequest(f"continue key is not valid: {error}") from error
