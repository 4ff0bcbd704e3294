"""What all that take events have in common: an address, a dead letter sink, policies. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from ondol.api import objects
from ondol.api.objects import Object, Resource
from ondol.eventing.configuration import Features
from ondol.eventing.configuration.features import PERMISSIVE, STRICT
from ondol.eventing.destinations import NOWHERE, Address
from ondol.eventing.policies import applying
from ondol.eventing.verdicts import Resolution, Verdict

Document: TypeAlias = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What an object's status depends on besides the object."""

    features: Features
    policies: tuple[Document, ...] = ()
    """The EventPolicies that are about it."""
    now: float = 0.0


def fields(url: str, encrypted: str, resource: Resource, obj: Document, features: Features) -> Object:
    """`address` and `addresses` of an object that is reached at these URLs, plain and by TLS.

    Which of them stand there, and in which order, is Knative's for each value of `transport-encryption`.
    """
    audience = applying.audience(resource, objects.key(obj)) if features.oidc else ""
    plain = Address(url, audience=audience, name="http").as_addressable()
    secret = Address(encrypted, features.ca_certs, audience, "https").as_addressable()
    if features.transport == STRICT:
        return {"address": secret, "addresses": [secret]}
    if features.transport == PERMISSIVE:
        return {"address": plain, "addresses": [secret, plain]}
    return {"address": plain, "addresses": None}


def dead_letter_fields(resolution: Resolution) -> dict[str, str | None]:
    """The three fields of a status about the dead letter sink."""
    address = resolution if isinstance(resolution, Address) else NOWHERE
    return address.as_status("deadLetterSink")


def dead_letter_address(status: Document) -> Address | None:
    """The dead letter sink that a status has; None if it has none."""
    url = status.get("deadLetterSinkUri")
    if not url:
        return None
    return Address(
        str(url),
        str(status.get("deadLetterSinkCACerts") or ""),
        str(status.get("deadLetterSinkAudience") or ""),
    )


def dead_letter_sink(obj: Document) -> Mapping[str, Any] | None:
    """`spec.delivery.deadLetterSink`."""
    sink: Mapping[str, Any] | None = (objects.spec(obj).get("delivery") or {}).get("deadLetterSink")
    return sink or None


def policies_verdict(surroundings: Surroundings) -> Verdict:
    return applying.verdict(surroundings.policies, surroundings.features)


def policy_references(surroundings: Surroundings) -> list[Object] | None:
    return applying.references(surroundings.policies)
