"""What a new function begins as: each template is whole, and its own tests pass."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ondol.base import errors
from ondol.serverless.functions import languages

EVERY = [(language.name, template) for language in languages.LANGUAGES for template in language.templates]


def write(folder: Path, language: str, template: str) -> None:
    for key, content in languages.template(language, template):
        (folder / key).parent.mkdir(parents=True, exist_ok=True)
        (folder / key).write_bytes(content)


@pytest.mark.parametrize(("language", "template"), EVERY)
def test_every_template_is_there(tmp_path: Path, language: str, template: str) -> None:
    """With a page that says how to go on, and tests where there is code."""
    write(tmp_path, language, template)
    names = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    assert "ondol func deploy" in (tmp_path / "README.md").read_text(encoding="utf-8")
    assert len((tmp_path / "README.md").read_text(encoding="utf-8").splitlines()) < 20
    assert language == "executable" or any("test" in name for name in names)


def passes(command: list[str], folder: Path, **env: str) -> None:
    done = subprocess.run(
        command, cwd=folder, env={**os.environ, **env}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_tests_of_a_python_function_pass(tmp_path: Path) -> None:
    """As its page says they are run."""
    write(tmp_path, "python", "http")
    passes([sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"], tmp_path)


@pytest.mark.skipif(shutil.which("node") is None, reason="this machine has no Node.js")
def test_the_tests_of_a_node_function_pass(tmp_path: Path) -> None:
    """They need nothing that must be installed."""
    write(tmp_path, "node", "http")
    passes(["node", "--test", "test/"], tmp_path)


@pytest.mark.skipif(shutil.which("go") is None, reason="this machine has no Go")
def test_the_tests_of_a_go_function_pass(tmp_path: Path) -> None:
    """They need nothing that must be installed."""
    write(tmp_path, "go", "http")
    passes(["go", "test", "./..."], tmp_path, GOFLAGS="-mod=mod")


def test_what_there_is_not_is_said_with_what_there_is() -> None:
    """One line, whatever was asked for."""
    with pytest.raises(errors.HostError, match="the language ruby is not supported") as refused:
        list(languages.template("ruby", "http"))
    assert refused.value.remedy == "use one of: executable, go, node, python"
    with pytest.raises(errors.HostError, match="no template grpc for go"):
        list(languages.template("go", "grpc"))
    with pytest.raises(errors.HostError, match="no language is named"):
        languages.language("")
