"""A function's folder as an image: what starts it, what stays out, and when its name changes."""

from __future__ import annotations

import tarfile
from pathlib import Path
from typing import Any

import pytest

from ondol.base import errors
from ondol.build.store import ImageStore
from ondol.compose.functions import building, folder


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> ImageStore:
    """A store for this module: the base layer is made once, as on a user's machine."""
    return ImageStore(tmp_path_factory.mktemp("data") / "images")


def created(path: Path, template: str = "http") -> folder.Folder:
    return folder.create(path, "python", template, 0.0, lambda _: None)


def test_a_python_function_is_started_as_a_module(images: ImageStore, tmp_path: Path) -> None:
    """Of our server, with its files beside the function's; func.yaml stays out."""
    built = building.build(created(tmp_path / "f"), images, "ns")
    config: Any = images.config(built.digest)["config"]
    assert (config["Entrypoint"], config["Cmd"]) == (["/usr/bin/python3"], ["-m", "ondol_function"])
    assert "PYTHONPATH=/app:/opt/ondol/lib" in config["Env"]
    members: set[str] = set()
    for layer in built.layers[1:]:
        with tarfile.open(images.blob(layer.digest)) as tar:
            members |= {member.name for member in tar.getmembers()}
    assert {"app/function/func.py", "opt/ondol/lib/ondol_function/serving.py"} < members
    assert not any(name.startswith(("app/func.yaml", "app/.func")) for name in members)


def test_an_image_has_the_name_of_its_content(images: ImageStore, tmp_path: Path) -> None:
    """What func.yaml remembers changes nothing, a changed line of code does; `latest` is the newest."""
    function = created(tmp_path / "f")
    first = building.build(function, images, "ns")
    assert first.reference.startswith("ondol.local/ns/f:")
    function.changed(namespace="elsewhere").save()
    again = building.build(folder.load(function.path), images, "ns")
    assert again.reference == first.reference
    with (function.path / "function" / "func.py").open("a", encoding="utf-8") as file:
        file.write("\n# more\n")
    changed = building.build(function, images, "ns")
    assert changed.reference != first.reference
    assert [layer.reused for layer in changed.layers] == [True, True, False]
    latest = images.find("ondol.local/ns/f:latest")
    assert latest is not None
    assert latest.digest == changed.digest


@pytest.mark.parametrize(
    ("dependency", "brings"),
    [("func-python", True), ("func_python>=0.8", True), ("func-python-extras", False), ("httpx", False)],
)
def test_a_function_may_bring_its_own_server(tmp_path: Path, dependency: str, brings: bool) -> None:
    """By asking for it as any dependency."""
    function = created(tmp_path / "f")
    file = function.path / "pyproject.toml"
    text = file.read_text(encoding="utf-8")
    file.write_text(text.replace("dependencies = []", f'dependencies = ["{dependency}"]'), encoding="utf-8")
    assert building.brings_server(function) is brings
    words = building._python(function).arguments
    assert words == ("-m", "ondol_function", *(("func-python",) if brings else ()))


def test_a_function_of_events_says_so_to_its_server(tmp_path: Path) -> None:
    """As its template has it."""
    assert building._python(created(tmp_path / "f", "cloudevents")).arguments[2:] == ("cloudevent",)


def test_variables_of_a_build_come_from_this_machine(tmp_path: Path) -> None:
    """One that is missing is named."""
    function = created(tmp_path / "f")
    with (function.path / "func.yaml").open("a", encoding="utf-8") as file:
        file.write("build: {buildEnvs: [{name: A, value: '{{ env:HERE }}'}, {name: B, value: b}]}\n")
    loaded = folder.load(function.path)
    assert building._build_environment(loaded, {"HERE": "x"}) == {"A": "x", "B": "b"}
    with pytest.raises(errors.HostError, match="HERE, which is not set"):
        building._build_environment(loaded, {})


@pytest.mark.parametrize("name", [".func", ".gitignore"])
def test_nothing_is_written_where_a_link_leads(tmp_path: Path, name: str) -> None:
    """A folder that somebody else made could have us write anywhere."""
    function = created(tmp_path / "f")
    outside = tmp_path / "outside"
    link = function.path / name
    if name == ".func":
        link.rmdir()
        outside.mkdir()
    else:
        link.unlink()
        outside.write_text("as it was")
    link.symlink_to(outside)
    with pytest.raises(errors.HostError, match="is a link"):
        _ = function.own
    assert outside.is_dir() or outside.read_text() == "as it was"
