"""One delta ADS stream as a state machine: requests and snapshots in, responses and outcomes out.

At most one response of a type is in flight. An update walks CDS, EDS, LDS, RDS and waits for each
answer before the next type is sent, then takes away clusters that nothing refers to any more: so a
client never holds a route to a cluster it has not warmed (make before break). Endpoints alone do
not wait for the clusters' answer, for Envoy gives that only when they have warmed. A refused response
that held several resources is sent again one by one, so that each gets an answer of its own. A refused
resource is sent again when its version or an object that it is made of changes, when it returns after
another version stood in its place, and on `retry`.

Example: the client has cluster `a` and route table `80`, which leads to `a`. The next snapshot has cluster
`b` instead, and a table `80` that leads there. What is sent, each after the answer to the one before: CDS
adds `b`; EDS has the endpoints of `b`; RDS has table `80`; CDS removes `a`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from ondol.mesh.xds import types
from ondol.mesh.xds.types import Accepted, Outcome, Rejected, Request, Resource, Response, Snapshot

_WILDCARD = "*"
_BROKEN_LAST = (types.CLUSTER, types.ENDPOINTS, types.SECRET, types.EXTENSION)
"""Types taken away only when nothing that refers to them is left."""


@dataclass(slots=True)
class _Subscription:
    """What the client wants of one type, what it runs, and what it was sent last."""

    wildcard: bool = False
    names: set[str] = field(default_factory=set)
    running: dict[str, Resource | None] = field(default_factory=dict)
    """Names the client has; None where only a version from before this stream is known."""
    versions: dict[str, str] = field(default_factory=dict)
    refused: dict[str, Resource] = field(default_factory=dict)
    resend: set[str] = field(default_factory=set)
    reported_absent: set[str] = field(default_factory=set)
    suspects: deque[str] = field(default_factory=deque)
    in_flight: Response | None = None

    def includes(self, name: str) -> bool:
        return self.wildcard or name in self.names

    def forget(self, name: str) -> None:
        self.running.pop(name, None)
        self.versions.pop(name, None)

    def forgive(self, offered: types.Resources) -> None:
        """Keep refusals only of what is still offered as it was: what comes back is judged anew."""
        self.refused = {
            name: refused
            for name, refused in self.refused.items()
            if (resource := offered.get(name)) is not None and _is_same(refused, resource)
        }


class Stream:
    """State of one client's stream; `receive` and `publish` return what to send now."""

    def __init__(self, snapshot: Snapshot | None = None) -> None:
        self._snapshot = snapshot
        self._subscriptions: dict[str, _Subscription] = {}
        self._outcomes: list[Outcome] = []
        self._nonce = 0

    def receive(self, request: Request) -> list[Response]:
        """Take in one request; anything the protocol now calls for is returned in sending order."""
        subscription = self._subscriptions.get(request.type_url)
        if subscription is None:
            subscription = self._subscriptions[request.type_url] = _first(request)
        else:
            _change(subscription, request)
        self._answer(subscription, request)
        return self._advance()

    def publish(self, snapshot: Snapshot) -> list[Response]:
        """Serve this snapshot from now on."""
        self._snapshot = snapshot
        for type_url, subscription in self._subscriptions.items():
            subscription.forgive(snapshot.of(type_url))
        return self._advance()

    def retry(self, type_url: str) -> list[Response]:
        """Send what was refused once more: what it depends on outside may be there now."""
        if (subscription := self._subscriptions.get(type_url)) is not None:
            subscription.refused.clear()
        return self._advance()

    def outcomes(self) -> list[Outcome]:
        """What the client accepted or refused since the last call."""
        taken, self._outcomes = self._outcomes, []
        return taken

    @property
    def settled(self) -> bool:
        """Nothing is in flight: the client runs all of the snapshot that it wants and does not refuse."""
        return all(subscription.in_flight is None for subscription in self._subscriptions.values())

    def _answer(self, subscription: _Subscription, request: Request) -> None:
        sent = subscription.in_flight
        if sent is None or request.nonce != sent.nonce:
            return  # an answer to nothing we wait for changes nothing
        subscription.in_flight = None
        if not request.error:
            self._accept(subscription, sent)
        elif len(sent.resources) + len(sent.removed) > 1:
            subscription.suspects.extend(resource.name for resource in sent.resources)
            for name in sent.removed:
                subscription.forget(name)
        else:
            self._refuse(subscription, sent, request.error)

    def _accept(self, subscription: _Subscription, sent: Response) -> None:
        for resource in sent.resources:
            subscription.running[resource.name] = resource
            subscription.versions[resource.name] = resource.version
            subscription.refused.pop(resource.name, None)
        for name in sent.removed:
            subscription.forget(name)
        self._outcomes.append(Accepted(sent.type_url, sent.resources, sent.removed))

    def _rewarm(self, clusters: Iterable[str]) -> None:
        """An updated cluster warms anew and waits for its endpoints, though it does not ask for them."""
        endpoints = self._subscriptions.get(types.ENDPOINTS)
        if endpoints is not None:
            endpoints.resend.update(name for name in clusters if name in endpoints.names)

    def _refuse(self, subscription: _Subscription, sent: Response, message: str) -> None:
        for name in sent.removed:
            subscription.forget(name)
        for resource in sent.resources:
            subscription.refused[resource.name] = resource
            running = subscription.running.get(resource.name)
            self._outcomes.append(Rejected(sent.type_url, resource, message, running))

    def _advance(self) -> list[Response]:
        """The next steps of the walk: the earliest type with something to say, and no type after it."""
        responses: list[Response] = []
        for type_url in (*types.MAKE_ORDER, *self._other_types()):
            if type_url not in _BROKEN_LAST and self._waits_for(types.CLUSTER):
                return responses
            subscription = self._subscriptions.get(type_url)
            if subscription is None:
                continue
            if subscription.in_flight is None:
                responses += self._next(type_url, subscription, breaking=type_url not in _BROKEN_LAST)
            if subscription.in_flight is not None and type_url != types.CLUSTER:
                return responses
        for type_url in _BROKEN_LAST:
            if not responses and (subscription := self._subscriptions.get(type_url)) is not None:
                responses += self._next(type_url, subscription, breaking=True)
        return responses

    def _waits_for(self, type_url: str) -> bool:
        subscription = self._subscriptions.get(type_url)
        return subscription is not None and subscription.in_flight is not None

    def _other_types(self) -> list[str]:
        return [type_url for type_url in self._subscriptions if type_url not in types.MAKE_ORDER]

    def _recognise(self, type_url: str, subscription: _Subscription, offered: types.Resources) -> None:
        """What the client had before this stream and has in the same version, it runs."""
        unchanged = tuple(
            offered[name]
            for name, resource in subscription.running.items()
            if resource is None and name in offered and offered[name].version == subscription.versions[name]
        )
        if unchanged:
            subscription.running.update((resource.name, resource) for resource in unchanged)
            self._outcomes.append(Accepted(type_url, unchanged))

    def _next(self, type_url: str, subscription: _Subscription, *, breaking: bool) -> list[Response]:
        if self._snapshot is None:
            return []  # nothing is known yet: a client waits rather than hear that all is gone
        offered = self._snapshot.of(type_url)
        self._recognise(type_url, subscription, offered)
        changed = _suspect(subscription, offered) or _changed(subscription, offered)
        removed = _removed(subscription, offered, breaking=breaking)
        subscription.resend.difference_update(resource.name for resource in changed)
        if not changed and not removed:
            return []
        self._nonce += 1
        response = Response(type_url, str(self._nonce), changed, removed)
        subscription.in_flight = response
        if type_url == types.CLUSTER:
            self._rewarm(resource.name for resource in changed)
        subscription.reported_absent.update(name for name in removed if name in subscription.names)
        return [response]


def _first(request: Request) -> _Subscription:
    """The subscription that a stream's first request of a type makes."""
    subscription = _Subscription(versions=dict(request.initial_versions))
    subscription.running = dict.fromkeys(request.initial_versions)
    _change(subscription, request)
    if not request.subscribe and request.type_url in types.IMPLICIT_WILDCARD:
        subscription.wildcard = True
    if request.initial_versions:
        subscription.resend.difference_update(request.initial_versions)
    return subscription


def _change(subscription: _Subscription, request: Request) -> None:
    for name in request.unsubscribe:
        if name == _WILDCARD:
            subscription.wildcard = False
            continue
        subscription.names.discard(name)
        subscription.reported_absent.discard(name)
        subscription.refused.pop(name, None)
        if subscription.wildcard:
            subscription.resend.add(name)
        else:
            subscription.forget(name)
    for name in request.subscribe:
        if name == _WILDCARD:
            subscription.wildcard = True
            continue
        subscription.names.add(name)
        subscription.reported_absent.discard(name)
        subscription.resend.add(name)
    if request.unsubscribe and not subscription.wildcard:
        for name in set(subscription.running) - subscription.names:
            subscription.forget(name)


def _suspect(subscription: _Subscription, offered: types.Resources) -> tuple[Resource, ...]:
    """The next resource of a refused response, by itself; one that changed or went meanwhile is let go."""
    while subscription.suspects:
        resource = offered.get(subscription.suspects.popleft())
        if resource is not None and _is_due(subscription, resource):
            return (resource,)
    return ()


def _changed(subscription: _Subscription, offered: types.Resources) -> tuple[Resource, ...]:
    candidates: Iterable[Resource] = (
        offered.values()
        if subscription.wildcard
        else (offered[name] for name in sorted(subscription.names) if name in offered)
    )
    return tuple(resource for resource in candidates if _is_due(subscription, resource))


def _is_same(refused: Resource | None, resource: Resource) -> bool:
    """Whether it is what was refused: the same bytes, made of the same versions of the same objects.

    An object that is deleted and made again makes the same bytes, and is to hear of its own refusal.
    """
    return refused is not None and (refused.version, refused.origins) == (resource.version, resource.origins)


def _is_due(subscription: _Subscription, resource: Resource) -> bool:
    if _is_same(subscription.refused.get(resource.name), resource):
        return False
    if resource.name in subscription.resend:
        return True
    return subscription.versions.get(resource.name) != resource.version


def _removed(subscription: _Subscription, offered: types.Resources, *, breaking: bool) -> tuple[str, ...]:
    """Names the client asked for that do not exist and, when breaking, names it has that are gone."""
    named = {name for name in subscription.names if name not in offered and name not in subscription.running}
    absent = named - subscription.reported_absent
    absent |= {name for name in subscription.resend if subscription.wildcard and name not in offered}
    subscription.resend.difference_update(absent)
    deleted = {name for name in subscription.running if name not in offered and subscription.includes(name)}
    return tuple(sorted(absent | deleted if breaking else absent))
