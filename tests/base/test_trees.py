"""Trees of any depth and shape go; what is linked or mounted stays."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ondol.base import trees
from ondol.node import linux

_NAMES = st.sampled_from(["a", "b", ".c", "d e", "é"])
_TREES = st.recursive(
    st.sampled_from(["file", "link", "dangling"]),
    lambda inner: st.dictionaries(_NAMES, inner, max_size=4),
    max_leaves=30,
)


def _grow(at: Path, tree: object, outside: Path) -> None:
    if isinstance(tree, dict):
        at.mkdir()
        for name, inner in tree.items():
            _grow(at / name, inner, outside)
    elif tree == "file":
        at.write_text("x")
    else:
        at.symlink_to(outside if tree == "link" else "nowhere")


@given(st.dictionaries(_NAMES, _TREES, max_size=4))
@settings(max_examples=60, deadline=None)
def test_all_of_a_tree_goes_and_nothing_else(tree: dict[str, object]) -> None:
    """A link below goes itself, and what it leads to stays."""
    with tempfile.TemporaryDirectory() as scratch:
        outside = Path(scratch, "outside")
        outside.mkdir()
        (outside / "precious").write_text("x")
        _grow(Path(scratch, "tree"), tree, outside)
        trees.remove(Path(scratch, "tree"))
        assert [entry.name for entry in Path(scratch).iterdir()] == ["outside"]
        assert (outside / "precious").read_text() == "x"


def test_a_tree_may_be_deeper_than_any_stack(tmp_path: Path) -> None:
    """Five thousand folders, one within the other, whose path is longer than the system takes."""
    folder = os.open(tmp_path, os.O_RDONLY)
    for name in ["tree", *["deeper"] * 5000]:
        os.mkdir(name, dir_fd=folder)
        inner = os.open(name, os.O_RDONLY, dir_fd=folder)
        os.close(folder)
        folder = inner
    os.close(folder)
    trees.remove(tmp_path / "tree")
    assert not (tmp_path / "tree").exists()


def test_what_is_missing_is_removed_already(tmp_path: Path) -> None:
    """Nothing is raised."""
    trees.remove(tmp_path / "tree")


def test_a_link_or_a_file_is_no_tree(tmp_path: Path) -> None:
    """Neither the link nor what it leads to is touched."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("folder")
    (tmp_path / "file").touch()
    for name in ("link", "file"):
        with pytest.raises(NotADirectoryError):
            trees.remove(tmp_path / name)
    assert len(list(tmp_path.iterdir())) == 3


@pytest.mark.root
@pytest.mark.parametrize("place", ["mount", "inner/mount"])
@pytest.mark.parametrize("is_bound", [False, True])
def test_what_is_mounted_below_is_not_lost(tmp_path: Path, place: str, is_bound: bool) -> None:
    """The mount and its files stay, of the same file system too, and whoever removes the tree hears of it."""
    point = tmp_path / "tree" / place
    point.mkdir(parents=True)
    if is_bound:
        (tmp_path / "outside").mkdir()
        linux.mount(str(tmp_path / "outside"), str(point), "", linux.MS_BIND)
    else:
        linux.mount("tmpfs", str(point), "tmpfs")
    (point / "precious").touch()
    try:
        with pytest.raises(OSError, match="busy"):
            trees.remove(tmp_path / "tree")
        mounts = linux.mounts_below(str(tmp_path))
        assert len(mounts) == 1
        assert [entry.name for entry in Path(mounts[0]).iterdir()] == ["precious"]
    finally:
        linux.unmount_all(str(point))
