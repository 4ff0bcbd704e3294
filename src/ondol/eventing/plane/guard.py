"""Who may send events to what, where `authentication-oidc` is on: who it is, then what EventPolicies say.

What cannot be verified is refused, to be tried again: it is never let in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final, TypeAlias

from ondol.api import objects
from ondol.api.objects import Key, Object, Resource
from ondol.base import errors
from ondol.contracts import eventing
from ondol.eventing import exchange, policies
from ondol.eventing.cloudevents import http
from ondol.eventing.cloudevents.event import Event
from ondol.eventing.configuration.live import Live
from ondol.eventing.exchange import Handle, Incoming
from ondol.eventing.plane.answers import Answered, refusal
from ondol.eventing.plane.reviews import Reviews
from ondol.eventing.policies import Decision, applying
from ondol.eventing.policies.lister import Policies
from ondol.sdk import Manager

Allows: TypeAlias = Callable[[Event | None], bool]
"""Whether who sends a request may send this event; of a request without one, whether any."""
Headers: TypeAlias = Iterable[tuple[bytes, bytes]]

GUARDED: Final = (
    eventing.BROKER,
    eventing.IN_MEMORY_CHANNEL,
    eventing.REQUEST_REPLY,
    eventing.EVENT_TRANSFORM,
    eventing.JOB_SINK,
    eventing.INTEGRATION_SINK,
    eventing.KAFKA_SINK,
)
"""The kinds that take events at addresses with an audience."""
_BEARER: Final = b"bearer "
_BESIDE: Final = eventing.SENDER_HEADER.encode()
_CHALLENGE: Final = (b"www-authenticate", b"Bearer")
NO_TOKEN: Final = Answered(401, "a token is asked for: Authorization: Bearer <token>", (_CHALLENGE,))
FORBIDDEN: Final = Answered(403, "no EventPolicy allows this sender to send this event here")


def anybody(_event: Event | None) -> bool:
    """What holds while nobody is asked who it is."""
    return True


class Guard:
    """One for a process; it reads objects from caches, and asks the API server about tokens alone."""

    def __init__(self, manager: Manager, live: Live, reviews: Reviews) -> None:
        self._live = live
        self._reviews = reviews
        self._policies = Policies(manager)
        self._informers = {resource: manager.informer(resource) for resource in GUARDED}
        self._decisions: dict[tuple[Resource, Key], Decision] = {}
        live.on_change(self._decisions.clear)
        manager.informer(eventing.EVENT_POLICY).add_handler(lambda _old, _new: self._decisions.clear())
        for resource, informer in self._informers.items():
            informer.add_handler(self._forgetting(resource))

    def _forgetting(self, resource: Resource) -> Callable[[Object | None, Object | None], None]:
        def changed(old: Object | None, new: Object | None) -> None:
            self._decisions.pop((resource, objects.key(new or old or {})), None)

        return changed

    @property
    def is_on(self) -> bool:
        """Whether who sends events must say who it is."""
        return self._live.features.oidc

    async def admit(self, resource: Resource, key: Key, headers: Headers) -> Allows | Answered:
        """What who sends a request to the object may send, or why it may not send at all."""
        if not self.is_on:
            return anybody
        token = bearer(headers)
        if not token:
            return NO_TOKEN
        try:
            subject = await self._reviews.subject(token, applying.audience(resource, key))
        except errors.ApiError as error:
            return refusal(error)
        if not subject:
            message = f"the token is not valid, or not for {applying.audience(resource, key)}"
            return NO_TOKEN._replace(message=message)
        return lambda event: self.allows(resource, key, subject, event)

    def allows(self, resource: Resource, key: Key, subject: str, event: Event | None) -> bool:
        """Whether policies allow a subject that is known already."""
        if not self.is_on:
            return True
        decision = self._decisions.get((resource, key))
        if decision is None:
            obj = self._informers[resource].lister.get(key)
            if obj is None:
                return False
            about = self._policies.about(resource, obj)
            decision = policies.decision(about, key.namespace, self._live.features)
            self._decisions[resource, key] = decision
        return decision(subject, event)

    def protecting(
        self, handle: Handle, resource: Resource, key_of: Callable[[Incoming], Key | None]
    ) -> Handle:
        """The same handle, for those alone who may send to the object that a request is for."""

        async def serve(incoming: Incoming) -> exchange.Answer:
            key = key_of(incoming)
            if key is None or incoming.method == "OPTIONS":
                return await handle(incoming)
            allows = await self.admit(resource, key, incoming.headers)
            if isinstance(allows, Answered):
                return exchange.words(allows.status, allows.message, *allows.headers)
            if allows is not anybody and not all(map(allows, _events(incoming))):
                return exchange.words(FORBIDDEN.status, FORBIDDEN.message)
            return await handle(incoming)

        return serve


def _events(incoming: Incoming) -> list[Event] | list[None]:
    """The events that a request brings, so that each of them is judged."""
    return http.decode(incoming.headers, incoming.body, batches=True) if incoming.method == "POST" else [None]


def bearer(headers: Headers) -> str:
    """The token of a request; empty if it has none, or several.

    Proxies that look at `Authorization` themselves take it away; what comes through one has the other header.
    """
    listed = [(name.lower(), value) for name, value in headers]
    values = [value for name, value in listed if name == b"authorization"]
    values = values or [value for name, value in listed if name == _BESIDE]
    if len(values) != 1 or values[0][: len(_BEARER)].lower() != _BEARER:
        return ""
    return values[0][len(_BEARER) :].strip().decode("latin-1")
