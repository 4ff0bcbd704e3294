"""The definition of EventPolicy."""

from __future__ import annotations

from ondol.api.objects import Object
from ondol.contracts import eventing
from ondol.eventing.kinds import schema
from ondol.eventing.kinds.schema import ANYTHING, STRING, array, described, record, strings


def event_policy() -> Object:
    requirement = record({**strings("key", "operator"), "values": array(STRING)})
    selector = record(
        {
            **strings("apiVersion", "kind"),
            "matchLabels": ANYTHING,
            "matchExpressions": array(requirement),
        }
    )
    target = record(
        {
            "ref": described(record(strings("apiVersion", "kind", "name")), "One object."),
            "selector": described(selector, "All objects of a kind with these labels."),
        }
    )
    sender = record(
        {
            "ref": described(
                record(strings("apiVersion", "kind", "name", "namespace")), "An object that sends events."
            ),
            "sub": described(STRING, "The subject of a token; a * at its end stands for anything."),
        }
    )
    spec = record(
        {
            "from": described(array(sender), "Who may send events."),
            "to": described(array(target), "To whom; without it to all of this namespace."),
            "filters": schema.filters(),
        }
    )
    subjects = described(array(STRING), "The subjects of tokens that `from` comes to.")
    version = schema.version(
        eventing.EVENT_POLICY.version,
        "Says who may send events to what (with authentication-oidc).",
        spec,
        schema.status({"from": subjects}),
        schema.READY,
    )
    return schema.definition(eventing.EVENT_POLICY, [version], category="eventing")
