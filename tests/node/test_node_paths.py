"""Paths a container decides on: links, `..`, and folders that become links while they are looked at."""

from __future__ import annotations

import ctypes
import os
import random
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ondol.base import errors
from ondol.node import linux, paths
from ondol.node.pods import staging
from ondol.node.volumes import sub_path
from ondol.node.volumes.volume import VolumeFailed

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: owners and mounts")
_EXCHANGE = 2
_AT_FDCWD = -100


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    (root / "a/b").mkdir(parents=True)
    links = {
        "relative": "a/b",
        "absolute": "/a",
        "up": "a/../../outside",
        "magic": "/proc/self/root",
        "round": "round",
    }
    for name, target in links.items():
        (root / name).symlink_to(target)
    (root / "file").write_text("x")
    (tmp_path / "outside").mkdir()
    return root


def leads(root: Path, path: str, *, as_root: bool) -> str:
    with paths.opened(root, path, as_root=as_root) as descriptor:
        return os.path.relpath(Path(paths.by_descriptor(descriptor)).readlink(), root)


@pytest.mark.parametrize(
    ("path", "beneath", "as_root"),
    [
        ("", ".", "."),
        ("a/b", "a/b", "a/b"),
        ("a//./b/", "a/b", "a/b"),
        ("a/b/..", "a", "a"),
        ("relative", "a/b", "a/b"),
        ("relative/../b", "a/b", "a/b"),
        ("absolute/b", "escapes", "a/b"),
        ("/a", "escapes", "a"),
        ("..", "escapes", "."),
        ("a/../..", "escapes", "."),
        ("up", "escapes", "missing"),
        ("magic", "escapes", "missing"),
        ("nothing", "missing", "missing"),
        ("file/x", "no folder", "no folder"),
        ("round", "endless", "endless"),
    ],
)
def test_where_a_path_leads(tree: Path, path: str, beneath: str, as_root: str) -> None:
    """Below a volume nothing leads out; in an image everything is read as its own processes read it."""
    failures: dict[str, type[Exception]] = {
        "escapes": paths.PathEscapes,
        "missing": FileNotFoundError,
        "no folder": NotADirectoryError,
        "endless": errors.Invalid,
    }
    for outcome, is_root in ((beneath, False), (as_root, True)):
        if outcome in failures:
            with pytest.raises(failures[outcome]):
                leads(tree, path, as_root=is_root)
        else:
            assert leads(tree, path, as_root=is_root) == outcome


def test_only_regular_files_are_read(tree: Path) -> None:
    """A FIFO is not waited for, a folder is none, and a link leads to the image's own file."""
    os.mkfifo(tree / "fifo")
    (tree / "to").symlink_to("/file")
    assert [paths.read(tree, name) for name in ("fifo", "a", "none", "file/x")] == [None] * 4
    assert paths.read(tree, "to") == b"x"


@needs_root
def test_missing_folders_are_made_like_the_volume(tmp_path: Path) -> None:
    """A missing subPath has the mode and the group of its volume, whatever the umask; so others can write."""
    volume = tmp_path / "v"
    volume.mkdir()
    os.chown(volume, 0, 4321)
    volume.chmod(0o2777)
    with sub_path.opened(volume, "new/deep"):
        pass
    for folder in (volume / "new", volume / "new/deep"):
        assert (stat.S_IMODE(folder.stat().st_mode), folder.stat().st_gid) == (0o2777, 4321)


@pytest.mark.parametrize(
    "path", ["/etc", "..", "a/../../x", "out", "out/x", "root/etc", "deep/out", "file/x"]
)
def test_sub_paths_stay_in_their_volume(tmp_path: Path, path: str) -> None:
    """No spelling and no link of a volume leads out of it, and nothing is made outside."""
    volume = tmp_path / "v"
    (volume / "deep").mkdir(parents=True)
    (volume / "file").touch()
    for name, target in (("out", "/etc"), ("root", "/proc/self/root"), ("deep/out", "../../x")):
        (volume / name).symlink_to(target)
    with pytest.raises(VolumeFailed), sub_path.opened(volume, path):
        pass
    assert [entry.name for entry in tmp_path.iterdir()] == ["v"]


@contextmanager
def swapping(one: Path, other: Path) -> Iterator[None]:
    """Exchange two names again and again, as a hostile container does.

    At irregular moments: at a steady pace the walk, which waits for the same interpreter, can fall into
    step and meet one of the two alone.
    """
    library, is_over, rng = ctypes.CDLL(None), threading.Event(), random.Random(1)

    def swap() -> None:
        while not is_over.is_set():
            library.renameat2(_AT_FDCWD, bytes(one), _AT_FDCWD, bytes(other), _EXCHANGE)
            is_over.wait(rng.choice((0.0, 0.0, 0.00005, 0.0005)))

    thread = threading.Thread(target=swap)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()


@needs_root
@pytest.mark.parametrize("target", ["/", "../../..", "/proc/self/root", "/proc/self/cwd"])
def test_a_folder_swapped_for_a_link_is_never_followed_out(tmp_path: Path, target: str) -> None:
    """However often a folder and a link change places meanwhile, what is mounted is of the volume."""
    volume = tmp_path / "v"
    (volume / "x/y").mkdir(parents=True)
    (volume / "x/y/mark").touch()
    (volume / "link").symlink_to(target)
    place = staging.place_of(tmp_path / "run", "c")
    mounted = 0
    with swapping(volume / "x", volume / "link"):
        for number in range(30_000):
            if (
                number >= 300 and mounted
            ):  # on a busy machine the folder may be away at each of the first looks
                break
            try:
                with sub_path.opened(volume, "x/y") as descriptor:
                    mount = place.put(descriptor)
            except VolumeFailed:
                continue
            try:
                assert (mount / "mark").exists()
                mounted += 1
            finally:
                place.give_back()
    assert mounted
    assert linux.mounts_below(str(tmp_path)) == []


@needs_root
def test_staged_files_and_folders_are_given_back_untouched(tmp_path: Path) -> None:
    """A file, a folder and a FIFO are mounted as they are; giving back removes places, not content."""
    volume = tmp_path / "v"
    (volume / "folder").mkdir(parents=True)
    (volume / "folder/kept").write_text("kept")
    (volume / "file").write_text("text")
    os.mkfifo(volume / "fifo")
    place = staging.place_of(tmp_path / "run", "c")
    kinds = []
    for name in ("folder", "file", "fifo"):
        with sub_path.opened(volume, name) as descriptor:
            kinds.append(stat.S_IFMT(place.put(descriptor).stat().st_mode))
    assert kinds == [stat.S_IFDIR, stat.S_IFREG, stat.S_IFIFO]
    assert [left.folder for left in staging.existing(tmp_path / "run")] == [place.folder]
    place.give_back()
    assert (volume / "folder/kept").read_text() == "kept"
    assert staging.existing(tmp_path / "run") == []
    assert linux.mounts_below(str(tmp_path)) == []
