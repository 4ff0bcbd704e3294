"""The HTTP side of WebhookSources, in the process `events`: a request is verified, and its event sent on."""

from __future__ import annotations

import base64
import binascii
import math
import random
from typing import Final

from ondol.api import objects, resources
from ondol.api.objects import Key, Object
from ondol.base import errors
from ondol.base.backoff import Backoff
from ondol.base.clock import Clock
from ondol.client import Client
from ondol.contracts import eventing
from ondol.eventing import exchange
from ondol.eventing.cloudevents.event import Event
from ondol.eventing.delivery import outcome
from ondol.eventing.exchange import Answer, Incoming, Sender, Target
from ondol.eventing.sources import adapters, status, webhooks
from ondol.sdk import Manager

BYTES_MAX: Final = 25 << 20
"""The largest body that GitHub sends."""
_ATTEMPTS: Final = 3
_BACKOFF: Final = Backoff(initial_s=0.05)
_LATER_S: Final = 10
"""When the provider may send again what the sink did not take."""
_LATER_MAX_S: Final = 3600.0
_SECRET_S: Final = 5.0
"""How long a secret that was read counts: strangers may send requests faster than it should be read."""


class WebhookSources:
    """Answers `POST /<namespace>/<name>`: 202 once the sink has the event, so that the caller hears of it.

    What the sink cannot take now is answered 503 with Retry-After, and 502 what it refuses: providers show
    both as failed deliveries, and can be told to send them again.
    """

    def __init__(self, manager: Manager, sender: Sender, rng: random.Random) -> None:
        self._client: Client = manager.client
        self._clock: Clock = manager.clock
        self._sender = sender
        self._rng = rng
        self._sources = manager.informer(eventing.WEBHOOK_SOURCE)
        self._secrets: dict[str, tuple[float, bytes]] = {}

    async def handle(self, incoming: Incoming) -> Answer:
        if incoming.method != "POST":
            return exchange.words(405, f"{incoming.method} is not served: POST", (b"allow", b"POST"))
        parts = incoming.path.rstrip("/").split("/")
        if len(parts) != 3:
            return exchange.words(400, "a WebhookSource's path is /<namespace>/<name>")
        source = self._sources.lister.get(Key(parts[1], parts[2]))
        if source is None or objects.is_deleting(source):
            return exchange.words(404, f"there is no WebhookSource {parts[1]}/{parts[2]}")
        webhooks.verify(source, incoming, await self._secret(source))
        target = status.target(source)
        if target is None:
            return exchange.words(503, "the sink has no address yet", (b"retry-after", b"%d" % _LATER_S))
        now = self._clock.now()
        event = webhooks.event(source, incoming, id=adapters.event_id(self._rng), now=now)
        if event is None:
            return exchange.words(202, "accepted: events of this type are not asked for")
        return await self._send(event, target)

    async def _secret(self, source: Object) -> bytes | None:
        """The secret of a source; None if it takes requests of anybody."""
        ref = (objects.spec(source).get("secretToken") or {}).get("secretKeyRef")
        if ref is None:
            if not objects.spec(source).get("allowUnsigned"):
                raise errors.Unauthorized("the source has no secret, and does not take requests without one")
            return None
        place = f"{objects.namespace(source)}/{ref['name']}/{ref['key']}"
        until, value = self._secrets.get(place, (0.0, b""))
        if self._clock.monotonic() >= until or not value:
            value = await self._read(objects.namespace(source), str(ref["name"]), str(ref["key"]))
            if not value:
                raise errors.Unavailable(f"Secret {place} is empty: requests cannot be verified")
            now_s = self._clock.monotonic()
            self._secrets = {each: kept for each, kept in self._secrets.items() if kept[0] > now_s}
            self._secrets[place] = (now_s + _SECRET_S, value)
        return value

    async def _read(self, namespace: str, name: str, key: str) -> bytes:
        try:
            secret = await self._client.get(resources.SECRET, name, namespace)
            return base64.b64decode((secret.get("data") or {})[key], validate=True)
        except (errors.NotFound, KeyError, binascii.Error) as error:
            message = f"Secret {namespace}/{name} has no key {key}: requests cannot be verified"
            raise errors.Unavailable(message, retry_after_s=10) from error

    async def _send(self, event: Event, target: Target) -> Answer:
        reason, asked_s = "", 0.0
        for attempt in range(_ATTEMPTS):
            if attempt:
                await self._clock.sleep(_BACKOFF.delay_s(attempt, self._rng))
            try:
                answer = await self._sender.send(event, target)
            except errors.ApiError as error:
                reason = f"it did not answer: {error.message}"
                continue
            if answer.is_accepted:
                return exchange.words(202, "accepted")
            reason = f"it answered {answer.status}"
            if not answer.is_retriable:
                return exchange.words(502, f"the sink did not take the event: {reason}")
            asked_s = outcome.retry_after_s(answer.status, answer.headers, self._clock.now()) or 0.0
        later = b"%d" % max(_LATER_S, math.ceil(min(asked_s, _LATER_MAX_S)))
        return exchange.words(503, f"the sink did not take the event: {reason}", (b"retry-after", later))


class Listening:
    """The feed of WebhookSources: they are served as soon as they are known."""

    async def serve(self, _source: Object, _target: Target, /) -> float | None:
        """Nothing is sent but what comes in."""
        return None

    def stop(self, key: Key) -> None:
        """Nothing is held."""
