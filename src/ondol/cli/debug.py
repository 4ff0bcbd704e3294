"""The command `debug`: a container that is added to a pod to look at the others."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final

import anyio
import typer

from ondol.api import objects, resources
from ondol.api.objects import Object
from ondol.base import errors
from ondol.cli import completion, connection, output, speaking, terminal
from ondol.cli.connection import KubeconfigOption
from ondol.cli.output import DataDir, NamespaceOption
from ondol.cli.speaking import StdinOption, TtyOption
from ondol.client import PatchType

_POLL_S: Final = 0.2
_END_S: Final = 5.0
_HOPELESS: Final = frozenset({"CreateContainerConfigError", "ErrImageNeverPull", "InvalidImageName"})
_LETTERS: Final = "bcdfghjklmnpqrstvwxz2456789"


def debug(
    words: Annotated[
        list[str],
        typer.Argument(
            metavar="POD | KIND/NAME [-- COMMAND...]",
            help="A pod, or what has pods, and what is run; else what the image runs.",
            autocompletion=completion.pods,
            show_default=False,
        ),
    ],
    image: Annotated[str, typer.Option("--image", help="Image of the container that is added.")],
    container: Annotated[
        str, typer.Option("--container", "-c", help="Its name; one is made up if it is left out.")
    ] = "",
    target: Annotated[str, typer.Option("--target", help="Container whose processes it shall see.")] = "",
    env: Annotated[list[str] | None, typer.Option("--env", help="NAME=VALUE; may be given again.")] = None,
    image_pull_policy: Annotated[
        str, typer.Option("--image-pull-policy", help="Always, IfNotPresent or Never.")
    ] = "",
    stdin: StdinOption = False,
    tty: TtyOption = False,
    data_dir: DataDir = None,
    kubeconfig: KubeconfigOption = "",
    namespace: NamespaceOption = "",
) -> None:
    """Add a container to a pod that runs, to look at the others; it goes with the pod."""

    async def run() -> int:
        connected = connection.connect(data_dir, kubeconfig, namespace)
        name = container or f"debugger-{''.join(secrets.choice(_LETTERS) for _ in range(5))}"
        async with speaking.reached(connected, words[:1], name) as where:
            added = _container(name, image, words[1:], stdin=stdin, tty=tty)
            added |= {"targetContainerName": target} if target else {}
            added |= {"imagePullPolicy": image_pull_policy} if image_pull_policy else {}
            added |= {"env": [_variable(each) for each in env]} if env else {}
            await where.client.patch(
                resources.POD,
                where.pod,
                where.namespace,
                patch={"spec": {"ephemeralContainers": [added]}},
                patch_type=PatchType.STRATEGIC,
                subresource="ephemeralcontainers",
            )
            terminal.note(f"added container {name} to pod {where.pod}")
            return await _speak(where, tty=tty) if stdin else 0

    with output.explained():
        raise typer.Exit(anyio.run(run))


def _container(name: str, image: str, command: Sequence[str], *, stdin: bool, tty: bool) -> dict[str, Any]:
    added: dict[str, Any] = {"name": name, "image": image}
    added |= {"command": list(command)} if command else {}
    return {**added, **({"stdin": True} if stdin else {}), **({"tty": True} if tty else {})}


def _variable(text: str) -> Object:
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise output.UsageError(f"--env {text}: write NAME=VALUE")
    return {"name": name, "value": value}


async def _speak(where: speaking.Target, *, tty: bool) -> int:
    """Once it runs; if it has ended by then, what it wrote is printed instead."""
    state = await _begun(where)
    if "running" in state:
        await speaking.speak(where, "attach", (), stdin=True, tty=tty)
        return await _exit_code(where)
    async with where.client.log(where.namespace, where.pod, container=where.container) as chunks:
        async for chunk in chunks:
            terminal.write_bytes(chunk)
    return int(state["terminated"].get("exitCode") or 0)


async def _exit_code(where: speaking.Target) -> int:
    """Of the container, whose end is told a moment later; 0 for one that goes on without us."""
    with where.client.clock.move_on_after(_END_S):
        while "terminated" not in (state := _state(await _pod(where), where.container)):
            await where.client.clock.sleep(_POLL_S)
        return int(state["terminated"].get("exitCode") or 0)
    return 0


async def _begun(where: speaking.Target) -> Mapping[str, Any]:
    """Its state once it runs or has run; `HostError` for what never will."""
    while True:
        state = _state(await _pod(where), where.container)
        waiting = state.get("waiting") or {}
        if "running" in state or "terminated" in state:
            return state
        if waiting.get("reason") in _HOPELESS:
            raise errors.HostError(
                f"container {where.container}: {waiting.get('message') or waiting['reason']}"
            )
        await where.client.clock.sleep(_POLL_S)


async def _pod(where: speaking.Target) -> Object:
    return await where.client.get(resources.POD, where.pod, where.namespace)


def _state(pod: Object, container: str) -> Mapping[str, Any]:
    for each in objects.status(pod).get("ephemeralContainerStatuses") or ():
        if each["name"] == container:
            return dict(each.get("state") or {})
    return {}
