"""Defaults and refusals of Sequences and Parallels (knative/eventing pkg/apis/flows/v1)."""

from __future__ import annotations

from ondol.api import objects
from ondol.api.objects import Object
from ondol.contracts import eventing
from ondol.eventing import destinations
from ondol.eventing.kinds import checks
from ondol.eventing.kinds.broker_rules import fill_delivery, fill_namespace
from ondol.eventing.kinds.channel_rules import fill_template
from ondol.eventing.kinds.checks import Causes
from ondol.eventing.kinds.writes import Configuration, Rules, Write


def rules(configuration: Configuration) -> dict[str, Rules]:
    """By group and resource."""
    return {
        eventing.SEQUENCE.group_resource: Rules(configuration, sequence, fill_sequence),
        eventing.PARALLEL.group_resource: Rules(configuration, parallel, fill_parallel),
    }


def fill_sequence(new: Object, configuration: Configuration) -> None:
    fill_template(new, configuration)
    namespace, spec = objects.namespace(new), new["spec"]
    for step in spec.get("steps") or ():
        fill_namespace(step, namespace)
        fill_delivery(step, namespace)
    fill_namespace(spec.get("reply"), namespace)


def fill_parallel(new: Object, configuration: Configuration) -> None:
    fill_template(new, configuration)
    namespace, spec = objects.namespace(new), new["spec"]
    for branch in spec.get("branches") or ():
        for field in ("filter", "subscriber", "reply"):
            fill_namespace(branch.get(field), namespace)
        fill_delivery(branch, namespace)
    fill_namespace(spec.get("reply"), namespace)


def sequence(write: Write) -> Causes:
    steps = write.spec.get("steps") or ()
    if not steps:
        yield checks.missing("spec.steps")
    for number, step in enumerate(steps):
        path = f"spec.steps[{number}]"
        yield from checks.destination(step, path, write.namespace, write.features)
        yield from checks.delivery(step.get("delivery"), f"{path}.delivery", write.namespace, write.features)
    yield from checks.channel_template(write.spec.get("channelTemplate"), "spec.channelTemplate")
    yield from _optional(write, write.spec.get("reply"), "spec.reply")


def parallel(write: Write) -> Causes:
    branches = write.spec.get("branches") or ()
    if not branches:
        yield checks.missing("spec.branches")
    for number, branch in enumerate(branches):
        path = f"spec.branches[{number}]"
        yield from _optional(write, branch.get("filter"), f"{path}.filter")
        subscriber = branch.get("subscriber")
        yield from checks.destination(subscriber, f"{path}.subscriber", write.namespace, write.features)
        yield from _optional(write, branch.get("reply"), f"{path}.reply")
        yield from checks.delivery(
            branch.get("delivery"), f"{path}.delivery", write.namespace, write.features
        )
    yield from checks.channel_template(write.spec.get("channelTemplate"), "spec.channelTemplate")
    yield from _optional(write, write.spec.get("reply"), "spec.reply")


def _optional(write: Write, destination: object, path: str) -> Causes:
    if isinstance(destination, dict) and not destinations.is_empty(destination):
        yield from checks.destination(destination, path, write.namespace, write.features)
