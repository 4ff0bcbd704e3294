"""Who may send an event to what: the decision that the data plane makes where tokens are asked for. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, TypeAlias

from ondol.api import objects
from ondol.eventing import filters
from ondol.eventing.cloudevents.event import Event
from ondol.eventing.configuration import Features
from ondol.eventing.configuration.features import ALLOW_ALL, DENY_ALL
from ondol.eventing.policies import applying

Document: TypeAlias = Mapping[str, Any]
Decision: TypeAlias = Callable[[str, Event | None], bool]
"""Whether a subject may send an event; without one, whether it may send any that passes the filters."""

_ACCOUNT: Final = "system:serviceaccount"


def decision(policies: Iterable[Document], namespace: str, features: Features) -> Decision:
    """Whether a subject may send an event to an object of this namespace, as a function of both.

    `policies` are those about the object: the ready ones count. Without any the default mode does.
    """
    listed = list(policies)
    if not listed:
        return lambda subject, _: _by_default(subject, namespace, features)
    compiled = [_compiled(policy) for policy in listed if applying.is_ready(policy)]
    return lambda subject, event: any(each(subject, event) for each in compiled)


def allows(
    policies: Iterable[Document], subject: str, event: Event, *, namespace: str, features: Features
) -> bool:
    """Whether this subject may send this event; who asks often compiles a `decision` once."""
    return decision(policies, namespace, features)(subject, event)


def _by_default(subject: str, namespace: str, features: Features) -> bool:
    if features.default_authorization == DENY_ALL:
        return False
    if features.default_authorization == ALLOW_ALL:
        return True
    return subject.startswith(f"{_ACCOUNT}:{namespace}:")


def _compiled(policy: Document) -> Decision:
    subjects = [str(subject) for subject in objects.status(policy).get("from") or ()]
    passes = filters.predicate(objects.spec(policy).get("filters"))
    return lambda subject, event: (
        any(_is_meant(subject, each) for each in subjects) and (event is None or passes(event))
    )


def _is_meant(subject: str, pattern: str) -> bool:
    """A pattern is a subject, or what subjects begin with and a `*`."""
    if pattern.endswith("*") and subject.startswith(pattern[:-1]):
        return True
    return subject.lower() == pattern.lower()


def account_subject(namespace: str, name: str) -> str:
    """The subject of a service account's tokens."""
    return f"{_ACCOUNT}:{namespace}:{name}"
