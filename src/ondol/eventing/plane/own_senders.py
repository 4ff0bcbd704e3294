"""What the data plane itself sends to brokers, past their addresses: policies hold for it like for others."""

from __future__ import annotations

from ondol.api import objects
from ondol.api.objects import Key, Object
from ondol.base import errors
from ondol.contracts import eventing
from ondol.eventing import identities, policies
from ondol.eventing.cloudevents.event import Event
from ondol.eventing.plane.guard import Guard
from ondol.eventing.plane.routes import Route
from ondol.eventing.plane.serving import named_broker


class OwnSenders:
    """Who they are needs no token here: it stands in objects that the control plane writes."""

    def __init__(self, guard: Guard) -> None:
        self._guard = guard

    def may_return(self, route: Route, reply: Event) -> bool:
        """Whether a Trigger may send a reply back to its broker."""
        return self._may_send(Key(route.source.namespace, route.source.parent), route.service_account, reply)

    def may_request(self, request_reply: Object, event: Event) -> bool:
        """Whether a RequestReply may send a request to its broker."""
        name = identities.service_account_name(eventing.REQUEST_REPLY, request_reply)
        account = Key(objects.namespace(request_reply), name)
        return self._may_send(named_broker(request_reply), account, event)

    def _may_send(self, broker: Key, account: Key | None, event: Event) -> bool:
        if not self._guard.is_on:
            return True
        if account is None:
            message = "there is no account yet as which it may be sent to the broker"
            raise errors.Unavailable(message, retry_after_s=1)
        subject = policies.account_subject(account.namespace, account.name)
        return self._guard.allows(eventing.BROKER, broker, subject, event)
