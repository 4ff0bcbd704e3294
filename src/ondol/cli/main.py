"""The application: which commands there are; a command's module is imported when it is called."""

from __future__ import annotations

import importlib
import os
from typing import Any, Final

import typer
from typer.core import TyperGroup

from ondol import __version__
from ondol.cli import terminal

_COMMANDS: Final = {
    "up": "ondol.cli.platform:up",
    "down": "ondol.cli.platform:down",
    "restart": "ondol.cli.platform:restart",
    "boot": "ondol.cli.boot:app",
    "status": "ondol.cli.platform:status",
    "doctor": "ondol.cli.platform:doctor",
    "backup": "ondol.cli.backups:backup",
    "restore": "ondol.cli.backups:restore",
    "kubeconfig": "ondol.cli.platform:kubeconfig",
    "apply": "ondol.cli.resources:apply",
    "get": "ondol.cli.get:get",
    "delete": "ondol.cli.resources:delete",
    "logs": "ondol.cli.logs:logs",
    "exec": "ondol.cli.speaking:execute",
    "attach": "ondol.cli.speaking:attach",
    "debug": "ondol.cli.debug:debug",
    "port-forward": "ondol.cli.port_forward:port_forward",
    "cp": "ondol.cli.cp:copy",
    "image": "ondol.cli.images:app",
    "func": "ondol.cli.func:app",
    "service": "ondol.cli.knative.services:app",
    "revision": "ondol.cli.knative.revisions:app",
    "route": "ondol.cli.knative.routes:app",
    "domain": "ondol.cli.knative.domains:app",
    "broker": "ondol.cli.eventing.brokers:app",
    "trigger": "ondol.cli.eventing.triggers:app",
    "channel": "ondol.cli.eventing.channels:app",
    "subscription": "ondol.cli.eventing.subscriptions:app",
    "source": "ondol.cli.eventing.sources:app",
    "event": "ondol.cli.eventing.events:app",
    "traces": "ondol.cli.traces:app",
    "metrics": "ondol.cli.metrics:metrics",
    "mesh": "ondol.cli.mesh:app",
    "demo": "ondol.cli.demo:demo",
}
_ALIASES: Final = {
    "services": "service",
    "ksvc": "service",
    "revisions": "revision",
    "routes": "route",
    "domains": "domain",
    "brokers": "broker",
    "triggers": "trigger",
    "channels": "channel",
    "subscriptions": "subscription",
    "sub": "subscription",
    "sources": "source",
}


class _Commands(TyperGroup):
    """Looks a command up by name, so that one command does not pay for the imports of all."""

    def list_commands(self, ctx: Any) -> list[str]:
        _ = ctx
        return list(_COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        _ = ctx
        cmd_name = _ALIASES.get(cmd_name, cmd_name)
        if cmd_name not in _COMMANDS:
            return None
        module, _, attribute = _COMMANDS[cmd_name].partition(":")
        application = getattr(importlib.import_module(module), attribute)
        if not isinstance(application, typer.Typer):
            function, application = application, typer.Typer(context_settings=_CONTEXT, add_completion=False)
            application.command(cmd_name)(function)
        command = typer.main.get_command(application)
        command.name = cmd_name
        return command


_SYSTEM_FOLDERS: Final = ("/usr/local/sbin", "/usr/sbin", "/sbin")
_CONTEXT: Final = {"help_option_names": ["-h", "--help"]}

app = typer.Typer(
    name="ondol",
    cls=_Commands,
    help="Operators, service mesh and serverless on one machine, behind the real Kubernetes API.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings=_CONTEXT,
)


@app.callback(invoke_without_command=True)
def _root(
    version: bool = typer.Option(False, "--version", help="Print the version and exit."),
) -> None:
    if version:
        typer.echo(__version__)
        raise typer.Exit


def main() -> None:
    """Entry point of the `ondol` script: runs a command and makes sure that what it printed arrived."""
    os.environ["PATH"] = complete_path(os.environ.get("PATH", ""))
    try:
        try:
            with terminal.watched():
                app()
        finally:
            terminal.flush()
    except terminal.OutputLost as lost:
        terminal.abandon()
        if not lost.is_closed:
            terminal.note(f"error: {lost}")
        raise SystemExit(0 if lost.is_closed else 1) from None


def complete_path(path: str) -> str:
    """The search path with the folders of nft and runc, which users' shells and a plain `su` leave out."""
    folders = [folder for folder in path.split(os.pathsep) if folder]
    return os.pathsep.join([*folders, *(folder for folder in _SYSTEM_FOLDERS if folder not in folders)])
