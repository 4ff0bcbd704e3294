"""Refusals of EventTransforms (knative/eventing pkg/apis/eventing/v1alpha1).

Whether an expression is one says the data plane, in the status.
"""

from __future__ import annotations

from typing import Final

from ondol.api import objects
from ondol.contracts import eventing
from ondol.eventing.kinds import checks, source_rules
from ondol.eventing.kinds.checks import Causes
from ondol.eventing.kinds.writes import Configuration, Document, Rules, Write

_SUGGESTION: Final = (
    "Suggestion: create a new transformation, migrate services to the new one, and delete this "
    "transformation."
)


def rules(configuration: Configuration) -> dict[str, Rules]:
    """By group and resource."""
    return {
        eventing.EVENT_TRANSFORM.group_resource: Rules(configuration, event_transform, source_rules.fill_sink)
    }


def event_transform(write: Write) -> Causes:
    spec = write.spec
    if spec.get("jsonata") is None:
        yield checks.missing("spec.jsonata", "expected exactly one, got neither")
    sink = spec.get("sink")
    if sink is not None:
        yield from checks.destination(sink, "spec.sink", write.namespace, write.features)
        if sink.get("CACerts"):
            text = "CACerts for the sink is not supported for JSONata transformations"
            yield checks.generic("spec.sink.CACerts", text)
    if spec.get("reply") is not None:
        yield from _reply(spec)
    if write.old is not None:
        yield from _unchanged(objects.spec(write.old), spec)


def _reply(spec: Document) -> Causes:
    reply = spec["reply"]
    if spec.get("sink") is None:
        yield checks.generic("spec.reply", "reply is set without spec.sink")
    if reply.get("jsonata") is not None and reply.get("discard"):
        yield from checks.both("spec.reply.jsonata", "spec.reply.discard")


def _unchanged(old: Document, new: Document) -> Causes:
    """A transform stays of its type."""
    if (old.get("jsonata") is None) != (new.get("jsonata") is None):
        text = "Transformations types are immutable, jsonata transformation cannot be changed to a different"
        yield checks.generic("spec.jsonata", f"{text} transformation type. {_SUGGESTION}")
