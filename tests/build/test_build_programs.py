"""Images with a server of somebody else's, of programs, of Node.js applications, and Go programs."""

from __future__ import annotations

import json
import os
import shutil
import stat
import tarfile
from pathlib import Path
from typing import Any

import pytest

from ondol.base import errors
from ondol.build import application, golang, image, npm, programs
from ondol.build import project as projects
from ondol.build.errors import BuildError
from ondol.build.server import Server
from ondol.build.store import ImageStore


@pytest.fixture
def server(tmp_path: Path) -> Server:
    """A server of one Python file."""
    file = tmp_path / "serve.py"
    file.write_text("print('serving')\n", encoding="utf-8")
    return Server(
        title="a server",
        files={"/opt/lib/serve.py": file},
        entrypoint=("/usr/bin/python3", "-c", "import serve"),
        arguments=("x",),
        path=("/opt/lib",),
    )


def names(store: ImageStore, digest: str) -> set[str]:
    with tarfile.open(store.blob(digest)) as tar:
        return {member.name for member in tar.getmembers()}


def test_a_server_stands_around_an_application(images: ImageStore, tmp_path: Path, server: Server) -> None:
    """It is started in the application's place, in a layer of its own with bytecode, stored once."""
    app = tmp_path / "app"
    (app / "function").mkdir(parents=True)
    (app / "function" / "__init__.py").write_text("", encoding="utf-8")
    (app / "func.yaml").write_text("", encoding="utf-8")
    built = image.build(app, "f:1", images, serves=server, exclude=("func.yaml",))
    config: Any = images.config(built.digest)["config"]
    assert config["Entrypoint"] == ["/usr/bin/python3", "-c", "import serve"]
    assert config["Cmd"] == ["x"]
    assert "PYTHONPATH=/app:/opt/lib" in config["Env"]
    layers = {layer.kind: layer for layer in built.layers}
    assert {"opt/lib/serve.py"} < names(images, layers["server"].digest)
    assert any(name.endswith(".pyc") for name in names(images, layers["server"].digest))
    assert "app/func.yaml" not in names(images, layers["application"].digest)
    (app / "function" / "__init__.py").write_text("x = 1\n", encoding="utf-8")
    (app / "func.yaml").write_text("changed", encoding="utf-8")
    again = {layer.kind: layer for layer in image.build(app, "f:1", images, serves=server).layers}
    assert again["server"].reused
    assert not again["application"].reused


def test_any_program_is_an_image(images: ImageStore, tmp_path: Path) -> None:
    """With the libraries it is linked to, and the files beside it."""
    shutil.copy(shutil.which("sleep") or "", tmp_path / "main")
    (tmp_path / "data.txt").write_text("x", encoding="utf-8")
    built = programs.plain(tmp_path, "main", "p:1", images)
    config: Any = images.config(built.digest)["config"]
    assert config["Entrypoint"] == ["/app/main"]
    assert config["User"] == "65532:65532"
    base, app = (names(images, layer.digest) for layer in built.layers)
    assert {"app/main", "app/data.txt"} < app
    assert any("libc.so" in name for name in base)
    assert "etc/passwd" in base
    assert programs.plain(tmp_path, "main", "p:1", images).digest == built.digest


@pytest.mark.parametrize(
    ("content", "mode", "words"),
    [
        (None, 0, "there is no executable"),
        ("#!/bin/sh\n", 0o755, "is no program of Linux"),
        ("x", 0o644, "there is no"),
    ],
)
def test_what_is_no_program_is_said(
    images: ImageStore, tmp_path: Path, content: str | None, mode: int, words: str
) -> None:
    """A script needs a language's image; a file must be allowed to run."""
    if content is not None:
        (tmp_path / "main").write_text(content, encoding="utf-8")
        (tmp_path / "main").chmod(mode)
    with pytest.raises(BuildError, match=words):
        programs.plain(tmp_path, "main", "p:1", images)


@pytest.mark.skipif(shutil.which("node") is None, reason="this machine has no Node.js")
def test_a_node_application_is_an_image(images: ImageStore, tmp_path: Path, server: Server) -> None:
    """Node itself, the server, and the files; nothing is installed that the server stands for."""
    app = tmp_path / "app"
    app.mkdir()
    (app / "index.js").write_text("", encoding="utf-8")
    (app / "package.json").write_text('{"dependencies": {"faas": "1"}}', encoding="utf-8")
    built = programs.node(app, "n:1", images, server, provided=("faas",))
    assert [layer.kind for layer in built.layers] == ["base", "server", "application"]
    assert "usr/bin/node" in names(images, built.layers[0].digest)
    assert "app/index.js" in names(images, built.layers[2].digest)


def fake(folder: Path, name: str, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program of that name, before all others."""
    folder.mkdir(exist_ok=True)
    program = folder / name
    program.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")


def test_npm_packages_are_installed_once_for_the_same_lock(
    images: ImageStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without what is for development; a changed script installs nothing anew, a changed version does."""
    log = tmp_path / "calls"
    script = f'echo "$@" >> {log}; mkdir -p node_modules/a node_modules/.bin; echo x > node_modules/a/i.js'
    fake(tmp_path / "bin", "npm", f"{script}; ln -sf ../a/i.js node_modules/.bin/a", monkeypatch)
    node = Path("/bin/sh").resolve()

    def layered(document: dict[str, Any], lock: str) -> tuple[str, bool]:
        (tmp_path / "package.json").write_text(json.dumps(document), encoding="utf-8")
        (tmp_path / "package-lock.json").write_text(lock, encoding="utf-8")
        packages = npm.Packages.of(tmp_path)
        assert packages is not None
        layer, reused = npm.layer(images, packages, node, epoch_s=0)
        return layer.digest, reused

    asked = {"dependencies": {"a": "1"}}
    digest, reused = layered(asked, "{}")
    assert not reused
    assert {"app/node_modules/a/i.js", "app/node_modules/.bin/a"} < names(images, digest)
    assert layered({**asked, "scripts": {"test": "x"}}, "{}") == (digest, True)
    assert layered({"dependencies": {"a": "2"}}, '{"a": 2}')[1] is False
    assert (
        log.read_text(encoding="utf-8").splitlines()
        == ["ci --omit=dev --no-audit --no-fund --loglevel=error"] * 2
    )


@pytest.mark.parametrize(
    ("text", "words"),
    [("{", "cannot be read"), ('{"dependencies": {"a": "file:../a"}}', "a is a local folder")],
)
def test_a_package_json_that_is_none_is_said(tmp_path: Path, text: str, words: str) -> None:
    """So is a dependency whose content no key can tell."""
    (tmp_path / "package.json").write_text(text, encoding="utf-8")
    with pytest.raises(BuildError, match=words):
        npm.Packages.of(tmp_path)


def test_an_installation_that_fails_is_said(
    images: ImageStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With what npm wrote."""
    fake(tmp_path / "bin", "npm", "echo 'no such version' >&2; exit 1", monkeypatch)
    (tmp_path / "package.json").write_text('{"dependencies": {"a": "9"}}', encoding="utf-8")
    packages = npm.Packages.of(tmp_path)
    assert packages is not None
    with pytest.raises(BuildError, match="no such version"):
        npm.layer(images, packages, Path("/bin/sh").resolve(), epoch_s=0)


def go_sources(folder: Path, **files: str) -> application.Sources:
    for name, text in files.items():
        (folder / name.replace("_", ".")).write_text(text, encoding="utf-8")
    return application.sources(projects.read(folder))


def test_go_files_are_compiled_in_the_functions_own_module(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The main files import it by its own name; nothing of them is left."""
    fake(
        tmp_path / "bin",
        "go",
        'cat ondolmain/m.go > function; echo "$CGO_ENABLED $*" >> function',
        monkeypatch,
    )
    (tmp_path / "f").mkdir()
    sources = go_sources(
        tmp_path / "f", go_mod="module example.com/f\n", f_go="package f\n\nfunc New() int\n"
    )
    main = tmp_path / "m.go"
    main.write_text('import f "function"\n', encoding="utf-8")
    target = tmp_path / "target"
    target.mkdir()
    golang.compiled(sources, {"m.go": main}, target)
    lines = (target / "function").read_text(encoding="utf-8").splitlines()
    assert lines[0] == 'import f "example.com/f"'
    assert lines[1].startswith("0 build -trimpath ")
    assert not (target / "ondolmain").exists()
    assert golang.exports(sources, "New")
    assert not golang.exports(sources, "Handle")


def test_what_keeps_a_go_function_from_being_compiled_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No toolchain, no module, or errors of the compiler."""
    (tmp_path / "f").mkdir()
    sources = go_sources(tmp_path / "f", f_go="package f\n")
    with pytest.raises(errors.HostError, match="no Go toolchain"):
        golang.compiled(sources, {}, tmp_path, environment={"FUNC_GO": "/nowhere/go"})
    fake(tmp_path / "bin", "go", "echo './f.go:1: bad' >&2; exit 1", monkeypatch)
    with pytest.raises(BuildError, match=r"go.mod is missing"):
        golang.compiled(sources, {}, tmp_path / "t")
    (tmp_path / "f" / "go.mod").write_text("module f\n", encoding="utf-8")
    sources = application.sources(projects.read(tmp_path / "f"))
    with pytest.raises(BuildError, match=r"cannot be compiled:\n  ./f.go:1: bad"):
        golang.compiled(sources, {}, tmp_path / "u")
