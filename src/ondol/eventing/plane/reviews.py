"""Whom a bearer token proves: the API server is asked by a TokenReview, and its answer kept for a while."""

from __future__ import annotations

import contextlib
import hashlib
import math
from collections import OrderedDict
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Final

import anyio

from ondol.api import objects
from ondol.api.objects import Object, Resource
from ondol.base import errors
from ondol.base.clock import Clock
from ondol.client import Client
from ondol.eventing.tokens import claims

TOKEN_REVIEW: Final = Resource("authentication.k8s.io", "v1", "tokenreviews", "TokenReview", namespaced=False)
BELIEVED_S: Final = 120.0
"""How long a token is believed that was, at most: whose account is deleted may send for so long."""
DOUBTED_S: Final = 10.0
"""How long a token is refused that was, before it is looked at again."""
KEPT_MAX: Final = 4096
_TOKEN_BYTES_MAX: Final = 16 << 10
_AT_ONCE: Final = 16
_AT_ONCE_EACH: Final = 8
"""Of one audience: whoever shows it many bad tokens keeps no others waiting."""
_PATIENCE_S: Final = 5.0
_AGAIN_S: Final = 1


class _Memory:
    """What was answered, by token and audience, until a time of the monotonic clock."""

    def __init__(self) -> None:
        self._entries: OrderedDict[bytes, tuple[float, str]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, digest: bytes, now_s: float) -> str | None:
        entry = self._entries.get(digest)
        if entry is None:
            return None
        if entry[0] <= now_s:
            del self._entries[digest]
            return None
        self._entries.move_to_end(digest)
        return entry[1]

    def keep(self, digest: bytes, until_s: float, subject: str) -> None:
        self._entries[digest] = until_s, subject
        while len(self._entries) > KEPT_MAX:
            self._entries.popitem(last=False)


@dataclass(slots=True)
class _Turn:
    """Who asks about tokens for one audience."""

    users: int = 0
    limit: anyio.Semaphore = field(default_factory=lambda: anyio.Semaphore(_AT_ONCE_EACH))


@dataclass(slots=True)
class _Asking:
    """The API server is being asked about a token; `failure` is why it did not say."""

    over: anyio.Event = field(default_factory=anyio.Event)
    failure: str = ""


class Reviews:
    """One for a process. Tokens that are nobody's are remembered apart: many of them push out no others."""

    def __init__(self, client: Client, clock: Clock) -> None:
        self._client = client
        self._clock = clock
        self._believed, self._doubted = _Memory(), _Memory()
        self._asking: dict[bytes, _Asking] = {}
        self._limit = anyio.Semaphore(_AT_ONCE)
        self._turns: dict[str, _Turn] = {}

    def __len__(self) -> int:
        return len(self._believed) + len(self._doubted)

    async def subject(self, token: str, audience: str) -> str:
        """The user whose token it is; empty if it is nobody's, or not for this audience.

        `Unavailable` if the API server does not say.
        """
        if not token or len(token) > _TOKEN_BYTES_MAX:
            return ""
        digest = hashlib.sha256(f"{audience}\0{token}".encode()).digest()
        while (subject := self._remembered(digest)) is None:
            if (asking := self._asking.get(digest)) is not None:
                await asking.over.wait()
                if asking.failure:  # else all who wait would ask in turn, each for the whole patience
                    raise _unsaid(asking.failure)
                continue
            asking = self._asking[digest] = _Asking()
            try:
                return await self._ask(digest, token, audience)
            except errors.Unavailable as error:
                asking.failure = error.message
                raise
            finally:
                del self._asking[digest]
                asking.over.set()
        return subject

    def _remembered(self, digest: bytes) -> str | None:
        now_s = self._clock.monotonic()
        subject = self._believed.get(digest, now_s)
        return subject if subject is not None else self._doubted.get(digest, now_s)

    @contextlib.asynccontextmanager
    async def _turn(self, audience: str) -> AsyncIterator[None]:
        turn = self._turns.setdefault(audience, _Turn())
        turn.users += 1
        try:
            async with turn.limit:
                yield
        finally:
            turn.users -= 1
            if not turn.users:
                del self._turns[audience]

    async def _ask(self, digest: bytes, token: str, audience: str) -> str:
        try:
            with self._clock.fail_after(_PATIENCE_S):
                async with self._turn(audience), self._limit:
                    review = await self._client.create(TOKEN_REVIEW, _review(token, audience))
        except (errors.ApiError, TimeoutError) as error:
            why = error.message if isinstance(error, errors.ApiError) else "it does not answer"
            raise _unsaid(f"the API server cannot be asked whose token it is: {why}") from error
        now_s, subject = self._clock.monotonic(), _subject(review, audience)
        if not subject:
            self._doubted.keep(digest, now_s + DOUBTED_S, "")
            return ""
        left_s = min(BELIEVED_S, expiry(token) - self._clock.now())
        if left_s > 0:
            self._believed.keep(digest, now_s + left_s, subject)
        return subject


def _unsaid(message: str) -> errors.Unavailable:
    return errors.Unavailable(message, retry_after_s=_AGAIN_S)


def _review(token: str, audience: str) -> Object:
    return {
        "apiVersion": TOKEN_REVIEW.api_version,
        "kind": TOKEN_REVIEW.kind,
        "spec": {"token": token, "audiences": [audience]},
    }


def _subject(review: Object, audience: str) -> str:
    status = objects.status(review)
    if status.get("authenticated") is not True or audience not in (status.get("audiences") or ()):
        return ""
    return str((status.get("user") or {}).get("username") or "")


def expiry(token: str) -> float:
    """When a JSON web token ends, by its own word (seconds since the epoch); never, if it does not say."""
    try:
        return float(claims(token)["exp"])
    except (ValueError, TypeError, KeyError, OverflowError):
        return math.inf
