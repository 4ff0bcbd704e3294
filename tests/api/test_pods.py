"""What a pod's document says of it."""

from __future__ import annotations

from pathlib import Path

import pytest

import ondol
from ondol.api import pods


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        ({}, False),
        ({"phase": "Pending"}, False),
        ({"phase": "Running"}, False),
        ({"phase": "Unknown"}, False),
        ({"phase": "Succeeded"}, True),
        ({"phase": "Failed"}, True),
    ],
)
def test_which_pods_have_ended(status: dict[str, str], expected: bool) -> None:
    """Those whose containers have ended for good."""
    assert pods.is_terminal({"status": status}) == expected


def test_nobody_else_says_which_phases_are_terminal() -> None:
    """Whoever needs to know asks here: the two words stand side by side in one place."""
    root = Path(ondol.__file__).parent
    files = [file for file in sorted(root.rglob("*.py")) if '"Succeeded", "Failed"' in file.read_text()]
    assert files == [root / "api/pods.py"]
