"""The application as Python in the image knows it: its metadata, and what a back end builds of it."""

from __future__ import annotations

import importlib.metadata
import tarfile
from pathlib import Path

import pytest

from ondol.build import application, base, distribution, image, interpreter, project
from ondol.build.errors import BuildError
from ondol.build.image import Built
from ondol.build.store import ImageStore

STATIC = """
[project]
name = "My.Shop"
version = "1.2"
description = "A shop"
requires-python = ">=3.11"
dependencies = ["six>=1.16"]
scripts = {shop = "shop.main:run"}
entry-points = {"shop.plugins" = {cart = "shop.cart:Cart"}}
"""
BACKEND = """
import os, zipfile
def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    name = "shop-3.4-py3-none-any.whl"
    files = {
        "shop/__init__.py": open("source.py").read(),
        "shop-3.4.dist-info/METADATA": "Metadata-Version: 2.1\\nName: shop\\nVersion: 3.4\\n"
            "Requires-Dist: a\\nRequires-Dist: b; extra == 'x'\\n",
        "shop-3.4.dist-info/WHEEL": "Wheel-Version: 1.0\\nGenerator: t\\n"
            "Root-Is-Purelib: true\\nTag: py3-none-any\\n",
        "shop-3.4.dist-info/entry_points.txt": "[console_scripts]\\nserve = shop:main\\n",
    }
    record = "".join(f"{path},,\\n" for path in [*files, "shop-3.4.dist-info/RECORD"])
    with zipfile.ZipFile(os.path.join(wheel_directory, name), "w") as wheel:
        for path, text in {**files, "shop-3.4.dist-info/RECORD": record}.items():
            wheel.writestr(path, text)
    return name
"""
DYNAMIC = """
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]
[project]
name = "shop"
dynamic = ["version", "dependencies", "scripts"]
"""


def _write(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


def _names(store: ImageStore, built: Built, kind: str) -> set[str]:
    layer = next(layer for layer in built.layers if layer.kind == kind)
    with tarfile.open(store.blob(layer.digest)) as tar:
        return {member.name for member in tar.getmembers() if member.isfile()}


def test_a_static_project_is_known_to_python(tmp_path: Path) -> None:
    """`importlib.metadata` reads name, version, requirements and entry points as the author gave them."""
    application = project.read(_write(tmp_path / "app", {"pyproject.toml": STATIC}))
    assert not application.needs_build
    home = _write(tmp_path / "image", distribution.metadata_files(application))
    [installed] = importlib.metadata.distributions(path=[str(home)])
    assert (installed.metadata["Name"], installed.version) == ("My.Shop", "1.2")
    assert installed.requires == ["six>=1.16"]
    points = {(point.group, point.name): point.value for point in installed.entry_points}
    assert points == {
        ("console_scripts", "shop"): "shop.main:run",
        ("shop.plugins", "cart"): "shop.cart:Cart",
    }


def test_the_metadata_goes_into_the_image(tmp_path: Path, images: ImageStore) -> None:
    """Beside the sources, which are on Python's path; a folder that names no project has none."""
    folder = _write(tmp_path / "app", {"pyproject.toml": STATIC.replace('"six>=1.16"', ""), "main.py": ""})
    built = image.build(folder, "app", images)
    assert "app/my_shop-1.2.dist-info/METADATA" in _names(images, built, "application")
    assert distribution.metadata_files(project.read(_write(tmp_path / "plain", {"main.py": ""}))) == {}


@pytest.mark.parametrize(
    ("files", "needs_build"),
    [
        ({"setup.py": ""}, True),
        ({"setup.cfg": ""}, True),
        ({"pyproject.toml": "[tool.poetry]\nname = 'x'"}, True),
        ({"pyproject.toml": DYNAMIC}, True),
        ({"pyproject.toml": STATIC, "setup.py": ""}, True),
        ({"pyproject.toml": STATIC}, False),
        ({"pyproject.toml": "[tool.ruff]"}, False),
        ({"main.py": ""}, False),
    ],
)
def test_who_needs_a_back_end(tmp_path: Path, files: dict[str, str], needs_build: bool) -> None:
    """Only what `[project]` cannot say is built: it costs seconds where the rest costs none."""
    assert project.read(_write(tmp_path, files)).needs_build is needs_build


def test_a_dynamic_project_is_built(tmp_path: Path, images: ImageStore) -> None:
    """The wheel's content goes before the sources; its script starts the image; nothing stays behind."""
    files = {"pyproject.toml": DYNAMIC, "backend.py": BACKEND, "source.py": "def main(): print('hi')\n"}
    folder = _write(tmp_path / "app", {**files, "requirements.txt": "# none\n"})
    built = image.build(folder, "app", images)
    assert built.command == ("/usr/local/bin/serve",)
    assert {"opt/project/shop/__init__.py", "opt/project/shop-3.4.dist-info/METADATA"} <= _names(
        images, built, "project"
    )
    environment = dict(pair.split("=", 1) for pair in images.config(built.digest)["config"]["Env"])
    assert environment["PYTHONPATH"] == "/opt/project:/app"
    again = image.build(folder, "app", images)
    assert next(layer.reused for layer in again.layers if layer.kind == "project")
    assert again.digest == built.digest
    (folder / "source.py").write_text("def main(): print('ho')\n")
    changed = image.build(folder, "app", images)
    assert not next(layer.reused for layer in changed.layers if layer.kind == "project")
    assert sorted(path.name for path in folder.iterdir()) == sorted([*files, "requirements.txt"])


def test_requirements_of_the_wheel(tmp_path: Path, images: ImageStore) -> None:
    """Without a requirements file they are what the wheel names, its extras aside."""
    files = {"pyproject.toml": DYNAMIC, "backend.py": BACKEND, "source.py": "main = None\n"}
    read = project.read(_write(tmp_path / "app", files))
    python = interpreter.probe()
    with images.building():
        base.layer(images, python, epoch_s=0)
        wheel = distribution.built(images, read, application.sources(read), python, epoch_s=0)
    assert project.requirement_lines(wheel.project) == ["a"]
    assert (wheel.project.version, wheel.project.scripts) == ("3.4", {"serve": "shop:main"})


def test_a_back_end_that_fails_is_told(tmp_path: Path, images: ImageStore) -> None:
    """Its last lines, and which files to look at."""
    backend = "def build_wheel(*a, **k): raise RuntimeError('no version for you')\n"
    folder = _write(tmp_path / "app", {"pyproject.toml": DYNAMIC, "backend.py": backend})
    with pytest.raises(BuildError, match="no version for you"):
        image.build(folder, "app", images)
