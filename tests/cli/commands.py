"""Runs commands as a person types them, for all tests of the command line."""

from __future__ import annotations

from collections.abc import Mapping

from typer.testing import CliRunner, Result

from ondol.cli import main


def run(*words: object, env: Mapping[str, str] | None = None) -> Result:
    """Run a command; what it raises other than its exit is the test's to see."""
    return CliRunner().invoke(main.app, [str(w) for w in words], env=dict(env or {}), catch_exceptions=False)


def one_line(result: Result) -> str:
    """The error a person sees: one line, and perhaps a second with what to try."""
    lines = result.stderr.rstrip("\n").split("\n")
    assert len(lines) <= 2, result.stderr
    assert lines[0].startswith("error: ")
    assert all(line.startswith("  try: ") for line in lines[1:])
    assert "Traceback" not in result.output
    return lines[0]
