"""Who may look into the data directory."""

from __future__ import annotations

import stat
from pathlib import Path

from ondol.apiserver.handlers import backups
from ondol.compose import folders


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_folder_made_beforehand_is_closed(tmp_path: Path) -> None:
    """However open it was, and what is in it too, at every start."""
    data = tmp_path / "data"
    for folder in (data, data / "layers", data / "rootfs"):
        folder.mkdir(mode=0o755)
    (data / "config.toml").touch()
    (data / "store.db-wal").touch()
    (data / f"{folders.ASIDE}20260101T000000-x").mkdir(mode=0o700)
    (data / f"{backups.SCRATCH}x").mkdir(mode=0o700)
    for _ in range(2):
        assert folders.prepare(data) == []
        assert {mode(folder) for folder in (data, *(f for f in data.iterdir() if f.is_dir()))} == {0o700}
        data.chmod(0o755)
        (data / "layers").chmod(0o777)


def test_a_folder_that_others_use_stays_open_to_them(tmp_path: Path) -> None:
    """Not so what is the platform's in it."""
    data = tmp_path / "home"
    data.mkdir(mode=0o755)
    (data / "letters").mkdir(mode=0o755)
    assert folders.prepare(data) == ["letters"]
    assert (mode(data), mode(data / "letters"), mode(data / "layers")) == (0o755, 0o755, 0o700)


def test_what_others_keep_there_is_not_removed(tmp_path: Path) -> None:
    """Whoever gave the platform a home keeps the home; a folder of its own goes whole."""
    home, own = tmp_path / "home", tmp_path / "own"
    for data in (home, own):
        data.mkdir()
        folders.prepare(data)
        (data / "instance.json").touch()
        (data / "node.reserve").touch()
    (home / "letters").mkdir()
    (home / "letters" / "first").touch()
    assert (folders.remove(home), folders.remove(own)) == (["letters"], [])
    assert [path.name for path in home.iterdir()] == ["letters"]
    assert (home / "letters" / "first").exists()
    assert not own.exists()
