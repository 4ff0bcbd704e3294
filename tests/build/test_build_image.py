"""Whole builds: the same bytes every time, the least made anew, every mistake told."""

from __future__ import annotations

import hashlib
import importlib.util
import io
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ondol.build import base, dependencies, image, interpreter
from ondol.build.errors import BuildError
from ondol.build.image import Built
from ondol.build.store import ImageStore

MAIN = "import greeting\n\nprint(greeting.TEXT)\n"
SOURCES = {
    "main.py": MAIN,
    "greeting.py": 'TEXT = "hello"\n',
    "data/list.txt": "a\nb\n",
    "run.sh": "#!/bin/sh\n",
}


def _write(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    if (folder / "run.sh").exists():
        (folder / "run.sh").chmod(0o755)
    return folder


def _members(store: ImageStore, built: Built, kind: str) -> dict[str, tarfile.TarInfo]:
    layer = next(layer for layer in built.layers if layer.kind == kind)
    with tarfile.open(store.blob(layer.digest)) as tar:
        listed = tar.getmembers()
    assert len({member.name for member in listed}) == len(listed)
    return {member.name: member for member in listed}


def _text(store: ImageStore, built: Built, kind: str, name: str) -> bytes:
    layer = next(layer for layer in built.layers if layer.kind == kind)
    with tarfile.open(store.blob(layer.digest)) as tar:
        file = tar.extractfile(name)
        assert file is not None
        return file.read()


@pytest.fixture
def masked() -> Iterator[None]:
    before = os.umask(0o077)
    yield
    os.umask(before)


def test_the_same_input_gives_the_same_digest_in_another_store(
    tmp_path: Path, images: ImageStore, masked: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another folder, umask, order of files, working directory and store: byte for byte the same image."""
    one = image.build(_write(tmp_path / "one", SOURCES), "app", images)
    second = dict(reversed(SOURCES.items()))
    folder = _write(tmp_path / "elsewhere" / "two", second)
    for path in folder.rglob("*"):
        os.utime(path, (1, 1))
    monkeypatch.chdir(folder)
    other = ImageStore(tmp_path / "other")
    two = image.build(Path(), "app", other, environment={"TZ": "Asia/Seoul"})
    assert two.digest == one.digest
    assert [layer.digest for layer in two.layers] == [layer.digest for layer in one.layers]
    assert not any(layer.reused for layer in two.layers)


def test_a_second_build_makes_only_what_changed(tmp_path: Path, images: ImageStore) -> None:
    """The base is taken from the store; an unchanged application is the same layer again."""
    folder = _write(tmp_path / "app", SOURCES)
    image.build(folder, "app", images)
    again = image.build(folder, "app", images)
    assert [(layer.kind, layer.reused) for layer in again.layers] == [("base", True), ("application", True)]
    (folder / "greeting.py").write_text('TEXT = "bye"\n')
    changed = image.build(folder, "app", images)
    assert [(layer.kind, layer.reused) for layer in changed.layers] == [
        ("base", True),
        ("application", False),
    ]
    stored = images.find("app")
    assert stored is not None
    assert stored.digest == changed.digest != again.digest


def test_only_steps_that_are_taken_are_told(tmp_path: Path, images: ImageStore) -> None:
    """No word of dependencies where there are none, with or without a file that could name some."""
    steps: list[str] = []
    app = _write(tmp_path / "app", {**SOURCES, "requirements.txt": "# none\n"})
    image.build(app, "app:v1", images, progress=steps.append)
    assert steps == ["base: the machine's Python", "application"]


def test_what_the_configuration_says(tmp_path: Path, images: ImageStore) -> None:
    """Entrypoint, user, port, environment and labels are as the project describes them."""
    text = (
        '[project]\nname = "shop"\nversion = "1.2"\nrequires-python = ">=3.11"\n'
        '[tool.ondol]\nport = 9090\nenv = {MODE = "fast"}\n'
    )
    built = image.build(_write(tmp_path, {**SOURCES, "src/x.py": "", "pyproject.toml": text}), "shop", images)
    document = images.config(built.digest)
    config: dict[str, Any] = document["config"]
    assert (config["Entrypoint"], config["Cmd"]) == (["/usr/bin/python3"], ["/app/main.py"])
    assert config["User"] == "65532:65532"
    assert config["ExposedPorts"] == {"9090/tcp": {}}
    environment = dict(pair.split("=", 1) for pair in config["Env"])
    assert environment["PORT"] == "9090"
    assert environment["MODE"] == "fast"
    assert environment["PYTHONPATH"] == "/app/src:/app"
    assert config["Labels"]["org.opencontainers.image.version"] == "1.2"
    assert document["created"] == "1970-01-01T00:00:00Z"
    diff_ids = [
        f"sha256:{hashlib.sha256(images.blob(la.digest).read_bytes()).hexdigest()}" for la in built.layers
    ]
    assert document["rootfs"]["diff_ids"] == diff_ids


def test_the_application_layer_holds_the_application(tmp_path: Path, images: ImageStore) -> None:
    """Sources and their bytecode, owned by root, with two modes; nothing of tools or version control."""
    extra = {
        ".git/HEAD": "", "venv/pyvenv.cfg": "", "venv/lib/x.py": "", "env2/pyvenv.cfg": "", ".env": "KEY=1",
        "__pycache__/main.cpython-311.pyc": "", "notes/secret.txt": "", "x.egg-info/PKG-INFO": "",
        "pyproject.toml": '[tool.ondol]\nexclude = ["notes/*"]',
    }  # fmt: skip
    folder = _write(tmp_path / "app", {**SOURCES, **extra})
    (folder / "alias.txt").symlink_to("data/list.txt")
    built = image.build(folder, "app", images)
    members = _members(images, built, "application")
    files = {name for name, member in members.items() if not member.isdir()}
    tag = interpreter.probe().tag
    assert files == {
        "app/alias.txt", "app/data/list.txt", "app/greeting.py", "app/main.py", "app/pyproject.toml",
        "app/run.sh", f"app/__pycache__/greeting.{tag}.pyc", f"app/__pycache__/main.{tag}.pyc",
    }  # fmt: skip
    assert {member.uid for member in members.values()} == {0}
    assert {member.mtime for member in members.values()} == {0}
    assert (members["app/run.sh"].mode, members["app/main.py"].mode) == (0o755, 0o644)
    assert members["app/alias.txt"].linkname == "data/list.txt"
    # bytecode that is never checked against its source: flags 0b01
    assert _text(images, built, "application", f"app/__pycache__/main.{tag}.pyc")[4:8] == b"\1\0\0\0"


def test_source_date_epoch_dates_the_image(tmp_path: Path, images: ImageStore) -> None:
    """The one time in an image is the one the caller gives."""
    folder = _write(tmp_path / "app", SOURCES)
    store = ImageStore(tmp_path / "store")
    built = image.build(folder, "app", store, environment={"SOURCE_DATE_EPOCH": "86400"})
    assert store.config(built.digest)["created"] == "1970-01-02T00:00:00Z"
    assert {member.mtime for member in _members(store, built, "application").values()} == {86400}
    with pytest.raises(BuildError, match="SOURCE_DATE_EPOCH"):
        image.build(folder, "app", images, environment={"SOURCE_DATE_EPOCH": "yesterday"})


def test_scripts_get_launchers(tmp_path: Path, images: ImageStore) -> None:
    """`[project.scripts]` become programs on the image's PATH."""
    text = '[project]\nname = "tool"\nversion = "1"\nscripts = {tool = "greeting:main"}'
    built = image.build(_write(tmp_path, {**SOURCES, "pyproject.toml": text}), "tool", images)
    assert built.command == ("/usr/local/bin/tool",)
    assert _members(images, built, "application")["usr/local/bin/tool"].mode == 0o755
    assert "Cmd" not in images.config(built.digest)["config"]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"main.py": "print(\n"}, r"main\.py is not valid Python: line 1"),
        (
            {"main.py": "", "pyproject.toml": '[project]\nname="a"\nrequires-python = ">=9"'},
            "needs Python >=9",
        ),
        ({"notes.txt": ""}, "has no entry"),
    ],
)
def test_what_cannot_be_built_is_told(
    tmp_path: Path, images: ImageStore, files: dict[str, str], message: str
) -> None:
    """A wrong application gives an error with a remedy, and no image."""
    with pytest.raises(BuildError, match=message) as caught:
        image.build(_write(tmp_path, files), "wrong", images)
    assert caught.value.remedy
    assert images.find("wrong") is None


def test_other_sources_that_do_not_compile_are_warned_of(tmp_path: Path, images: ImageStore) -> None:
    """A template that only looks like Python does not stop a build, and is named."""
    built = image.build(_write(tmp_path, {**SOURCES, "template.py": "{{ name }} =\n"}), "app", images)
    assert len(built.warnings) == 1
    assert built.warnings[0].startswith("template.py is not valid Python: line 1")


def test_links_out_of_the_application_are_refused(tmp_path: Path, images: ImageStore) -> None:
    """What a link outside points to would be missing in the image."""
    folder = _write(tmp_path / "app", SOURCES)
    (folder / "passwd").symlink_to("/etc/passwd")
    with pytest.raises(BuildError, match="points out of the application"):
        image.build(folder, "app", images)


def test_sockets_and_the_like_are_refused(tmp_path: Path, images: ImageStore) -> None:
    """Only files, folders and links can stand in an image."""
    folder = _write(tmp_path / "app", SOURCES)
    os.mkfifo(folder / "pipe")
    with pytest.raises(BuildError, match="neither a file nor a folder"):
        image.build(folder, "app", images)


def test_compiled_modules_of_another_machine_are_refused(tmp_path: Path, images: ImageStore) -> None:
    """A shared library that this machine could not load stops the build, not the pod."""
    folder = _write(tmp_path / "app", SOURCES)
    content = bytearray(interpreter.probe().executable.read_bytes()[:4096])
    content[18:20] = (183 if interpreter.probe().machine != "aarch64" else 62).to_bytes(2, "little")
    content[56:58] = (0).to_bytes(2, "little")  # no segments: nothing else to look at
    (folder / "fast.so").write_bytes(content)
    with pytest.raises(BuildError, match=r"fast\.so is made for .*, but this machine is"):
        image.build(folder, "app", images)


# --- the base layer


def test_the_base_layer_is_small_and_whole(tmp_path: Path, images: ImageStore) -> None:
    """Under 60 MB; no tests, no graphics, no installers; accounts, certificates, /tmp, a shell."""
    built = image.build(_write(tmp_path, SOURCES), "app", images)
    members = _members(images, built, "base")
    stdlib = str(interpreter.probe().stdlib).strip("/")
    if interpreter.probe().prefix == Path("/usr"):  # other Pythons may come with symbols for debugging
        assert built.layers[0].size_bytes < 60 << 20
    for folder in ("test", "idlelib", "tkinter", "ensurepip", "lib2to3"):
        assert not any(name.startswith(f"{stdlib}/{folder}/") for name in members)
    assert f"{stdlib}/json/__init__.py" in members
    assert f"{stdlib}/json/__pycache__/__init__.{interpreter.probe().tag}.pyc" in members
    for name in (
        "etc/passwd",
        "etc/group",
        "etc/nsswitch.conf",
        "etc/ssl/certs",
        "usr/bin/python3",
        "usr/bin/sh",
    ):
        assert name in members
    assert members["tmp"].mode == 0o1777
    assert members["home/app"].uid == 65532
    assert b"app:x:65532:65532" in _text(images, built, "base", "etc/passwd")
    assert {m.mtime for m in members.values()} == {0}
    names = list(members)
    assert names == sorted(names, key=lambda name: name.split("/"))


def test_a_virtual_environment_answers_for_its_python(tmp_path: Path) -> None:
    """The Python that a virtual environment was made from is the one that is taken."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv"], check=True)
    inside, outside = interpreter.probe(tmp_path / "venv" / "bin" / "python"), interpreter.probe()
    assert inside == outside
    assert not inside.executable.is_relative_to(tmp_path)


def test_another_prefix_is_taken_as_it_lies(tmp_path: Path) -> None:
    """A Python outside /usr (pyenv, uv) keeps its place, and /usr/bin/python3 leads to it."""
    others = [
        path
        for pattern in ("~/.pyenv/versions/3.1*/bin/python3", "~/.local/share/uv/python/*/bin/python3")
        for path in sorted(Path("~").expanduser().glob(pattern.removeprefix("~/")))
    ]
    working = [path for path in others if interpreter.probe(path).version >= "3.11"]
    if not working:
        pytest.skip("no Python outside /usr is installed (pyenv, uv)")
    python = interpreter.probe(working[-1])
    entries = base.tree(python).entries
    prefix = str(python.prefix).strip("/")
    assert entries["usr/bin/python3"].target == str(python.executable)
    assert f"{prefix}/lib/python{python.version.rpartition('.')[0]}/os.py" in entries
    assert not any("site-packages/" in name for name in entries)


def test_python_that_cannot_run_is_told() -> None:
    """Something that is no Python is an error with a remedy."""
    with pytest.raises(Exception, match=r"/bin/false cannot be used") as caught:
        interpreter.probe(Path("/bin/false"))
    assert getattr(caught.value, "remedy", "")


# --- dependencies, from wheels made here: no package index is asked


def _wheel(folder: Path, name: str, files: dict[str, bytes], *, scripts: str = "") -> Path:
    folder.mkdir(exist_ok=True)
    info = f"{name}-1.0.dist-info"
    contents = {
        **files,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n".encode(),
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: t\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    if scripts:
        contents[f"{info}/entry_points.txt"] = f"[console_scripts]\n{scripts}\n".encode()
    record = "".join(f"{path},,\n" for path in [*contents, f"{info}/RECORD"])
    target = folder / f"{name}-1.0-py3-none-any.whl"
    with zipfile.ZipFile(target, "w") as wheel:
        for path, content in {**contents, f"{info}/RECORD": record.encode()}.items():
            wheel.writestr(path, content)
    return target


def _with_wheels(folder: Path, wheels: Path) -> Path:
    text = f"--no-index\n--find-links {wheels}\nteapot==1.0\n"
    return _write(folder, {"main.py": "import teapot\n", "requirements.txt": text})


@pytest.fixture
def wheels(tmp_path: Path) -> Path:
    sources = {"teapot/__init__.py": b"COLOUR = 'blue'\n", "teapot/broken.py": b"def :\n"}
    _wheel(tmp_path / "wheels", "teapot", sources, scripts="teapot = teapot:main")
    return tmp_path / "wheels"


def _have_pip() -> bool:
    return importlib.util.find_spec("pip") is not None or (
        subprocess.run(
            [interpreter.probe().executable, "-m", "pip", "--version"], capture_output=True, check=False
        ).returncode
        == 0
    )


@pytest.mark.parametrize("installer", ["uv", "pip"])
def test_dependencies_are_a_layer_of_their_own(
    tmp_path: Path, images: ImageStore, wheels: Path, installer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Installed for the image's Python, with bytecode and scripts; made once for the same requirements."""
    if installer == "uv" and shutil.which("uv") is None:
        pytest.skip("uv is not installed")
    if installer == "pip":
        if not _have_pip():
            pytest.skip("pip is not installed")
        monkeypatch.setattr("shutil.which", lambda _: None)
    store = ImageStore(tmp_path / "images")
    shutil.copytree(images.directory, store.directory, dirs_exist_ok=True)
    built = image.build(_with_wheels(tmp_path / "app", wheels), "app", store)
    assert [layer.kind for layer in built.layers] == ["base", "dependencies", "application"]
    members = _members(store, built, "dependencies")
    python = interpreter.probe()
    site = str(python.site).strip("/")
    assert f"{site}/teapot/__pycache__/__init__.{python.tag}.pyc" in members
    assert f"{site}/teapot-1.0.dist-info/METADATA" in members
    assert not any(name.endswith(("INSTALLER", "REQUESTED")) for name in members)
    script = _text(store, built, "dependencies", "usr/local/bin/teapot")
    assert script.startswith(b"#!/usr/bin/python3\n")
    record = _text(store, built, "dependencies", f"{site}/teapot-1.0.dist-info/RECORD").decode()
    assert "teapot/__init__.py" in record
    assert "INSTALLER" not in record
    (tmp_path / "app" / "main.py").write_text("import teapot, sys\n")
    again = image.build(tmp_path / "app", "app", store)
    assert [layer.reused for layer in again.layers] == [True, True, False]
    fresh = ImageStore(tmp_path / "fresh")
    assert image.build(tmp_path / "app", "app", fresh).digest == again.digest


def test_a_failed_install_shows_what_the_installer_said(
    tmp_path: Path, images: ImageStore, wheels: Path
) -> None:
    """The last lines of the installer are in the error."""
    folder = _with_wheels(tmp_path / "app", wheels)
    (folder / "requirements.txt").write_text(f"--no-index\n--find-links {wheels}\nsamovar==9\n")
    with pytest.raises(BuildError, match=r"(?s)cannot be installed:.*samovar"):
        image.build(folder, "app", images)


def test_a_dependency_for_another_machine_is_refused(tmp_path: Path) -> None:
    """What pip fetched for another architecture stops the build."""
    content = bytearray(interpreter.probe().executable.read_bytes()[:4096])
    content[18:20] = (183 if interpreter.probe().machine != "aarch64" else 62).to_bytes(2, "little")
    content[56:58] = (0).to_bytes(2, "little")
    (tmp_path / "fast.so").write_bytes(content)
    with pytest.raises(BuildError, match="is made for"):
        dependencies.tree(tmp_path, interpreter.probe(), set())


def test_archives_are_uncompressed_and_readable(tmp_path: Path, images: ImageStore) -> None:
    """A layer is a plain tar, so that its digest is its diff id."""
    built = image.build(_write(tmp_path, SOURCES), "app", images)
    content = images.blob(built.layers[-1].digest).read_bytes()
    with tarfile.open(fileobj=io.BytesIO(content), mode="r:") as tar:
        assert "app/main.py" in tar.getnames()
