"""The commands `func config` and `func subscribe`: what a `func.yaml` says, looked at and changed."""

from __future__ import annotations

import posixpath
from pathlib import Path
from typing import Annotated, Final

import msgspec
import typer

from ondol.base import errors
from ondol.cli import func_options, output, terminal
from ondol.cli.func_options import PathOption
from ondol.compose.functions.folder import Folder
from ondol.serverless.functions import triggers, validation, values, wellknown
from ondol.serverless.functions.model import Claim, EmptyDir, Env, Git, Label, Volume

_APPLIED: Final = "it holds with the next ondol func deploy"
_ANSWERS: Final = (
    "warning: func.yaml does not say invoke: cloudevent; an answer that is neither an event nor empty "
    "is a failure to a broker, which sends its event again"
)

app = typer.Typer(no_args_is_help=True, add_completion=False, help="What func.yaml says.")
envs = typer.Typer(invoke_without_command=True, add_completion=False, help="Environment variables.")
labels = typer.Typer(invoke_without_command=True, add_completion=False, help="Labels.")
volumes = typer.Typer(invoke_without_command=True, add_completion=False, help="Volumes.")
git = typer.Typer(no_args_is_help=True, add_completion=False, help="The repository that the function is of.")
for word, group in (("envs", envs), ("labels", labels), ("volumes", volumes), ("git", git)):
    app.add_typer(group, name=word)


def _save(folder: Folder) -> None:
    """Write it, if what it says is right."""
    if problems := validation.problems(folder.function):
        raise errors.HostError(problems[0], remedy="give other values")
    folder.save()
    terminal.note(_APPLIED)


@envs.callback()
def list_envs(ctx: typer.Context, path: PathOption = Path()) -> None:
    """List the variables."""
    if ctx.invoked_subcommand is None:
        with output.explained():
            for env in func_options.look(path).function.run.envs:
                terminal.write(_spelled(env))


def _spelled(env: Env) -> str:
    value = env.value or ""
    if env.name is None:
        whole = values.whole(value)
        return f"all keys of {whole.kind} {whole.name}" if whole else value
    if (reference := values.keyed(value)) is not None:
        return f"{env.name}: key {reference.key} of {reference.kind} {reference.name}"
    if (name := values.local(value)) is not None:
        return f"{env.name}: what {name} is here"
    return f"{env.name}={value}"


@envs.command("add")
def add_env(
    value: Annotated[
        str, typer.Option("--value", help="Its value, or {{ env:X }}, {{ secret:S:K }}, {{ configMap:C:K }}.")
    ],
    name: Annotated[
        str, typer.Option("--name", help="Its name; none for all keys of a Secret or ConfigMap.")
    ] = "",
    path: PathOption = Path(),
) -> None:
    """Set a variable."""
    with output.explained():
        folder = func_options.look(path)
        others = [env for env in folder.function.run.envs if not name or env.name != name]
        added = (*others, Env(name=name or None, value=value))
        _save(folder.changed(run=msgspec.structs.replace(folder.function.run, envs=added)))


@envs.command("remove")
def remove_env(
    name: Annotated[str, typer.Option("--name", help="Its name, or the value of one without a name.")],
    path: PathOption = Path(),
) -> None:
    """Take a variable away."""
    with output.explained():
        folder = func_options.look(path)
        kept = tuple(
            env
            for env in folder.function.run.envs
            if name not in {env.name, env.value if env.name is None else None}
        )
        if len(kept) == len(folder.function.run.envs):
            raise errors.NotFound(f"there is no variable {name}")
        _save(folder.changed(run=msgspec.structs.replace(folder.function.run, envs=kept)))


@labels.callback()
def list_labels(ctx: typer.Context, path: PathOption = Path()) -> None:
    """List the labels."""
    if ctx.invoked_subcommand is None:
        with output.explained():
            for label in func_options.look(path).function.deploy.labels:
                terminal.write(f"{label.key}: {label.value or ''}")


@labels.command("add")
def add_label(
    name: Annotated[str, typer.Option("--name", help="Its key.")],
    value: Annotated[str, typer.Option("--value", help="Its value, or {{ env:X }}.")] = "",
    path: PathOption = Path(),
) -> None:
    """Set a label."""
    with output.explained():
        folder = func_options.look(path)
        others = [label for label in folder.function.deploy.labels if label.key != name]
        added = (*others, Label(key=name, value=value or None))
        _save(folder.changed(deploy=msgspec.structs.replace(folder.function.deploy, labels=added)))


@labels.command("remove")
def remove_label(
    name: Annotated[str, typer.Option("--name", help="Its key.")], path: PathOption = Path()
) -> None:
    """Take a label away."""
    with output.explained():
        folder = func_options.look(path)
        kept = tuple(label for label in folder.function.deploy.labels if label.key != name)
        if len(kept) == len(folder.function.deploy.labels):
            raise errors.NotFound(f"there is no label {name}")
        _save(folder.changed(deploy=msgspec.structs.replace(folder.function.deploy, labels=kept)))


@volumes.callback()
def list_volumes(ctx: typer.Context, path: PathOption = Path()) -> None:
    """List the volumes."""
    if ctx.invoked_subcommand is None:
        with output.explained():
            for volume in func_options.look(path).function.run.volumes:
                terminal.write(f"{volume.path}: {_source(volume)}")


def _source(volume: Volume) -> str:
    if volume.secret is not None:
        return f"Secret {volume.secret}"
    if volume.config_map is not None:
        return f"ConfigMap {volume.config_map}"
    if (claim := volume.persistent_volume_claim) is not None:
        return f"PersistentVolumeClaim {claim.claim_name}{', read only' if claim.read_only else ''}"
    return "EmptyDir"


@volumes.command("add")
def add_volume(
    kind: Annotated[str, typer.Option("--type", "-t", help="configmap, secret, pvc or emptydir.")],
    mount_path: Annotated[str, typer.Option("--mount-path", "-m", help="Where it is mounted.")],
    source: Annotated[
        str, typer.Option("--source", "-s", help="Name of the ConfigMap, Secret or claim.")
    ] = "",
    read_only: Annotated[bool, typer.Option("--read-only", "-r", help="Only to be read (pvc).")] = False,
    size: Annotated[str, typer.Option("--size", help="At most so large (emptydir).")] = "",
    medium: Annotated[str, typer.Option("--medium", help="Memory, or nothing (emptydir).")] = "",
    path: PathOption = Path(),
) -> None:
    """Mount a volume."""
    with output.explained():
        if kind != "emptydir" and not source:
            raise output.UsageError(f"--type {kind} needs --source")
        match kind:
            case "configmap":
                volume = Volume(config_map=source, path=mount_path)
            case "secret":
                volume = Volume(secret=source, path=mount_path)
            case "pvc":
                claim = Claim(claim_name=source, read_only=read_only)
                volume = Volume(persistent_volume_claim=claim, path=mount_path)
            case "emptydir":
                empty = EmptyDir(medium=medium, size_limit=size or None)
                volume = Volume(empty_dir=empty, path=mount_path)
            case _:
                raise output.UsageError(f"--type {kind}: write configmap, secret, pvc or emptydir")
        folder = func_options.look(path)
        added = (*folder.function.run.volumes, volume)
        _save(folder.changed(run=msgspec.structs.replace(folder.function.run, volumes=added)))


@volumes.command("remove")
def remove_volume(
    mount_path: Annotated[str, typer.Option("--mount-path", "-m", help="Where it is mounted.")],
    path: PathOption = Path(),
) -> None:
    """Mount a volume no longer."""
    with output.explained():
        folder = func_options.look(path)
        place = posixpath.normpath(mount_path)
        present = folder.function.run.volumes
        kept = tuple(v for v in present if posixpath.normpath(v.path or "") != place)
        if len(kept) == len(present):
            raise errors.NotFound(f"nothing is mounted at {mount_path}")
        _save(folder.changed(run=msgspec.structs.replace(folder.function.run, volumes=kept)))


@git.command("set")
def set_git(
    url: Annotated[str, typer.Option("--git-url", "-g", help="Of the repository.")],
    branch: Annotated[str, typer.Option("--git-branch", "-t", help="Revision.")] = "",
    directory: Annotated[str, typer.Option("--git-dir", "-d", help="Folder of the function in it.")] = "",
    path: PathOption = Path(),
) -> None:
    """Write down the repository; Knative's own tool builds from it, this one builds from the folder."""
    with output.explained():
        folder = func_options.look(path)
        repository = Git(url=url, revision=branch, context_dir=directory)
        _save(folder.changed(build=msgspec.structs.replace(folder.function.build, git=repository)))


@git.command("remove")
def remove_git(path: PathOption = Path()) -> None:
    """Forget the repository."""
    with output.explained():
        folder = func_options.look(path)
        _save(folder.changed(build=msgspec.structs.replace(folder.function.build, git=Git())))


def subscribe(
    filters: Annotated[
        list[str] | None,
        typer.Option("--filter", "-f", help="ATTRIBUTE=VALUE of events; may be given again."),
    ] = None,
    source: Annotated[str, typer.Option("--source", "-s", help="The broker.")] = wellknown.DEFAULT_BROKER,
    path: PathOption = Path(),
) -> None:
    """Have the function sent the events of a broker, with the next deploy."""
    with output.explained():
        folder = func_options.look(path)
        chosen = func_options.pairs(filters, "--filter")
        function = triggers.subscribed(folder.function, source, chosen)
        _save(folder.changed(deploy=function.deploy))
        if not function.takes_events:
            terminal.note(_ANSWERS)
