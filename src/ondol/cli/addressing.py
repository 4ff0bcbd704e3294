"""Objects as people address them on a command line: `pods,svc`, `pod web`, `deploy/front svc/front`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ondol import client as clients
from ondol.api import conditions, labels, objects, resources
from ondol.api.objects import Object, Resource
from ondol.base import errors
from ondol.cli import terminal
from ondol.cli.output import UsageError
from ondol.client import discovery
from ondol.contracts import serving


@dataclass(frozen=True, slots=True)
class Target:
    """One resource, and the name of one object of it; all of them if the name is empty."""

    resource: Resource
    name: str = ""


def pairs(words: Sequence[str]) -> list[tuple[str, str]]:
    """Kind words and names, as kubectl reads its arguments.

    `("pods,svc",)` is `[("pods", ""), ("svc", "")]`, `("pod", "a", "b")` is `[("pod", "a"), ("pod", "b")]`,
    `("deploy/a", "svc/b")` is `[("deploy", "a"), ("svc", "b")]`. Mixed forms are a `UsageError`.
    """
    if any("/" in word for word in words):
        return [_pair(word) for word in words]
    kinds = [kind for kind in words[0].split(",") if kind]
    if not kinds:
        raise UsageError("no kind is named")
    return [(kind, name) for kind in kinds for name in (words[1:] or ("",))]


def _pair(word: str) -> tuple[str, str]:
    kind, _, name = word.partition("/")
    if not kind or not name or "/" in name or "," in kind:
        raise UsageError(f"{word!r} is not KIND/NAME, as the other words are")
    return kind, name


async def targets(client: clients.Client, words: Sequence[str]) -> list[Target]:
    """What the words address on this server; `errors.NotFound` for a kind that it does not serve."""
    described = await client.describe()
    chosen: list[Target] = []
    for word, name in pairs(words):
        resources = discovery.named(described, word)
        if not resources:
            raise errors.NotFound(f'the server doesn\'t have a resource type "{word}"')
        if name and len(resources) > 1:
            raise UsageError(f"{word!r} names several kinds: give one of them with a name")
        chosen += [Target(resource, name) for resource in resources]
    return chosen


async def pod_name(client: clients.Client, words: Sequence[str], namespace: str) -> str:
    """The pod that the words mean: named outright, or one of a workload's."""
    if len(words) == 1 and "/" not in words[0]:
        return words[0]
    named = pairs(words)
    if len(named) != 1 or not named[0][1]:
        raise UsageError("name one pod, or one KIND/NAME")
    [target] = await targets(client, words)
    if target.resource.group_resource == resources.POD.group_resource:
        return target.name
    owner = await client.get(target.resource, target.name, namespace if target.resource.namespaced else "")
    selector = pod_selector(target, owner)
    pods = (await client.list(resources.POD, namespace, label_selector=selector)).items
    if not pods:
        raise errors.NotFound(f"{'/'.join(words)} has no pods now")
    chosen = objects.name(_preferred(pods))
    if len(pods) > 1:
        terminal.note(f"{'/'.join(words)} has {len(pods)} pods; this is {chosen}")
    return chosen


def pod_selector(target: Target, owner: Object) -> str:
    """The label selector of an object's pods; `UsageError` for what has none."""
    if target.resource.group == serving.GROUP:
        return f"{serving.GROUP}/{target.resource.kind.lower()}={target.name}"
    selector = objects.spec(owner).get("selector")
    if not isinstance(selector, Mapping) or not selector:
        raise UsageError(f"{target.resource.kind} {target.name} has no pods of its own")
    is_document = "matchLabels" in selector or "matchExpressions" in selector
    return str(labels.from_document(selector) if is_document else labels.from_map(selector))


def _preferred(pods: Sequence[Object]) -> Object:
    """The newest pod that is ready, or else the newest."""
    newest_first = sorted(pods, key=_created, reverse=True)
    return next((pod for pod in newest_first if conditions.is_true(pod, "Ready")), newest_first[0])


def _created(pod: Object) -> str:
    return str(objects.metadata(pod).get("creationTimestamp") or "")
