"""Remedies as commands to paste: they keep the user's words and data directory."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from ondol.base import errors
from ondol.compose import hints

_ELSEWHERE = Path("/srv/my data")


@pytest.mark.parametrize(
    ("argv", "data_dir", "expected"),
    [
        (["/opt/venv/bin/ondol", "down"], hints.DEFAULT_DATA_DIR, "sudo ondol down"),
        (["ondol", "down"], _ELSEWHERE, "sudo ondol down --data-dir '/srv/my data'"),
        (["ondol", "down", "--data-dir", "/srv/a"], Path("/srv/a"), "sudo ondol down --data-dir /srv/a"),
        (["ondol", "--data-dir=/srv/a", "down"], Path("/srv/a"), "sudo ondol --data-dir=/srv/a down"),
        (["/usr/lib/ondol/cli/__main__.py", "status"], hints.DEFAULT_DATA_DIR, "sudo ondol status"),
        (["pytest", "-q"], _ELSEWHERE, "run as root"),
    ],
)
def test_the_command_that_was_typed_as_root(
    argv: list[str], data_dir: Path, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder of the environment is named, for sudo drops it; another program's words are not ours."""
    monkeypatch.setattr(sys, "argv", argv)
    assert hints.as_root(data_dir) == expected


def test_ways_out_of_damage_keep_the_folder() -> None:
    """Both commands are for the folder at hand; what the error itself offers comes after them."""
    place = "--data-dir '/srv/my data'"
    ways = (
        f"ondol restore FILE {place} (a backup), or ondol restore --salvage {place} (what can still be read)"
    )
    with pytest.raises(errors.HostError, match="it is gone") as caught, hints.restorable(_ELSEWHERE):
        raise errors.Damaged("it is gone", remedy="to begin with nothing, remove it.lock")
    assert caught.value.remedy == f"{ways}; to begin with nothing, remove it.lock"
    with pytest.raises(errors.HostError) as caught, hints.restorable(hints.DEFAULT_DATA_DIR):
        raise errors.Damaged("row 3 is damaged")
    assert caught.value.remedy.startswith("ondol restore FILE (a backup), or ondol restore --salvage (")
