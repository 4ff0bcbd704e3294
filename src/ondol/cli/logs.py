"""The `logs` command: what a container wrote, of a pod or of a workload's newest ready pod."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from typing import Annotated, Final

import anyio
import typer

from ondol import client as clients
from ondol.api import conditions, labels, objects, resources
from ondol.api.objects import Object
from ondol.base import errors
from ondol.cli import addressing, completion, connection, output, terminal
from ondol.cli.addressing import Target
from ondol.cli.connection import KubeconfigOption
from ondol.cli.output import DataDir, NamespaceOption
from ondol.contracts import serving

_SINCE: Final = re.compile(r"(?P<count>[1-9]\d{0,9})(?P<unit>[smhd]?)")
_UNITS_S: Final = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}


def logs(
    words: Annotated[
        list[str],
        typer.Argument(
            metavar="POD | KIND/NAME",
            help="A pod, or what has pods: `deploy/front`, `svc/front`, `ksvc/pay`.",
            autocompletion=completion.pods,
            show_default=False,
        ),
    ],
    container: Annotated[
        str, typer.Option("--container", "-c", help="Container; the only one if left out.")
    ] = "",
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on as lines come.")] = False,
    previous: Annotated[
        bool, typer.Option("--previous", "-p", help="Of the run before the last restart.")
    ] = False,
    tail: Annotated[int | None, typer.Option("--tail", help="Only the last lines.")] = None,
    since: Annotated[str, typer.Option("--since", help="Only what is newer: 30s, 5m, 2h.")] = "",
    timestamps: Annotated[bool, typer.Option("--timestamps", help="With the time of each line.")] = False,
    data_dir: DataDir = None,
    kubeconfig: KubeconfigOption = "",
    namespace: NamespaceOption = "",
) -> None:
    """Print what a container wrote."""

    async def run() -> None:
        since_s = _seconds(since) if since else None
        connected = connection.connect(data_dir, kubeconfig, namespace)
        async with aclosing(connected.client) as client:
            pod = await _pod_name(client, words, connected.namespace)
            async with client.log(
                connected.namespace,
                pod,
                container=container,
                follow=follow,
                previous=previous,
                tail_lines=tail,
                since_s=since_s,
                timestamps=timestamps,
            ) as chunks:
                async for chunk in chunks:
                    terminal.write_bytes(chunk)

    with output.explained():
        anyio.run(run)


def _seconds(text: str) -> int:
    """How many seconds `90`, `30s`, `5m`, `2h` or `1d` are."""
    parts = _SINCE.fullmatch(text)
    if parts is None:
        raise output.UsageError(f"--since {text}: write 30s, 5m or 2h")
    return int(parts["count"]) * _UNITS_S[parts["unit"]]


async def _pod_name(client: clients.Client, words: Sequence[str], namespace: str) -> str:
    """The pod that the words mean: named outright, or one of a workload's."""
    if len(words) == 1 and "/" not in words[0]:
        return words[0]
    pairs = addressing.pairs(words)
    if len(pairs) != 1 or not pairs[0][1]:
        raise output.UsageError("name one pod, or one KIND/NAME")
    [target] = await addressing.targets(client, words)
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
        raise output.UsageError(f"{target.resource.kind} {target.name} has no pods of its own")
    is_document = "matchLabels" in selector or "matchExpressions" in selector
    return str(labels.from_document(selector) if is_document else labels.from_map(selector))


def _preferred(pods: Sequence[Object]) -> Object:
    """The newest pod that is ready, or else the newest."""
    newest_first = sorted(pods, key=_created, reverse=True)
    return next((pod for pod in newest_first if conditions.is_true(pod, "Ready")), newest_first[0])


def _created(pod: Object) -> str:
    return str(objects.metadata(pod).get("creationTimestamp") or "")
