"""Logs: lines while they can be written, silence while they cannot."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from ondol.base import log


@pytest.fixture(autouse=True)
def unconfigured() -> Iterator[None]:
    """No test leaves its stream behind."""
    yield
    structlog.reset_defaults()


def test_a_line_names_the_part_the_event_and_its_facts(monkeypatch: pytest.MonkeyPatch) -> None:
    """One event is one line."""
    stream = io.StringIO()
    monkeypatch.setattr("sys.stderr", stream)
    log.configure()
    log.get("node").info("pod_started", pod="shop/cart")
    (line,) = stream.getvalue().splitlines()
    assert "pod_started" in line
    assert "part=node" in line
    assert "pod=shop/cart" in line


def test_a_full_disk_stops_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """What cannot be written is lost, and the one who logs goes on."""
    full = Path("/dev/full").open("w", buffering=1, encoding="utf-8")  # noqa: SIM115 - closing it fails
    monkeypatch.setattr("sys.stderr", full)
    log.configure()
    logger = log.get("node")
    for _ in range(1000):
        logger.info("pod_started", pod="shop/cart")
    with contextlib.suppress(OSError):
        full.close()
