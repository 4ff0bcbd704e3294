"""Tokens that are verified and tokens that are sent: how long they are kept, and how many."""

from __future__ import annotations

import base64
import json
from typing import Any, cast

import anyio
import pytest

from ondol.api.objects import Key, Object
from ondol.base import errors
from ondol.base.clock import ManualClock
from ondol.base.timestamps import rfc3339
from ondol.client import Client
from ondol.eventing import tokens
from ondol.eventing.exchange import Target
from ondol.eventing.plane import reviews
from ondol.eventing.plane.guard import bearer
from ondol.eventing.plane.reviews import Reviews
from ondol.eventing.plane.sending import HttpSender, Ways
from ondol.eventing.tokens import Tokens
from ondol.web.calling import Answer, Caller

AUDIENCE = "eventing.knative.dev/broker/n/b"
SUBJECT = "system:serviceaccount:n:a"
ISSUER = "https://kubernetes.default.svc"
ACCOUNT = Key("n", "a")


class Server:
    """An API server that is asked about tokens, and for them."""

    def __init__(self, clock: ManualClock) -> None:
        self._clock = clock
        self.asked = 0
        self.error: errors.ApiError | None = None
        self.audiences = [AUDIENCE]
        self.is_slow = False
        self.is_issuer = False

    def token(self) -> str:
        payload = base64.urlsafe_b64encode(json.dumps({"iss": ISSUER}).encode()).decode().rstrip("=")
        return f"token-{self.asked}.{payload}.x" if self.is_issuer else f"token-{self.asked}"

    async def create(self, _resource: object, document: Object, *_place: str, **_options: str) -> Object:
        self.asked += 1
        if self.is_slow:
            await self._clock.sleep(1000)
        if self.error is not None:
            raise self.error
        if document["kind"] == "TokenRequest":
            until = rfc3339(self._clock.now() + document["spec"]["expirationSeconds"])
            return {"status": {"token": self.token(), "expirationTimestamp": until}}
        is_good = document["spec"]["token"].startswith("good")
        status: Object = {
            "authenticated": is_good,
            "audiences": self.audiences,
            "user": {"username": SUBJECT},
        }
        return {"status": status if is_good else {"authenticated": False}}


def _reviews(clock: ManualClock) -> tuple[Server, Reviews]:
    server = Server(clock)
    return server, Reviews(cast("Client", server), clock)


def _tokens(clock: ManualClock) -> tuple[Server, Tokens]:
    server = Server(clock)
    return server, Tokens(cast("Client", server), clock, lambda account: account.name != "admin")


def _web_token(expiry: float) -> str:
    payload = base64.urlsafe_b64encode(json.dumps({"exp": expiry}).encode()).decode().rstrip("=")
    return f"good.{payload}.x"


@pytest.mark.anyio
async def test_the_api_server_is_asked_once_in_a_while() -> None:
    """Of a good token a few minutes at most, of a bad one some seconds, by all who show it at once."""
    clock = ManualClock()
    server, asking = _reviews(clock)
    async with anyio.create_task_group() as group:
        for _ in range(5):
            group.start_soon(asking.subject, "good", AUDIENCE)
    assert (await asking.subject("good", AUDIENCE), server.asked) == (SUBJECT, 1)
    assert (await asking.subject("bad", AUDIENCE), await asking.subject("bad", AUDIENCE)) == ("", "")
    assert server.asked == 2
    await clock.advance(reviews.DOUBTED_S)
    await asking.subject("bad", AUDIENCE)
    await asking.subject("good", AUDIENCE)
    assert server.asked == 3
    await clock.advance(reviews.BELIEVED_S)
    await asking.subject("good", AUDIENCE)
    assert server.asked == 4


@pytest.mark.anyio
async def test_a_token_is_believed_until_it_ends() -> None:
    """Then the API server is asked, and says so; one that has ended is not kept at all."""
    clock = ManualClock()
    server, asking = _reviews(clock)
    token = _web_token(clock.now() + 30)
    assert await asking.subject(token, AUDIENCE) == SUBJECT
    await clock.advance(29)
    await asking.subject(token, AUDIENCE)
    assert server.asked == 1
    await clock.advance(1)
    await asking.subject(token, AUDIENCE)
    await asking.subject(token, AUDIENCE)
    assert server.asked == 3


@pytest.mark.anyio
async def test_a_token_counts_for_its_audience_alone() -> None:
    """Also if the API server authenticates it, and does not say that it is for this one."""
    server, asking = _reviews(ManualClock())
    server.audiences = ["https://kubernetes.default.svc"]
    assert await asking.subject("good", AUDIENCE) == ""
    assert await asking.subject("", AUDIENCE) == ""
    assert await asking.subject("good" * 10_000, AUDIENCE) == ""
    assert server.asked == 1


@pytest.mark.anyio
@pytest.mark.parametrize(
    "error", [errors.Unavailable("away"), errors.Forbidden("no"), errors.TooManyRequests("x")]
)
async def test_what_cannot_be_verified_is_put_off(error: errors.ApiError) -> None:
    """Nobody is let in, nor refused for good: and what was verified before is still believed."""
    server, asking = _reviews(ManualClock())
    await asking.subject("good", AUDIENCE)
    server.error = error
    with pytest.raises(errors.Unavailable) as raised:
        await asking.subject("good2", AUDIENCE)
    assert raised.value.retry_after_s == 1
    assert await asking.subject("good", AUDIENCE) == SUBJECT
    server.error = None
    assert await asking.subject("good2", AUDIENCE) == SUBJECT


@pytest.mark.anyio
async def test_a_silent_api_server_is_not_waited_for_long() -> None:
    """Who asks is answered in seconds."""
    clock = ManualClock()
    server, asking = _reviews(clock)
    server.is_slow = True
    caught: list[errors.ApiError] = []

    async def ask() -> None:
        try:
            await asking.subject("good", AUDIENCE)
        except errors.Unavailable as error:
            caught.append(error)

    async with anyio.create_task_group() as group:
        for _ in range(3):  # with one token: they do not wait one after the other
            group.start_soon(ask)
        await anyio.wait_all_tasks_blocked()
        await clock.advance(6)
        await anyio.wait_all_tasks_blocked()
        assert (len(caught), server.asked) == (3, 1)
        group.cancel_scope.cancel()


@pytest.mark.anyio
async def test_many_bad_tokens_keep_nobody_else_waiting() -> None:
    """While the API server is asked about those of one audience, others are verified."""
    clock = ManualClock()
    server, asking = _reviews(clock)
    server.audiences = ["another"]
    server.is_slow = True
    async with anyio.create_task_group() as group:
        for number in range(100):
            group.start_soon(asking.subject, f"bad-{number}", AUDIENCE)
        await anyio.wait_all_tasks_blocked()
        server.is_slow = False
        assert await asking.subject("good", "another") == SUBJECT
        group.cancel_scope.cancel()


@pytest.mark.anyio
async def test_bad_tokens_push_out_no_good_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is remembered is bounded, the good apart from the bad."""
    monkeypatch.setattr(reviews, "KEPT_MAX", 3)
    server, asking = _reviews(ManualClock())
    await asking.subject("good", AUDIENCE)
    for number in range(10):
        await asking.subject(f"bad-{number}", AUDIENCE)
    assert len(asking) == 4
    await asking.subject("good", AUDIENCE)
    assert server.asked == 11


@pytest.mark.parametrize(
    ("headers", "token"),
    [
        ([(b"authorization", b"Bearer a.b.c")], "a.b.c"),
        ([(b"Authorization", b"bearer  x ")], "x"),
        ([(b"authorization", b"Basic x")], ""),
        ([(b"authorization", b"Bearer a"), (b"authorization", b"Bearer b")], ""),
        ([(b"X-Event-Authorization", b"Bearer c")], "c"),
        ([(b"x-event-authorization", b"Bearer c"), (b"authorization", b"Bearer a")], "a"),
        ([(b"x-event-authorization", b"Bearer c"), (b"authorization", b"Basic x")], ""),
        ([(b"x-event-authorization", b"Bearer c"), (b"x-event-authorization", b"Bearer d")], ""),
        ([], ""),
    ],
)
def test_a_request_has_one_token_or_none(headers: list[tuple[bytes, bytes]], token: str) -> None:
    """Of two, nobody knows which is meant; the header for proxies counts where there is no other."""
    assert bearer(headers) == token


@pytest.mark.anyio
async def test_a_token_is_renewed_before_it_ends() -> None:
    """And used up if another cannot be had; then nothing is sent with it."""
    clock = ManualClock()
    server, kept = _tokens(clock)
    first = await kept.token(ACCOUNT, AUDIENCE)
    await clock.advance(tokens.LIFETIME_S - tokens.EARLY_S - 1)
    assert await kept.token(ACCOUNT, AUDIENCE) == first
    await clock.advance(1)
    server.error = errors.Unavailable("away")
    assert await kept.token(ACCOUNT, AUDIENCE) == first
    server.error = None
    assert await kept.token(ACCOUNT, AUDIENCE) == first  # nobody waits for an API server each time
    await clock.advance(tokens.REST_S)
    second = await kept.token(ACCOUNT, AUDIENCE)
    assert second != first
    await clock.advance(tokens.LIFETIME_S)
    server.error = errors.Unavailable("away")
    with pytest.raises(errors.Unavailable):
        await kept.token(ACCOUNT, AUDIENCE)
    assert len(kept) == 0


@pytest.mark.anyio
async def test_tokens_go_with_their_accounts(monkeypatch: pytest.MonkeyPatch) -> None:
    """And the longest unused go when there are too many; those that have ended first."""
    monkeypatch.setattr(tokens, "KEPT_MAX", 3)
    clock = ManualClock()
    server, kept = _tokens(clock)
    for number in range(10):
        await kept.token(ACCOUNT, f"audience-{number}")
    assert len(kept) == 3
    await clock.advance(tokens.LIFETIME_S)
    await kept.token(Key("n", "other"), AUDIENCE)
    assert len(kept) == 1
    await kept.token(ACCOUNT, AUDIENCE)
    account: Object = {"metadata": {"namespace": "n", "name": "a", "uid": "1"}}
    kept.changed(account, {"metadata": {**account["metadata"], "labels": {"a": "b"}}})
    assert len(kept) == 2
    kept.changed(account, {"metadata": {**account["metadata"], "uid": "2"}})
    assert len(kept) == 1
    kept.changed({"metadata": {"namespace": "n", "name": "other", "uid": "1"}}, None)
    assert len(kept) == 0
    server.error = errors.NotFound("no such account")
    with pytest.raises(errors.Unavailable):
        await kept.token(ACCOUNT, AUDIENCE)
    assert len(kept) == 0


@pytest.mark.anyio
async def test_who_waits_for_a_token_that_cannot_be_had_waits_once() -> None:
    """A silent API server is asked by one of them; the next to come asks anew."""
    clock = ManualClock()
    server, kept = _tokens(clock)
    server.is_slow = True
    caught: list[errors.ApiError] = []

    async def ask() -> None:
        try:
            await kept.token(ACCOUNT, AUDIENCE)
        except errors.Unavailable as error:
            caught.append(error)

    async with anyio.create_task_group() as group:
        for _ in range(3):
            group.start_soon(ask)
        await anyio.wait_all_tasks_blocked()
        await clock.advance(6)
        await anyio.wait_all_tasks_blocked()
        assert (len(caught), server.asked) == (3, 1)
        group.cancel_scope.cancel()
    server.is_slow = False
    assert await kept.token(ACCOUNT, AUDIENCE) == "token-2"


class _Doubting:
    """A caller who reaches somebody that believes no token but one."""

    def __init__(self) -> None:
        self.believes = ""
        self.calls = 0

    async def call(self, _place: object, request: bytes, **_options: Any) -> Answer:
        self.calls += 1
        is_believed = f"authorization: Bearer {self.believes}\r\n".encode() in request
        return Answer(202 if is_believed else 401, [], b"")


@pytest.mark.anyio
async def test_a_token_that_is_not_believed_is_asked_for_anew_once() -> None:
    """An account that was made again has other tokens; who refuses them all is asked once."""
    clock = ManualClock()
    server, kept = _tokens(clock)
    caller = _Doubting()
    sender = HttpSender(cast("Caller", caller), Ways(), kept)
    target = Target("http://192.0.2.1/", "", AUDIENCE, ACCOUNT)
    await kept.token(ACCOUNT, AUDIENCE)
    await clock.advance(60)
    caller.believes = "token-2"
    assert (await sender.post(target, [], b"")).status == 202
    assert (caller.calls, server.asked) == (2, 2)
    caller.believes = "nothing"
    assert (await sender.post(target, [], b"")).status == 401
    assert (caller.calls, server.asked) == (3, 2)


@pytest.mark.anyio
async def test_there_is_no_token_of_an_account_that_is_not_for_sending() -> None:
    """Who may write a channel names its subscribers' accounts, and could name any of the namespace."""
    server, tokens = _tokens(ManualClock())
    with pytest.raises(errors.Unavailable, match="none of those that Eventing makes"):
        await tokens.token(Key("default", "admin"), AUDIENCE)
    assert (server.asked, len(tokens)) == (0, 0)


@pytest.mark.anyio
async def test_nobody_is_sent_a_token_for_the_api_server() -> None:
    """Who has the object that events go to states its audience, and would be the sender to the API."""
    server, tokens = _tokens(ManualClock())
    server.is_issuer = True
    with pytest.raises(errors.Unavailable, match="the API server's audience"):
        await tokens.token(Key("default", "app"), ISSUER)
    assert len(tokens) == 0
    assert await tokens.token(Key("default", "app"), AUDIENCE) == server.token()
