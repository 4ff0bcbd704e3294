"""The commands of `ondol boot`: the platform as a service of systemd, which starts with the machine."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import Annotated

import typer

from ondol.cli import output, terminal
from ondol.cli.output import DataDir, Format, Output
from ondol.compose import hints, settings, units

app = typer.Typer(
    help="Start the platform with the machine, as a service of systemd.",
    context_settings={"help_option_names": ["-h", "--help"]},
    no_args_is_help=True,
    add_completion=False,
)

Name = Annotated[str, typer.Option("--name", help="Name of the unit.")]
Root = Annotated[
    Path | None, typer.Option("--root", help="File system to write to, as of an image; nothing is started.")
]
Force = Annotated[bool, typer.Option("--force", help="Also a unit that ondol has not written.")]


@app.command()
def install(
    data_dir: DataDir = None,
    name: Name = units.NAME,
    print_only: Annotated[bool, typer.Option("--print", help="Print the unit; change nothing.")] = False,
    root: Root = None,
    start: Annotated[bool, typer.Option(help="Start it now, too.")] = True,
    force: Force = False,
) -> None:
    """Have systemd start the platform at boot, and now; a second time it brings the unit up to date."""
    with output.explained():
        chosen = settings.load(data_dir)
        unit = units.unit(name, root)
        if print_only:
            terminal.write(units.text(chosen.data_dir, Path(sys.executable)).rstrip())
            return
        changed = units.install(chosen, unit, start=start, force=force)
        terminal.note(f"{'wrote' if changed else 'unchanged:'} {unit.file}")


@app.command()
def uninstall(name: Name = units.NAME, root: Root = None, force: Force = False) -> None:
    """Stop the service and remove its unit; data and pods stay."""
    with output.explained():
        unit = units.unit(name, root)
        if not units.uninstall(unit, force=force):
            terminal.note(f"there is no {unit.file}")
            return
        terminal.note(f"removed {unit.file}; the pods live on: {hints.sudo()}ondol down ends them")


@app.command()
def status(
    data_dir: DataDir = None, name: Name = units.NAME, root: Root = None, form: Output = Format.TABLE
) -> None:
    """Show whether there is a unit, whether it is as install would write it, and what systemd says of it."""
    with output.explained():
        report = units.report(settings.load(data_dir), units.unit(name, root))
        if form is not Format.TABLE:
            output.document(dataclasses.asdict(report), form)
        elif report.installed:
            rows = [(report.file, "yes" if report.current else "no", report.enabled, report.active)]
            output.table(("UNIT", "CURRENT", "ENABLED", "ACTIVE"), rows)
        else:
            terminal.note(f"there is no {report.file}")
        if not report.installed:
            raise typer.Exit(output.NOT_RUNNING)
