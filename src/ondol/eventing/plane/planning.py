"""What the data plane makes of objects: names of streams, routes of Triggers and subscribers. Pure."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final, TypeAlias

from ondol.api import objects
from ondol.api.objects import Key
from ondol.contracts import eventing
from ondol.eventing import filters
from ondol.eventing.delivery import policy
from ondol.eventing.delivery.trimming import History
from ondol.eventing.exchange import Target
from ondol.eventing.plane import records
from ondol.eventing.plane.routes import Route, Source

Document: TypeAlias = Mapping[str, Any]

_BROKER: Final = "B-"
_CHANNEL: Final = "C-"
_DEAD: Final = "D-"
PREFIXES: Final = (_BROKER, _CHANNEL, _DEAD)
"""How the names of streams begin that are the data plane's."""
REPLAY_PREFIX: Final = "replay-"
"""How the names of consumers begin that are no subscriber's."""
HISTORY_BYTES: Final = "eventing.ondol.dev/history-bytes"
HISTORY_SECONDS: Final = "eventing.ondol.dev/history-seconds"
"""Annotations of a Broker or channel: how much of what was delivered is kept for replays."""
BYTES_MAX: Final = "eventing.ondol.dev/journal-bytes-max"
"""Annotation of a Broker or channel: how much it may keep in all; beyond it no more is taken."""
DEAD_LETTERS_BYTES: Final = "eventing.ondol.dev/dead-letters-bytes"
"""Annotation of a Broker or channel: how much its dead letters may have; beyond it the oldest go."""
_DEAD_LETTERS_BYTES: Final = 256 << 20
_UNBOUNDED: Final = -1
_ORDERED: Final = "ordered"
_NO_TYPE: Final = "none"


def stream(kind: str, uid: str) -> str:
    """The stream of a Broker or a channel."""
    return f"{_BROKER if kind == eventing.BROKER.kind else _CHANNEL}{uid}"


def dead_stream(uid: str) -> str:
    """Where its dead letters are kept."""
    return f"{_DEAD}{uid}"


def is_dead(stream_name: str) -> bool:
    """Whether a stream keeps dead letters."""
    return stream_name.startswith(_DEAD)


def owner(stream_name: str) -> str:
    """The uid of the object that a stream belongs to; empty for one that is not ours."""
    return stream_name[2:] if stream_name.startswith(PREFIXES) else ""


def bytes_max(obj: Document) -> int:
    """What a stream of the object may keep; -1 where only the journal's own bound counts."""
    return _number(obj, BYTES_MAX, _UNBOUNDED)


def history(obj: Document) -> History:
    """How much is kept for replays."""
    default = History()
    return History(
        bytes_max=_number(obj, HISTORY_BYTES, default.bytes_max),
        age_max_s=float(_number(obj, HISTORY_SECONDS, round(default.age_max_s))),
    )


def dead_letters(obj: Document) -> History:
    """How much is kept of what could not be delivered: none is too old."""
    return History(bytes_max=_number(obj, DEAD_LETTERS_BYTES, _DEAD_LETTERS_BYTES), age_max_s=math.inf)


def _number(obj: Document, annotation: str, default: int) -> int:
    text = objects.annotations(obj).get(annotation, "")
    return int(text) if text.isascii() and text.isdigit() else default


def is_ordered(obj: Document) -> bool:
    annotations = objects.annotations(obj)
    return any(annotations.get(name) == _ORDERED for name in eventing.DELIVERY_ORDERS)


def of_trigger(trigger: Document, broker: Document) -> Route:
    """The route of a Trigger, by what control has resolved into the statuses."""
    spec, status = objects.spec(trigger), objects.status(trigger)
    listed, attributes = spec.get("filters"), (spec.get("filter") or {}).get("attributes")
    uid = objects.uid(broker)
    account = _account(status, objects.namespace(trigger))
    delivery = policy.effective(spec.get("delivery"), objects.spec(broker).get("delivery"))
    terms = policy.of(delivery)
    sent = _sent(account, objects.namespace(trigger), terms)
    return Route(
        stream=stream(eventing.BROKER.kind, uid),
        consumer=objects.uid(trigger),
        source=Source(
            eventing.TRIGGER.kind, objects.namespace(trigger), objects.name(trigger), objects.name(broker)
        ),
        predicate=filters.predicate(listed, attributes),
        topics=_topics(filters.exact_type(listed, attributes)),
        filter_text=json.dumps([listed, attributes], sort_keys=True),
        subscriber=_named(replace(sent, is_structured=terms.is_structured), status, "subscriber"),
        reply_stream=stream(eventing.BROKER.kind, uid),
        dead_letter_sink=_named(sent, status, "deadLetterSink"),
        dead_stream=dead_stream(uid),
        policy=terms,
        is_ordered=is_ordered(trigger),
        is_strict=True,
        service_account=account,
    )


def of_subscriber(channel: Document, entry: Document, subscription: Document | None) -> Route:
    """The route of one of a channel's `spec.subscribers`; annotations are those of its Subscription.

    A subscriber that only has a reply is sent the event itself.
    """
    uid = objects.uid(channel)
    delivery = entry.get("delivery") or {}
    sink = delivery.get("deadLetterSink") or {}
    account, terms = _account(entry, objects.namespace(channel)), policy.of(delivery)
    sent = _sent(account, objects.namespace(channel), terms)
    first = replace(sent, is_structured=terms.is_structured)
    name = str(entry.get("name") or objects.name(subscription or {}) or entry.get("uid") or "")
    return Route(
        stream=stream(eventing.IN_MEMORY_CHANNEL.kind, uid),
        consumer=str(entry.get("uid") or ""),
        source=Source(eventing.SUBSCRIPTION.kind, objects.namespace(channel), name, objects.name(channel)),
        predicate=filters.predicate(None),
        subscriber=_named(first, entry, "subscriber") or _named(first, entry, "reply"),
        reply=_named(sent, entry, "reply"),
        dead_letter_sink=_at(sent, sink.get("uri"), sink.get("CACerts"), sink.get("audience")),
        dead_stream=dead_stream(uid),
        policy=terms,
        is_ordered=is_ordered(subscription or {}),
    )


def _account(fields: Document, namespace: str) -> Key | None:
    """As whom events are sent, by the `auth` of a Trigger's status or of a channel's subscriber."""
    name = (fields.get("auth") or {}).get("serviceAccountName")
    return Key(namespace, str(name)) if name else None


def _sent(account: Key | None, namespace: str, terms: policy.Policy) -> Target:
    """How events of this namespace are sent, wherever that is to be."""
    return Target("", service_account=account, namespace=namespace, timeout_s=terms.timeout_s)


def _named(sent: Target, fields: Document, prefix: str) -> Target | None:
    """At the address that fields such as `subscriberUri`, `subscriberCACerts`, `subscriberAudience` say."""
    return _at(sent, *(fields.get(f"{prefix}{each}") for each in ("Uri", "CACerts", "Audience")))


def _at(sent: Target, url: object, ca_certs: object, audience: object) -> Target | None:
    """What is sent so, to this address; None if there is none."""
    if not url:
        return None
    return replace(sent, url=str(url), ca_certs=str(ca_certs or ""), audience=str(audience or ""))


def _topics(types: frozenset[str] | None) -> tuple[str, ...]:
    """The topics of exact types; one that no event has, where a filter contradicts itself."""
    if types is None:
        return ()
    return tuple(sorted(records.topic(each) for each in types)) or (_NO_TYPE,)
