"""The status of a source, from what is observed. Pure.

Conditions, reasons and messages: knative/eventing pkg/apis/sources/v1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

from ondol.api import objects
from ondol.api.objects import Key, Object, Resource
from ondol.contracts import eventing
from ondol.eventing import verdicts
from ondol.eventing.destinations import NOWHERE, Address, Unresolved
from ondol.eventing.exchange import Target
from ondol.eventing.identities import DISABLED, Identity
from ondol.eventing.sources import wellknown
from ondol.eventing.verdicts import Verdict

Document: TypeAlias = Mapping[str, Any]

FIELDS: Final = ("sinkUri", "sinkCACerts", "sinkAudience", "ceAttributes", "auth")
CONDITIONS: Final = (wellknown.SINK_PROVIDED, wellknown.OIDC_IDENTITY_CREATED)


@dataclass(frozen=True, slots=True)
class View:
    """What a source depends on; `verdicts` and `fields` are those of its kind alone."""

    sink: Address | Unresolved
    identity: Identity = DISABLED
    attributes: Sequence[Object] = ()
    verdicts: Mapping[str, Verdict] = field(default_factory=dict)
    fields: Document = field(default_factory=dict)


def source_status(resource: Resource, source: Document, view: View, *, now: float) -> Object:
    """The status of a source whose events the data plane sends."""
    own = {
        wellknown.SINK_PROVIDED: sink_verdict(view.sink),
        **view.verdicts,
        wellknown.OIDC_IDENTITY_CREATED: view.identity.verdict,
    }
    of_ready = (*own, *eventing.PLANE_CONDITIONS.get(resource, ()))
    address = NOWHERE if isinstance(view.sink, Unresolved) else view.sink
    return {
        "observedGeneration": objects.generation(source),
        **address.as_status("sink"),
        "ceAttributes": list(view.attributes) if address.url else None,
        "auth": auth(view.identity),
        **view.fields,
        "conditions": verdicts.with_ready(source, own, of_ready=of_ready, now=now),
    }


def sink_verdict(sink: Address | Unresolved, reason: str = "NotFound") -> Verdict:
    """The condition SinkProvided."""
    return verdicts.failed(reason, str(sink)) if isinstance(sink, Unresolved) else verdicts.OK


def auth(identity: Identity) -> Object | None:
    """`status.auth`."""
    return {"serviceAccountName": identity.service_account} if identity.service_account else None


def target(source: Document) -> Target | None:
    """Where a source's events go, as its status says; None while it has no sink."""
    status = objects.status(source)
    url = status.get("sinkUri")
    if not url:
        return None
    account = str((status.get("auth") or {}).get("serviceAccountName") or "")
    return Target(
        str(url),
        ca_certs=str(status.get("sinkCACerts") or ""),
        audience=str(status.get("sinkAudience") or ""),
        service_account=Key(objects.namespace(source), account) if account else None,
        namespace=objects.namespace(source),
    )
