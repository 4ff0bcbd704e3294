"""What every test of the command line begins with."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    """No colours, wide lines, nobody's environment."""
    for name in ("ONDOL_DATA_DIR", "ONDOL_API_PORT", "KUBECONFIG", "SUDO_UID"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("TERM", "dumb")
