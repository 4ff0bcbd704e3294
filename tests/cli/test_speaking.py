"""What the commands that speak with pods make of their words."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path
from typing import Any

import pytest
from tests.cli.commands import one_line, run

from ondol.base import errors
from ondol.cli import cp, port_forward
from ondol.cli.cp import Place
from ondol.cli.output import UsageError

POD = {"spec": {"containers": [{"ports": [{"name": "http", "containerPort": 8080}]}]}}
SERVICE = {
    "metadata": {"name": "web"},
    "spec": {"ports": [{"name": "web", "port": 80, "targetPort": "http"}, {"port": 81}]},
}


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("file", Place("file")),
        ("./a:b", Place("./a:b")),
        ("/tmp/a:b", Place("/tmp/a:b")),
        ("web:/etc/hosts", Place("/etc/hosts", "web")),
        ("web:hosts", Place("hosts", "web")),
        ("shop/web:/a:b", Place("/a:b", "web", "shop")),
    ],
)
def test_places(text: str, place: Place) -> None:
    """Here, or in a pod, of a namespace perhaps."""
    assert cp.place(text) == place


@pytest.mark.parametrize("words", [("a", "b"), ("a:/x", "b:/y"), (":x", "y"), ("a:", "y")])
def test_places_that_are_none(words: tuple[str, str]) -> None:
    """One of the two is in a pod."""
    result = run("cp", *words)
    assert result.exit_code == 2
    assert one_line(result)


@pytest.mark.parametrize(
    ("text", "service", "port"),
    [
        ("8080", None, 8080),
        ("http", None, 8080),
        ("80", SERVICE, 8080),
        ("web", SERVICE, 8080),
        ("81", SERVICE, 81),
    ],
)
def test_ports(text: str, service: Any, port: int) -> None:
    """By number or name, of the pod or of its Service."""
    assert port_forward.remote_port(text, POD, service) == port


@pytest.mark.parametrize(("text", "service"), [("none", None), ("0", None), ("70000", None), ("82", SERVICE)])
def test_ports_that_are_none(text: str, service: Any) -> None:
    """Are wrong usage."""
    with pytest.raises(UsageError):
        port_forward.remote_port(text, POD, service)


def _archive(*names: str, link: str = "") -> io.BytesIO:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as members:
        for name in names:
            member = tarfile.TarInfo(name)
            member.size = 1
            members.addfile(member, io.BytesIO(b"x"))
        if link:
            member = tarfile.TarInfo(link)
            member.type, member.linkname = tarfile.SYMTYPE, "/etc/passwd"
            members.addfile(member)
    file.seek(0)
    return file


def test_what_is_unpacked(tmp_path: Path) -> None:
    """Under its new name, in a folder if there is one; links are left out, with a word."""
    cp._unpack(_archive("dir/a", "dir/deep/b", link="dir/l"), "dir", tmp_path / "new")
    assert sorted(p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("?")) == ["new/a", "new/deep/b"]
    (tmp_path / "there").mkdir()
    cp._unpack(_archive("dir/a"), "dir", tmp_path / "there")
    assert (tmp_path / "there" / "dir" / "a").exists()


def test_what_a_link_leads_to_is_not_written(tmp_path: Path) -> None:
    """Neither a folder nor a file that somebody linked into the target."""
    target = tmp_path / "new"
    (target / "dir").mkdir(parents=True)
    for link in ("sub", "file"):
        (target / "dir" / link).symlink_to(Path("/") / "nonexistent" if link == "file" else "/var/tmp")
    with pytest.raises(errors.BadRequest):
        cp._unpack(_archive("dir/sub/a"), "dir", target)
    with pytest.raises(OSError, match="symbolic links"):
        cp._unpack(_archive("dir/file"), "dir", target)


@pytest.mark.parametrize("name", ["../up", "dir/../../up", "/tmp/up", "other"])
def test_what_leads_elsewhere(tmp_path: Path, name: str) -> None:
    """A container that names other paths than those it was asked for writes nothing."""
    with pytest.raises(errors.BadRequest):
        cp._unpack(_archive(name), "dir", tmp_path / "new")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "words",
    [("exec", "web"), ("port-forward", "web"), ("debug", "web", "--image", "i", "--env", "x")],
)
def test_words_that_are_missing(words: tuple[str, ...]) -> None:
    """Are said in one line, before any server is asked."""
    result = run(*words, "--kubeconfig", "/nonexistent")
    assert result.exit_code != 0
    assert one_line(result)
