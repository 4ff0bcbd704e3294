"""Commands of a user who may not: one line each that says what to do, never a traceback."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from ondol.base import errors
from ondol.cli import main, output
from ondol.client import kubeconfig
from ondol.compose import instance as instances
from ondol.compose import lock
from ondol.compose.settings import Settings

_COMMANDS = [
    ["status"],
    ["down"],
    ["down", "--remove-data"],
    ["up", "--detach"],
    ["doctor"],
    ["backup", "-"],
    ["kubeconfig"],
    ["get", "pods"],
    ["delete", "pod", "web"],
    ["logs", "web"],
    ["image", "prune", "--all"],
    ["traces"],
    ["traces", "serve", "--port", "0"],
    ["demo", "--once"],
]


@pytest.fixture
def closed(monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that nobody may even look for, root in a test neither."""
    folder = Path("/closed")

    def refuse(path: Path, *_words: object, **_options: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    for name in ("stat", "open", "iterdir"):
        monkeypatch.setattr(Path, name, refuse)
    return folder / "file.yaml"


@pytest.mark.parametrize("words", _COMMANDS, ids=" ".join)
def test_a_platform_that_another_user_runs(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a folder that is the user's own too: whatever the command, whose it is and how to go on."""
    monkeypatch.setattr(instances, "_PROMISES", tmp_path / "promises")
    instance = instances.load_or_create(Settings(data_dir=tmp_path / "data"))
    instance.pki_dir.mkdir()
    (instance.data_dir / "images").mkdir()

    def refuse(_pid: int, _signum: int) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    with lock.hold(instance.lock_file):
        monkeypatch.setattr(os, "kill", refuse)
        result = CliRunner().invoke(
            main.app, [*words, "--data-dir", str(instance.data_dir)], catch_exceptions=False
        )
    assert result.exit_code == 1
    assert result.stderr.startswith(f"error: the platform on {instance.data_dir} belongs to another user\n")
    assert result.stdout == ""


@pytest.mark.parametrize("command", ["apply", "delete"])
def test_a_manifest_in_a_closed_folder(command: str, closed: Path) -> None:
    """It is named; no wrong usage, and no traceback."""
    result = CliRunner().invoke(main.app, [command, "-f", str(closed)], catch_exceptions=False)
    assert result.exit_code == 1
    assert result.stderr.splitlines()[0] == f"error: {closed} cannot be used: Permission denied"


def test_a_kubeconfig_in_a_closed_folder(closed: Path) -> None:
    """As root's in the environment of another user: said as what it is, with what to do."""
    with pytest.raises(errors.HostError) as caught:
        kubeconfig.current_server([closed])
    assert str(caught.value) == f"{closed} cannot be read: Permission denied"
    assert "a copy of your own" in caught.value.remedy


def test_a_refusal_that_names_no_file_is_a_fault(capsys: pytest.CaptureFixture[str]) -> None:
    """What nobody can act on stays a traceback, which tells where it came from."""
    with pytest.raises(PermissionError), output.explained():
        raise PermissionError(errno.EPERM, "Operation not permitted")
    with pytest.raises(typer.Exit), output.explained():
        raise PermissionError(errno.EPERM, "Operation not permitted", "/etc/shadow")
    assert capsys.readouterr().err.startswith("error: /etc/shadow cannot be used: ")
