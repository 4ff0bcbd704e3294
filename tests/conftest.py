"""Fixtures every test may use."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest
import structlog

from ondol.base import log

# How long an example takes says how busy the machine is, not whether the code is right.
hypothesis.settings.register_profile("ondol", deadline=None)
hypothesis.settings.load_profile("ondol")


@pytest.fixture
def anyio_backend() -> str:
    """Async tests run on asyncio, as production does."""
    return "asyncio"


@pytest.fixture(autouse=True)
def restored_logging() -> Iterator[None]:
    """Logging belongs to the process: a test that sets it up hands it on as it found it."""
    before, stream = structlog.get_config(), log._output.stream
    yield
    structlog.configure(**before)
    log._output.stream = stream


class SmallDisk:
    """A file system of its own that can be filled to the last byte."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._ballast = path / "ballast"

    def fill(self) -> None:
        with self._ballast.open("wb", buffering=0) as file:
            for size in (4096, 1):
                with contextlib.suppress(OSError):
                    while file.write(b"x" * size):
                        pass

    def make_room(self) -> None:
        self._ballast.unlink()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[SmallDisk]:
    """Two megabytes; tests that use it are marked `root`."""
    if os.geteuid() != 0:
        pytest.skip("mounting a small file system needs root")
    where = tmp_path / "small"
    where.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", where], check=True)
    yield SmallDisk(where)
    subprocess.run(["umount", where], check=True)
