"""Tokens as which Triggers, Subscriptions and sources send events: asked of the API server, kept for a while.

A token is for one account and one audience. It is asked for anew some minutes before it ends; if that cannot
be done, the old one is used up. What is kept is bounded, and goes with its account.

Which account sends, and for which audience, is partly the word of users: of who writes the subscribers of a
channel, of who has the object that events go to. So there are tokens of Eventing's own accounts alone, and
none that the API server itself would take.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

import anyio

from ondol.api import objects, resources
from ondol.api.objects import Key, Object
from ondol.base import errors
from ondol.base.clock import Clock, parse_rfc3339
from ondol.client import Client

LIFETIME_S: Final = 3600
EARLY_S: Final = 300.0
"""A token is asked for anew so long before it ends."""
KEPT_MAX: Final = 4096
_AGAIN_S: Final = 1
_FRESH_S: Final = 10.0
REST_S: Final = 10.0
"""After one could not be had, the old one is used for so long before another is asked for."""
_PATIENCE_S: Final = 5.0


async def issue(client: Client, account: Key, audience: str) -> tuple[str, float]:
    """A new token of a service account for an audience, and until when it counts (in seconds of Unix).

    `Forbidden` if the audience is the API server's own, by the word of the token: its issuer is what a server
    asks for where nothing else is set. Whoever got it could do there what the account may.
    """
    request: dict[str, Any] = {
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "TokenRequest",
        "spec": {"audiences": [audience], "expirationSeconds": LIFETIME_S},
    }
    answer = await client.create(
        resources.SERVICE_ACCOUNT, request, account.namespace, name=account.name, subresource="token"
    )
    status = objects.status(answer)
    token = str(status["token"])
    if audience and claims(token).get("iss") == audience:
        raise errors.Forbidden(f"{audience} is the API server's audience, for which no token is sent")
    return token, parse_rfc3339(str(status["expirationTimestamp"]))


def claims(token: str) -> dict[str, Any]:
    """What a JSON web token says, which nobody has verified; nothing if it is none."""
    try:
        _, payload, _ = token.split(".")
        document = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    except (ValueError, binascii.Error, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}


@dataclass(slots=True)
class _Kept:
    """A token, and who is asking for the next one."""

    token: str = ""
    until: float = 0.0
    issued_s: float = 0.0
    rests_until_s: float = 0.0
    failure: str = ""
    """Why there is none, for those who wait for it too."""
    turn: anyio.Lock = field(default_factory=anyio.Lock)


class Tokens:
    """One for a process."""

    def __init__(self, client: Client, clock: Clock, is_own: Callable[[Key], bool]) -> None:
        """`is_own` says which accounts are Eventing's: of others there is no token."""
        self._client = client
        self._clock = clock
        self._is_own = is_own
        self._kept: OrderedDict[tuple[Key, str], _Kept] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    async def token(self, account: Key, audience: str) -> str:
        """A token that counts now; `Unavailable` if there is none to be had."""
        place = account, audience
        kept = self._kept.get(place)
        if kept is not None and self._is_good(kept):
            self._kept.move_to_end(place)
            return kept.token
        if kept is None:
            self._make_room()
            kept = self._kept[place] = _Kept()
        async with kept.turn:
            if kept.failure:
                raise errors.Unavailable(kept.failure, retry_after_s=_AGAIN_S)
            if not self._is_good(kept):
                await self._renew(kept, account, audience)
        return kept.token

    def _is_good(self, kept: _Kept) -> bool:
        """Whether it counts, and another is not due or cannot be had now."""
        now_s = self._clock.now()
        if now_s < kept.until - EARLY_S:
            return True
        return now_s < kept.until and self._clock.monotonic() < kept.rests_until_s

    async def _renew(self, kept: _Kept, account: Key, audience: str) -> None:
        try:
            if not self._is_own(account):
                raise errors.Forbidden("it is none of those that Eventing makes for senders")
            with self._clock.fail_after(_PATIENCE_S):
                kept.token, kept.until = await issue(self._client, account, audience)
            kept.issued_s = self._clock.monotonic()
        except (errors.ApiError, TimeoutError) as error:
            if self._clock.now() < kept.until and not isinstance(error, errors.NotFound):
                kept.rests_until_s = self._clock.monotonic() + REST_S
                return
            self._forget(account, audience)
            why = error.message if isinstance(error, errors.ApiError) else "the API server does not answer"
            kept.failure = f"no token of service account {account} for {audience}: {why}"
            raise errors.Unavailable(kept.failure, retry_after_s=_AGAIN_S) from error

    def doubt(self, account: Key, audience: str, token: str) -> bool:
        """Whether another token is worth a try, where this one was not believed.

        The account may have been made again meanwhile; who refuses even a new one is not asked for ever.
        """
        kept = self._kept.get((account, audience))
        if kept is None or kept.token != token:
            return True
        if self._clock.monotonic() - kept.issued_s < _FRESH_S:
            return False
        self._forget(account, audience)
        return True

    def _forget(self, account: Key, audience: str) -> None:
        self._kept.pop((account, audience), None)

    def changed(self, old: Object | None, new: Object | None) -> None:
        """For an informer of service accounts: those of an account that is gone, or another, go."""
        if old is None or (new is not None and objects.uid(old) == objects.uid(new)):
            return
        account = objects.key(old)
        for place in [place for place in self._kept if place[0] == account]:
            del self._kept[place]

    def _make_room(self) -> None:
        if len(self._kept) < KEPT_MAX:
            return
        now = self._clock.now()
        for place in [place for place, kept in self._kept.items() if kept.until <= now]:
            del self._kept[place]
        while len(self._kept) >= KEPT_MAX:
            self._kept.popitem(last=False)
