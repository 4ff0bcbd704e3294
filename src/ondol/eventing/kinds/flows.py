"""The definitions of Sequence and Parallel."""

from __future__ import annotations

from ondol.api.objects import Object
from ondol.contracts import eventing
from ondol.eventing.kinds import schema
from ondol.eventing.kinds.schema import array, described, record

_COLUMNS = (schema.URL, schema.AGE, *schema.READY)


def _part(name: str) -> Object:
    """What a status says of one of the objects a flow is made of."""
    return record({name: schema.object_reference(), "ready": record(schema.condition_fields())})


def _flow_status(properties: dict[str, Object]) -> Object:
    return schema.status({**schema.addressable(), **schema.policies(), "auth": schema.auth(), **properties})


def sequence() -> Object:
    step = record({**schema.destination_fields(), "delivery": schema.delivery()})
    spec = record(
        {
            "steps": described(array(step), "Who gets the events, each what the one before answered."),
            "channelTemplate": schema.channel_template(),
            "reply": schema.destination("Who gets what the last step answers."),
        }
    )
    status = _flow_status(
        {
            "channelStatuses": described(array(_part("channel")), "Its channels, in order."),
            "subscriptionStatuses": described(array(_part("subscription")), "Its subscriptions."),
        }
    )
    version = schema.version(
        eventing.SEQUENCE.version, "Steps that events go through one after another.", spec, status, _COLUMNS
    )
    return schema.definition(eventing.SEQUENCE, [version], category="flows", labels=schema.ADDRESSABLE)


def parallel() -> Object:
    branch = record(
        {
            "filter": schema.destination(
                "Who answers with the events that the branch gets; else it gets all."
            ),
            "subscriber": schema.destination("Who gets the branch's events."),
            "reply": schema.destination("Who gets what the subscriber answers."),
            "delivery": schema.delivery(),
        }
    )
    spec = record(
        {
            "branches": described(array(branch), "Each gets every event."),
            "channelTemplate": schema.channel_template(),
            "reply": schema.destination("Who gets the answers of branches without a reply."),
        }
    )
    branch_status = record(
        {
            "filterSubscriptionStatus": _part("subscription"),
            "filterChannelStatus": _part("channel"),
            "subscriberSubscriptionStatus": _part("subscription"),
        }
    )
    status = _flow_status(
        {
            "ingressChannelStatus": _part("channel"),
            "branchStatuses": described(array(branch_status), "What its branches are made of."),
        }
    )
    version = schema.version(
        eventing.PARALLEL.version, "Branches that each get every event.", spec, status, _COLUMNS
    )
    return schema.definition(eventing.PARALLEL, [version], category="flows", labels=schema.ADDRESSABLE)
