"""The way out: what is told of a sender, and how."""

from __future__ import annotations

from typing import Any, cast

import pytest

from ondol.eventing.cloudevents.event import new
from ondol.eventing.exchange import Target
from ondol.eventing.plane.outgoing import Outgoing
from ondol.eventing.plane.sending import HttpSender, Ways
from ondol.web.calling import Answer, Caller


class _Wire:
    """Notes requests, and how long each may take."""

    def __init__(self) -> None:
        self.request = b""
        self.timeout_s = 0.0

    async def call(self, _place: object, request: bytes, *, timeout_s: float, **_options: Any) -> Answer:
        self.request, self.timeout_s = request, timeout_s
        return Answer(202, [], b"")


async def _sent(**terms: Any) -> _Wire:
    wire = _Wire()
    sender = HttpSender(cast("Caller", wire), Ways())
    answer = await Outgoing(sender).send(new(id="1", source="/s", type="t"), Target("http://sink", **terms))
    assert answer.is_accepted
    return wire


@pytest.mark.parametrize(("namespace", "count"), [("shop", 1), ("", 0)])
async def test_the_receiver_is_told_the_namespace_of_a_source(namespace: str, count: int) -> None:
    """As Knative's adapters do; who has none says none."""
    request = (await _sent(namespace=namespace)).request
    assert request.count(b"\r\nkn-namespace: shop\r\n") == count
    assert request.count(b"kn-namespace") == count


async def test_an_event_is_sent_as_its_target_says() -> None:
    """In binary mode with the usual time for an answer, or otherwise."""
    usual = await _sent()
    assert b"\r\nce-id: 1\r\n" in usual.request
    assert usual.timeout_s > 0
    other = await _sent(is_structured=True, timeout_s=7.0)
    assert b"application/cloudevents+json" in other.request
    assert other.timeout_s == 7.0
