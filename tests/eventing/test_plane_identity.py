"""Who sends events, on a real journal and a real API server: tokens, policies, and what is sent along."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from tests.eventing.plane_rig import NAMESPACE, Received, Rig, eventually, rig, sinking, until

from ondol.api import objects, resources
from ondol.api.objects import Object
from ondol.contracts import eventing
from ondol.eventing.plane.reviews import TOKEN_REVIEW

BROKER = "eventing.knative.dev/broker/default/b"
OTHER = "other"
SHOP = f"system:serviceaccount:{OTHER}:shop"


async def _oidc(rigged: Rig, **flags: str) -> None:
    """The flag on, a broker that says so, and another namespace."""
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": OTHER}}
    await rigged.client.create(resources.NAMESPACE, namespace)
    await rigged.broker()
    await rigged.switch(authentication_oidc="enabled", **flags)

    async def has_audience() -> bool:
        status = objects.status(await rigged.client.get(eventing.BROKER, "b", NAMESPACE))
        return bool(status["address"].get("audience") == BROKER)

    await eventually(has_audience)


async def _policy(rigged: Rig, name: str, *subjects: str, **spec: Any) -> None:
    senders = [{"sub": subject} for subject in subjects]
    to = [{"ref": {"apiVersion": "eventing.knative.dev/v1", "kind": "Broker", "name": "b"}}]
    await rigged.create(eventing.EVENT_POLICY, name, {"from": senders, "to": to, **spec})
    await rigged.ready(eventing.EVENT_POLICY, name)


async def _answers(rigged: Rig, status: int, id_: str, token: str, **attributes: Any) -> None:
    """Soon this is what the sender hears: policies reach the data plane a moment later."""

    async def is_so() -> bool:
        return (await rigged.send(id_, token=token, **attributes)).status == status

    await eventually(is_so)


@pytest.mark.anyio
async def test_a_broker_takes_events_of_whom_policies_allow(tmp_path: Path) -> None:
    """Without a token, or with one for something else, nobody is let in; then policies say who may."""
    async with rig(tmp_path) as rigged:
        await _oidc(rigged)
        nobody = await rigged.send("1")
        assert (nobody.status, dict(nobody.headers)[b"www-authenticate"]) == (401, b"Bearer")
        assert (await rigged.send("1", token="no.such.token")).status == 401
        elsewhere = await rigged.token(NAMESPACE, "app", "eventing.knative.dev/broker/default/c")
        assert (await rigged.send("1", token=elsewhere)).status == 401
        own = await rigged.token(NAMESPACE, "app", BROKER)
        shop = await rigged.token(OTHER, "shop", BROKER)
        assert (await rigged.send("1", token=own)).status == 202
        assert (await rigged.send("2", token=shop)).status == 403
        await _policy(rigged, "orders", SHOP, filters=[{"cesql": "type LIKE 'order.%'"}])
        await _answers(rigged, 202, "3", shop, type="order.made")
        assert (await rigged.send("4", token=shop, type="user.made")).status == 403
        assert (await rigged.send("5", token=own)).status == 403
        await _policy(rigged, "users", SHOP, filters=[{"prefix": {"type": "user."}}])
        await _answers(rigged, 202, "6", shop, type="user.made")
        for name in ("orders", "users"):
            await rigged.client.delete(eventing.EVENT_POLICY, name, NAMESPACE)
        await _answers(rigged, 202, "7", own)
        await rigged.switch(default_authorization_mode="deny-all")
        await _answers(rigged, 403, "8", own)
        await rigged.switch(default_authorization_mode="allow-all")
        await _answers(rigged, 202, "9", shop)
        assert (await rigged.send("10")).status == 401
        await rigged.switch(authentication_oidc="disabled")
        await _answers(rigged, 202, "11", "")


async def _subject(rigged: Rig, received: Received, audience: str) -> str:
    """Who has sent it, by the word of the API server."""
    token = received.headers["authorization"].removeprefix("Bearer ")
    spec = {"token": token, "audiences": [audience]}
    document = {"apiVersion": TOKEN_REVIEW.api_version, "kind": TOKEN_REVIEW.kind, "spec": spec}
    status = objects.status(await rigged.client.create(TOKEN_REVIEW, document))
    return str(status["user"].get("username"))


@pytest.mark.anyio
async def test_whom_events_go_to_is_shown_a_token_of_its_own(tmp_path: Path) -> None:
    """A Trigger's subscriber one and its dead letter sink another; who asks for none is shown none.

    Who does not believe it at first is tried again: the flag may have reached one sooner than the other.
    """
    account = f"system:serviceaccount:{NAMESPACE}:t-oidc-eventing.knative.dev-trigger"
    async with rig(tmp_path) as rigged, sinking() as sink:
        statuses = {"/asks": 400, "/late": 401}
        sink.respond = lambda received: (statuses.pop(received.path, 200), {}, b"")
        await _oidc(rigged)
        dead = {"uri": sink.url("/dead"), "audience": "dead-audience"}
        spec: Mapping[str, Any] = {
            "subscriber": {"uri": sink.url("/asks"), "audience": "own-audience"},
            "delivery": {"deadLetterSink": dead},
        }
        await rigged.trigger("t", "", spec)
        await rigged.trigger("plain", sink.url("/plain"))
        retry = {"delivery": {"retry": 2, "backoffDelay": "PT0.1S"}}
        await rigged.trigger("late", sink.url("/late"), retry)
        token = await rigged.token(NAMESPACE, "app", BROKER)
        assert (await rigged.send("1", token=token)).status == 202
        await until(lambda: bool(sink.ids("/dead") and sink.ids("/plain")))
        await until(lambda: sink.ids("/late") == ["1", "1"])
        by_path = {each.path: each for each in sink.received}
        assert await _subject(rigged, by_path["/asks"], "own-audience") == account
        assert await _subject(rigged, by_path["/dead"], "dead-audience") == account
        assert "authorization" not in by_path["/plain"].headers


async def _letters(rigged: Rig) -> list[Object]:
    return (await rigged.client.list(eventing.DEAD_LETTER, NAMESPACE)).items


@pytest.mark.anyio
async def test_a_reply_comes_back_if_policies_let_the_trigger_send_it(tmp_path: Path) -> None:
    """Else it is kept as a dead letter, as it is in Knative where the broker answers 403."""
    async with rig(tmp_path) as rigged, sinking() as sink:
        reply = {"ce-specversion": "1.0", "ce-id": "r", "ce-source": "/sink", "ce-type": "reply"}
        sink.respond = lambda received: (200, reply if received.id == "1" else {}, b"")
        await _oidc(rigged)
        await _policy(rigged, "shop", SHOP)
        await rigged.trigger("t", sink.url())
        shop = await rigged.token(OTHER, "shop", BROKER)
        await _answers(rigged, 202, "1", shop)

        async def is_dead() -> bool:
            return bool(await _letters(rigged))

        await eventually(is_dead)
        [letter] = await _letters(rigged)
        assert objects.spec(letter)["reason"]["code"] == 403
        assert sink.ids() == ["1"]
