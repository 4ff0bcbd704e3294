"""The commands of `ondol func`, as Knative's own tool has them: functions made, run and deployed."""

from __future__ import annotations

import typer

from ondol import __version__
from ondol.cli import func_build, func_config, func_invoke, func_local, func_remote, terminal

app = typer.Typer(
    no_args_is_help=True, add_completion=False, help="Functions: code and nothing else, served from zero."
)

app.command("create")(func_local.create)
app.command("run")(func_local.run)
app.command("invoke")(func_invoke.invoke)
app.command("build")(func_build.build)
app.command("deploy")(func_build.deploy)
app.command("list")(func_remote.list_functions)
app.command("describe")(func_remote.describe)
app.command("logs")(func_remote.follow_logs)
app.command("delete")(func_remote.delete)
app.command("subscribe")(func_config.subscribe)
app.add_typer(func_config.app, name="config")
app.command("languages")(func_local.languages)
app.command("templates")(func_local.templates)
app.command("environment")(func_local.environment)


@app.command("version")
def version() -> None:
    """Print the version."""
    terminal.write(__version__)
