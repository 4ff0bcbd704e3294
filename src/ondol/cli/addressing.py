"""Objects as people address them on a command line: `pods,svc`, `pod web`, `deploy/front svc/front`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ondol import client as clients
from ondol.api.objects import Resource
from ondol.base import errors
from ondol.cli.output import UsageError
from ondol.client import discovery


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
