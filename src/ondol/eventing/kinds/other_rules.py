"""Defaults and refusals of EventTypes, EventPolicies and RequestReplies (pkg/apis/eventing)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from ondol.api import labels, objects
from ondol.api.objects import Object
from ondol.base import errors
from ondol.contracts import eventing
from ondol.eventing import filters
from ondol.eventing.kinds import checks
from ondol.eventing.kinds.broker_rules import fill_namespace
from ondol.eventing.kinds.checks import Causes
from ondol.eventing.kinds.writes import Configuration, Document, Rules, Write
from ondol.eventing.types import documents

_REQUIRED_ATTRIBUTES: Final = ("type", "source", "specversion", "id")
_CORE_ATTRIBUTES: Final = ("", "id", "source", "specversion", "type")


class EventTypeRules(Rules):
    """Those of a kind whose versions differ."""

    def convert(self, obj: Document, api_version: str) -> Object:
        """The EventType as this version."""
        return documents.converted(obj, api_version)


def rules(configuration: Configuration) -> dict[str, Rules]:
    """By group and resource."""
    return {
        eventing.EVENT_TYPE.group_resource: EventTypeRules(configuration, event_type, fill_event_type),
        eventing.EVENT_POLICY.group_resource: Rules(configuration, event_policy, fill_event_policy),
        eventing.REQUEST_REPLY.group_resource: Rules(
            configuration, request_reply, fill_request_reply, advise_request_reply
        ),
    }


def advise_request_reply(write: Write) -> Iterator[str]:
    if write.spec.get("delivery"):
        yield "spec.delivery has no effect: replies are taken from the broker itself, by no Trigger"


def fill_event_type(new: Object, _configuration: Configuration) -> None:
    fill_namespace(new.setdefault("spec", {}), objects.namespace(new), "reference")


def event_type(write: Write) -> Causes:
    spec = write.spec
    if str(write.new.get("apiVersion") or "").endswith("/v1beta3"):
        names = {attribute.get("name") for attribute in spec.get("attributes") or ()}
        for name in _REQUIRED_ATTRIBUTES:
            if name not in names:
                yield checks.missing(f"spec.attributes.{name}")
        return
    if not spec.get("type"):
        yield checks.missing("spec.type")
    for field in ("source", "schema"):
        if spec.get(field) == "":
            yield checks.invalid(f"spec.{field}", "", f"{field} URI cannot be empty")


def fill_event_policy(new: Object, _configuration: Configuration) -> None:
    for sender in new.setdefault("spec", {}).get("from") or ():
        fill_namespace(sender, objects.namespace(new))


def event_policy(write: Write) -> Causes:
    if not write.features.oidc:
        yield checks.generic("", "oidc-authentication feature not enabled")
        return
    for number, sender in enumerate(write.spec.get("from") or ()):
        yield from _sender(sender, f"spec.from[{number}]")
    for number, target in enumerate(write.spec.get("to") or ()):
        yield from _target(target, f"spec.to[{number}]")
    yield from filters.problems(write.spec.get("filters"), "spec.filters")


def _sender(sender: Document, path: str) -> Causes:
    ref, subject = sender.get("ref"), sender.get("sub")
    if ref is None and not subject:
        yield from checks.neither(f"{path}.ref", f"{path}.sub")
    if ref is not None and subject is not None:
        yield from checks.both(f"{path}.ref", f"{path}.sub")
    if ref is not None:
        yield from _object(ref, f"{path}.ref")
    if subject and "*" in subject[:-1]:
        yield checks.invalid(f"{path}.sub", subject, "'*' is only allowed as suffix")


def _target(target: Document, path: str) -> Causes:
    ref, selector = target.get("ref"), target.get("selector")
    if ref is None and selector is None:
        yield from checks.neither(f"{path}.ref", f"{path}.selector")
    if ref is not None and selector is not None:
        yield from checks.both(f"{path}.ref", f"{path}.selector")
    if ref is not None:
        yield from _object(ref, f"{path}.ref")
    if selector is not None:
        try:
            labels.from_document(selector)
        except errors.BadRequest as error:
            yield checks.generic(f"{path}.selector", error.message)


def _object(ref: Document, path: str) -> Causes:
    for field in ("kind", "apiVersion", "name"):
        if not ref.get(field):
            yield checks.missing(f"{path}.{field}")


def fill_request_reply(new: Object, configuration: Configuration) -> None:
    """The attributes that correlate, how long is waited, and the label by which a broker's are found."""
    spec = new.setdefault("spec", {})
    if not spec.get("timeout"):
        spec["timeout"] = configuration.features.request_reply_timeout
    spec["correlationAttribute"] = spec.get("correlationAttribute") or "correlationid"
    spec["replyAttribute"] = spec.get("replyAttribute") or "replyid"
    name = (spec.get("brokerRef") or {}).get("name")
    if name:
        new["metadata"]["labels"] = {**objects.labels(new), eventing.BROKER_LABEL: name}


def request_reply(write: Write) -> Causes:
    spec = write.spec
    ref = spec.get("brokerRef") or {}
    yield from checks.reference(ref, "spec.brokerRef", write.namespace, write.features)
    if str(ref.get("kind") or "").lower() != "broker":
        yield checks.invalid("spec.brokerRef.kind", ref.get("kind"), "brokerRef kind must be Broker")
    if ref.get("namespace"):
        yield checks.disallowed("spec.brokerRef.namespace")
    yield from checks.delivery(spec.get("delivery"), "spec.delivery", write.namespace, write.features)
    yield from checks.duration(spec.get("timeout"), "spec.timeout", least_s=0, more_than_none=True)
    for field in ("correlationAttribute", "replyAttribute"):
        name = str(spec.get(field) or "")
        if name in _CORE_ATTRIBUTES:
            lower = field.lower()
            details = (
                f"{lower} must be non-empty and cannot be a core cloudevent attribute "
                "(id, type, specversion, source)"
            )
            yield checks.invalid(f"spec.{lower}", name, details)
