"""What of a folder goes into an image: ignore files, secrets, and what the author asks for."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ondol.build import application, pipfile, project
from ondol.build.errors import BuildError


def _taken(folder: Path, files: dict[str, str], *, below: str = "") -> set[str]:
    """The files that are taken of those written, the ones a build reads aside."""
    _write(folder, files)
    taken = application.sources(project.read(folder / below))
    return set(taken.files) - {".dockerignore", ".gitignore", "pyproject.toml"}


def _write(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


TREE = dict.fromkeys(("main.py", "a.log", "doc/a.log", "doc/keep.log", "doc/x/y.md", "build/out.js"), "")


@pytest.mark.parametrize(
    ("lines", "left_out"),
    [
        ("a.log", {"a.log"}),
        ("/a.log", {"a.log"}),
        ("**/*.log", {"a.log", "doc/a.log", "doc/keep.log"}),
        ("*/*.log", {"doc/a.log", "doc/keep.log"}),
        ("doc", {"doc/a.log", "doc/keep.log", "doc/x/y.md"}),
        ("doc/\n!doc/keep.log", {"doc/a.log", "doc/x/y.md"}),
        ("*\n!main.py", {"a.log", "doc/a.log", "doc/keep.log", "doc/x/y.md", "build/out.js"}),
        ("# doc\n\n./doc/../build", {"build/out.js"}),
        ("!main.py\nmain.py", {"main.py"}),
    ],
)
def test_dockerignore(tmp_path: Path, lines: str, left_out: set[str]) -> None:
    """As Docker reads it: anchored patterns, the last that matches decides, folders can be reopened."""
    assert set(TREE) - _taken(tmp_path, {**TREE, ".dockerignore": lines}) == left_out


@pytest.mark.parametrize(
    ("files", "left_out"),
    [
        ({".gitignore": "*.log"}, {"a.log", "doc/a.log", "doc/keep.log"}),
        ({".gitignore": "/a.log"}, {"a.log"}),
        ({".gitignore": "doc/a.log\nbuild/"}, {"doc/a.log", "build/out.js"}),
        ({".gitignore": "*.log", "doc/.gitignore": "!keep.log"}, {"a.log", "doc/a.log"}),
        ({"doc/.gitignore": "*.log"}, {"doc/a.log", "doc/keep.log"}),
        ({".gitignore": "*.log", ".dockerignore": "build"}, {"build/out.js"}),
    ],
)
def test_gitignore(tmp_path: Path, files: dict[str, str], left_out: set[str]) -> None:
    """As Git reads it, in every folder; where there is a .dockerignore, that alone speaks of images."""
    assert {p for p in TREE if p not in _taken(tmp_path, {**TREE, **files})} == left_out


def test_the_repositorys_rules_hold_in_a_folder_of_it(tmp_path: Path) -> None:
    """A folder inside a repository obeys the rules above it, up to the repository's root and no further."""
    outer = {".gitignore": "main.py", "repo/.git/HEAD": "", "repo/.gitignore": "*.log\n/app/doc"}
    files = {**outer, **{f"repo/app/{name}": "" for name in TREE}}
    assert _taken(tmp_path, files, below="repo/app") == {"main.py", "build/out.js"}


SECRETS = {
    ".env": "A=1",
    ".env.production": "A=1",
    "conf/id_rsa": "x",
    "tls/server.pem": "-----BEGIN PRIVATE KEY-----\n",
    "tls/server.key": "-----BEGIN EC PRIVATE KEY-----\n",
    "account.json": '{"type": "service_account", "private_key": "x"}',
    ".netrc": "",
    "kubeconfig": "",
    ".aws/credentials": "",
}
HARMLESS = {
    "main.py": "",
    ".env.example": "A=",
    "tls/ca.pem": "-----BEGIN CERTIFICATE-----\n",
    "data.json": "{}",
    "answer.key": "forty-two",
}


def test_secrets_stay_out_and_are_told(tmp_path: Path) -> None:
    """What looks like a secret is not copied; what only has such a name is."""
    assert _taken(tmp_path, {**SECRETS, **HARMLESS}) == set(HARMLESS)
    secrets = application.sources(project.read(tmp_path)).secrets
    assert set(secrets) == (set(SECRETS) - {".aws/credentials"}) | {".aws/"}


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    """By its name it may be a secret, which the beginning of a file would say."""
    os.mkfifo(tmp_path / "key.json")
    taken = application.sources(project.read(tmp_path))
    assert list(taken.files) == ["key.json"]


def test_a_secret_can_be_asked_for(tmp_path: Path) -> None:
    """`include` is the author's own word, before ignore files and before what looks secret."""
    text = '[tool.ondol]\ninclude = [".env.production", "build/*"]'
    files = {**TREE, **SECRETS, "pyproject.toml": text, ".gitignore": "build"}
    assert {".env.production", "build/out.js"} <= _taken(tmp_path, files)
    assert ".env" not in _taken(tmp_path, files)


def test_exclude_goes_before_include(tmp_path: Path) -> None:
    """Two words of the author: the one that leaves out is the safer."""
    text = '[tool.ondol]\ninclude = ["a.log"]\nexclude = ["*.log"]'
    assert "a.log" not in _taken(tmp_path, {**TREE, "pyproject.toml": text})


def test_an_ignore_file_that_cannot_be_read(tmp_path: Path) -> None:
    """Nothing is taken on a guess."""
    (tmp_path / ".dockerignore").write_bytes(b"\xff\xfe")
    with pytest.raises(BuildError, match=r"\.dockerignore cannot be read"):
        application.sources(project.read(tmp_path))


LOCK = """{"_meta": {}, "develop": {"pytest": {"version": "==8"}}, "default": {
  "six": {"version": "==1.16.0", "hashes": ["sha256:aa", "sha256:bb"], "markers": "python_version >= '2.7'"},
  "uvicorn": {"version": "==0.34.0", "extras": ["standard"]}}}"""
PIPFILE = """
[packages]
six = "*"
flask = ">=3"
rich = {version = "==13", sys_platform = "== 'linux'"}
[dev-packages]
x = "*"
"""


def test_pipenvs_files(tmp_path: Path) -> None:
    """The lock's exact versions and hashes; without it the ranges. What development needs is left out."""
    assert pipfile.requirements(tmp_path) is None
    (tmp_path / "Pipfile").write_text(PIPFILE)
    assert project.requirement_lines(project.read(tmp_path)) == [
        "flask>=3",
        "rich==13 ; sys_platform == 'linux'",
        "six",
    ]
    (tmp_path / "Pipfile.lock").write_text(LOCK)
    assert project.requirement_lines(project.read(tmp_path)) == [
        "six==1.16.0 ; python_version >= '2.7' --hash=sha256:aa --hash=sha256:bb",
        "uvicorn[standard]==0.34.0",
    ]
    (tmp_path / "requirements.txt").write_text("idna\n")
    assert project.requirement_lines(project.read(tmp_path)) == ["idna"]
