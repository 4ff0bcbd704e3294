"""The commands `func build` and `func deploy`: an image without Docker or registry, and its Service."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from contextlib import aclosing
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Final

import anyio
import msgspec
import typer

from ondol.api import conditions, objects
from ondol.base import errors
from ondol.base.clock import SystemClock
from ondol.build.image import Built
from ondol.build.store import ImageStore
from ondol.cli import connection, func_logs, func_options, output, terminal
from ondol.cli.connection import KubeconfigOption
from ondol.cli.func_options import EnvOption, PathOption
from ondol.cli.output import DataDir, NamespaceOption
from ondol.client import Client
from ondol.compose import settings
from ondol.compose.functions import building
from ondol.compose.functions.folder import Folder
from ondol.compose.waiting import Deadline, Stopwatch
from ondol.contracts import eventing, serving
from ondol.serverless.functions import service, triggers
from ondol.serverless.functions.model import Deploy, Env

_FIELD_MANAGER: Final = "ondol-func"
_READY_S: Final = 120.0
_LINES_MAX: Final = 12
_FAILING_S: Final = 2.0
"""How long a Service must be failing: right after a change it still says what was before."""
_POLL_S: Final = 0.05


def build(path: PathOption = Path(), namespace: NamespaceOption = "", data_dir: DataDir = None) -> None:
    """Turn the function into an image, without Docker and without a registry."""
    with output.explained():
        folder = func_options.load(path)
        place = namespace or folder.function.namespace or folder.function.deploy.namespace
        built = _built(folder, data_dir, place)
        terminal.write(f"{built.reference}  {built.digest}")


def _built(folder: Folder, data_dir: Path | None, namespace: str) -> Built:
    store = ImageStore(settings.load(data_dir).data_dir / "images")
    built = building.build(folder, store, namespace, progress=terminal.note)
    for warning in built.warnings:
        terminal.note(f"warning: {warning}")
    reused = sum(layer.reused for layer in built.layers)
    terminal.note(f"built in {built.seconds:.2f} s; {reused} of {len(built.layers)} layers were there")
    return built


def deploy(
    path: PathOption = Path(),
    env: EnvOption = None,
    build_first: Annotated[
        bool, typer.Option("--build/--no-build", help="Build it, or deploy the image of last time.")
    ] = True,
    replace: Annotated[
        bool, typer.Option("--replace", help="Also where another function of that name is deployed.")
    ] = False,
    timeout_s: Annotated[float, typer.Option("--timeout", help="Seconds until it must be ready.")] = _READY_S,
    data_dir: DataDir = None,
    kubeconfig: KubeconfigOption = "",
    namespace: NamespaceOption = "",
) -> None:
    """Build the function and serve it on the platform; it is there from zero replicas on."""
    with output.explained():
        folder = _with_env(func_options.load(path), env)
        function = folder.function
        watch = Stopwatch()
        chosen = namespace or function.namespace or function.deploy.namespace
        connected = connection.connect(data_dir, kubeconfig, chosen)
        if build_first:
            image = _built(
                folder, connection.platform_of(data_dir, kubeconfig).data_dir, connected.namespace
            ).reference
        elif not (image := function.deploy.image):
            raise errors.HostError("there is no image of last time", remedy="ondol func deploy --build")
        url = anyio.run(partial(_deploy, folder, image, connected, replace=replace, timeout_s=timeout_s))
        record = msgspec.structs.replace(
            function.deploy, namespace=connected.namespace, image=image, deployer="knative"
        )
        folder.changed(deploy=record).save()
        terminal.note(f"ready after {watch.elapsed_s:.1f} s")
        terminal.write(url)


def _with_env(folder: Folder, words: list[str] | None) -> Folder:
    """The function with variables set or taken away, which its file keeps."""
    envs = list(folder.function.run.envs)
    for word in words or ():
        name, equals, value = word.partition("=")
        removes = not equals and word.endswith("-")
        if not equals and not removes:
            raise output.UsageError(f"--env {word}: write NAME=VALUE, or NAME- to take it away")
        name = name.removesuffix("-") if removes else name
        envs = [env for env in envs if env.name != name]
        if not removes:
            envs.append(Env(name=name, value=value))
    return folder.changed(run=msgspec.structs.replace(folder.function.run, envs=tuple(envs)))


async def _deploy(
    folder: Folder, image: str, connected: connection.Connection, *, replace: bool, timeout_s: float
) -> str:
    async with aclosing(connected.client) as client:
        return await serve(client, folder, image, connected.namespace, replace=replace, timeout_s=timeout_s)


async def serve(
    client: Client,
    folder: Folder,
    image: str,
    namespace: str,
    *,
    replace: bool = False,
    timeout_s: float = _READY_S,
) -> str:
    """Serve the image as the function, with its subscriptions; its URL, once it is ready."""
    function = folder.function
    await _check_owner(client, folder, namespace, replace=replace)
    document = service.document(function, image, namespace, os.environ)
    before = {objects.uid(pod) for pod in await func_logs.pods(client, function.name, namespace)}
    applied = await client.apply(serving.SERVICE, document, field_manager=_FIELD_MANAGER)
    ready = await _ready(client, applied, before, timeout_s)
    await _subscribe(client, folder, ready)
    return str(objects.status(ready).get("url") or "")


async def _check_owner(client: Client, folder: Folder, namespace: str, *, replace: bool) -> None:
    """`HostError` if the name is another's."""
    try:
        live = await client.get(serving.SERVICE, folder.function.name, namespace)
    except errors.NotFound:
        return
    reason = service.another(folder.function, live)
    if reason and not replace:
        raise errors.HostError(
            f"the Service {folder.function.name} in {namespace} {reason}",
            remedy="give this function another name in func.yaml, or take its place with --replace",
        )


async def _ready(
    client: Client, applied: objects.Object, before: Collection[str], timeout_s: float
) -> objects.Object:
    """The Service once it is ready; if it fails, what its new pods wrote is shown, which go with it."""
    name, namespace = objects.name(applied), objects.namespace(applied)
    output = bytearray()
    failure: errors.HostError | None = None
    live = applied
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(partial(func_logs.follow, client, name, namespace, output.extend, but=before))
        try:
            live = await _until_ready(client, applied, timeout_s)
        except errors.HostError as error:  # as it is, and not in a group of exceptions
            failure = error
        tasks.cancel_scope.cancel()
    if failure is not None:
        for line in output.decode(errors="replace").splitlines()[-_LINES_MAX:]:
            terminal.note(f"  {line}")
        raise failure
    return live


async def _until_ready(client: Client, applied: objects.Object, timeout_s: float) -> objects.Object:
    """What it waits for is said as that changes."""
    name, namespace, generation = (
        objects.name(applied),
        objects.namespace(applied),
        objects.generation(applied),
    )
    deadline = Deadline(timeout_s)
    reported, failing = "", Stopwatch()
    while True:
        live = await client.get(serving.SERVICE, name, namespace)
        is_current = objects.status(live).get("observedGeneration") == generation
        condition = conditions.get(live, "Ready") if is_current else None
        if condition is not None and condition.get("status") == "True":
            return live
        words = _words(condition)
        if condition is None or condition.get("status") != "False":
            failing = Stopwatch()
        if failing.elapsed_s > _FAILING_S:
            raise errors.HostError(
                f"{name} does not become ready: {words}", remedy="correct it and deploy it again"
            )
        if words != reported:
            terminal.note(f"waiting: {words}")
            reported = words
        if deadline.has_passed:
            raise errors.HostError(
                f"{name} was not ready after {timeout_s:g} s: {words}",
                remedy=f"ondol func logs --name {name} -n {namespace}",
            )
        await SystemClock().sleep(_POLL_S)


def _words(condition: Mapping[str, Any] | None) -> str:
    if condition is None:
        return "the platform takes it up"
    return " ".join(str(condition.get("message") or condition.get("reason") or "starting").split())


async def _subscribe(client: Client, folder: Folder, live: objects.Object) -> None:
    """Its Triggers as the file has them; those of earlier subscriptions go."""
    function, namespace = folder.function, objects.namespace(live)
    desired = triggers.documents(function, live)
    try:
        present = (await client.list(eventing.TRIGGER, namespace)).items
    except errors.NotFound as error:
        if not desired:
            return
        raise errors.HostError(
            f"{function.name} is deployed, but it has subscriptions and the cluster has no Triggers",
            remedy="install Knative Eventing, or remove deploy.subscriptions from func.yaml",
        ) from error
    for document in desired:
        await client.apply(eventing.TRIGGER, document, field_manager=_FIELD_MANAGER)
    for name in triggers.surplus(function, live, present):
        await client.delete(eventing.TRIGGER, name, namespace)


def undeployed(folder: Folder) -> Folder:
    """The function as it is once it is deployed nowhere."""
    record: Deploy = msgspec.structs.replace(folder.function.deploy, namespace="", image="", deployer="")
    return folder.changed(deploy=record)
