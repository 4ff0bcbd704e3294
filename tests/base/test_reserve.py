"""Space that is kept for the moment when the disk is full."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from ondol.base.reserve import Reserve


class Disk:
    """Writes fail for want of space while the reserve stands, and for as long as `too_little`."""

    def __init__(self, path: Path, number: int = errno.ENOSPC, *, too_little: bool = False) -> None:
        self.path = path
        self.number = number
        self.too_little = too_little
        self.attempts = 0

    def write(self) -> str:
        self.attempts += 1
        if self.path.exists() or self.too_little:
            raise OSError(self.number, "no")
        return "written"


def test_space_is_taken_and_given_up(tmp_path: Path) -> None:
    """The whole size is on the disk while it is taken; a second call of either changes nothing."""
    path = tmp_path / "reserve"
    reserve = Reserve(path, 64 * 1024)
    assert reserve.take()
    assert path.stat().st_blocks * 512 >= 64 * 1024
    assert reserve.take()
    assert reserve.give_up()
    assert not reserve.give_up()
    assert list(tmp_path.iterdir()) == []


def test_no_half_of_it_stays(tmp_path: Path) -> None:
    """Where there is no room for it (here: no file may be that large) nothing of it is left."""
    reserve = Reserve(tmp_path / "reserve", 1 << 62)
    assert not reserve.take()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_write_on_a_full_disk_uses_the_reserve(tmp_path: Path, number: int) -> None:
    """It is tried once more in the space of the reserve, which is then gone until it is taken again."""
    disk = Disk(tmp_path / "reserve", number)
    reserve = Reserve(disk.path, 4096)
    reserve.take()
    assert reserve.write(disk.write) == "written"
    assert disk.attempts == 2
    assert not disk.path.exists()
    assert reserve.take()


def test_a_write_without_a_reserve_fails(tmp_path: Path) -> None:
    """Once, as the system says it; so does one that the reserve was too small for, and any other error."""
    disk = Disk(tmp_path / "reserve", too_little=True)
    reserve = Reserve(disk.path, 4096)
    with pytest.raises(OSError, match="no"):
        reserve.write(disk.write)
    assert disk.attempts == 1
    reserve.take()
    with pytest.raises(OSError, match="no"):
        reserve.write(disk.write)
    assert disk.attempts == 3
    reserve.take()
    denied = Disk(disk.path, errno.EACCES)
    with pytest.raises(OSError, match="no"):
        reserve.write(denied.write)
    assert denied.attempts == 1
    assert disk.path.exists()
