"""Commands on functions that need no platform: create, run, languages, templates, environment."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated, Any

import anyio
import msgspec
import typer
import yaml

from ondol import __version__
from ondol.base import durations
from ondol.base.clock import SystemClock
from ondol.cli import func_options, output, terminal
from ondol.cli.func_options import EnvOption, PathOption
from ondol.compose import waiting
from ondol.compose.functions import commands, running
from ondol.compose.functions import folder as folders
from ondol.compose.functions.folder import Folder
from ondol.serverless.functions import languages as catalogue
from ondol.serverless.functions import wellknown

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def create(
    folder: Annotated[Path | None, typer.Argument(help="Folder of the function; its name too.")] = None,
    language: Annotated[
        str, typer.Option("--language", "-l", envvar="FUNC_LANGUAGE", help="Language of the function.")
    ] = "",
    template: Annotated[
        str, typer.Option("--template", "-t", envvar="FUNC_TEMPLATE", help="What it begins as.")
    ] = "http",
    path: PathOption = Path(),
) -> None:
    """Make a new function from a template."""
    with output.explained():
        folders.create(folder or path, language, template, waiting.now(), terminal.write)


def run(
    path: PathOption = Path(),
    address: Annotated[
        str,
        typer.Option(
            "--address",
            envvar="FUNC_ADDRESS",
            help="Address and port to answer at.",
            show_default="127.0.0.1:8080, or another port if that is taken",
        ),
    ] = "",
    env: EnvOption = None,
    reload: Annotated[
        bool, typer.Option("--reload/--no-reload", help="Start it anew when a file changes.")
    ] = True,
    as_json: JsonOption = False,
) -> None:
    """Serve the function on this machine, in no container, and again with each change."""

    async def serve(folder: Folder) -> None:
        host, port = _address(address)
        limit = folder.function.run.start_timeout
        wishes = running.Wishes(
            host=host,
            port=port,
            env=func_options.pairs(env, "--env"),
            reloads=reload,
            start_timeout_s=_seconds(limit) if limit else running.START_TIMEOUT_S,
        )

        def serving(url: str) -> None:
            terminal.write(json.dumps({"address": url}) if as_json else f"function running at {url}")
            terminal.flush()

        await running.Runner(folder, wishes, SystemClock(), terminal.note, on_serving=serving).run()

    with output.explained():
        folder = func_options.load(path)
        if names := commands.unavailable(folder):
            terminal.note(
                f"warning: only the platform has the values of {', '.join(names)}: they are left out"
            )
        anyio.run(serve, folder)


def _address(text: str) -> tuple[str, int]:
    if not text:
        return running.HOST, 0
    host, colon, port = text.rpartition(":")
    if not colon or not port.isdigit() or not 0 < int(port) < 1 << 16:
        raise output.UsageError(f"--address {text}: write HOST:PORT")
    return host.strip("[]") or running.HOST, int(port)


def _seconds(text: str) -> float:
    nanoseconds = int(text) if text.isdigit() else durations.nanoseconds(text)
    return float(nanoseconds) / 1_000_000_000


def languages(as_json: JsonOption = False) -> None:
    """List the languages of functions, and what this machine lacks to build them."""
    with output.explained():
        if as_json:
            terminal.write(json.dumps([each.name for each in catalogue.LANGUAGES], indent=2))
            return
        rows = [(each.name, _state(each)) for each in catalogue.LANGUAGES]
        output.table(("LANGUAGE", "TOOLCHAIN"), rows)


def _state(language: catalogue.Language) -> str:
    if not language.toolchain:
        return "nothing needed" if language.name == catalogue.LANGUAGES[0].name else "the machine's Python"
    version = commands.version_of(language.toolchain)
    return version or f"missing: {language.remedy}"


def templates(
    language: Annotated[str, typer.Argument(help="Only those of this language.", show_default="all")] = "",
    as_json: JsonOption = False,
) -> None:
    """List what a new function can begin as."""
    with output.explained():
        if language:
            names = catalogue.language(language).templates
            terminal.write(json.dumps(names, indent=2) if as_json else "\n".join(names))
            return
        everything = {each.name: each.templates for each in catalogue.LANGUAGES}
        if as_json:
            terminal.write(json.dumps(everything, indent=2))
            return
        rows = [(name, template) for name, several in everything.items() for template in several]
        output.table(("LANGUAGE", "TEMPLATE"), rows)


def environment(
    form: Annotated[str, typer.Option("--format", "-f", envvar="FUNC_FORMAT", help="json or yaml.")] = "json",
    path: PathOption = Path(),
) -> None:
    """Show what decides how functions are made here: versions, languages, templates, variables."""
    with output.explained():
        if form not in {"json", "yaml"}:
            raise output.UsageError(f"--format {form}: write json or yaml")
        described: dict[str, Any] = {
            "Version": __version__,
            "SpecVersion": wellknown.SPEC_VERSION,
            "Languages": [each.name for each in catalogue.LANGUAGES],
            "Toolchains": {each.name: _state(each) for each in catalogue.LANGUAGES},
            "Templates": {each.name: list(each.templates) for each in catalogue.LANGUAGES},
            "Environment": sorted(f"{k}={v}" for k, v in os.environ.items() if k.startswith("FUNC_")),
        }
        if (path / wellknown.FILE).exists():
            described["Function"] = msgspec.to_builtins(func_options.look(path).function)
        terminal.write(
            json.dumps(described, indent=2)
            if form == "json"
            else yaml.safe_dump(described, sort_keys=False).rstrip()
        )
