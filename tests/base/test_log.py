"""Logs: lines while they can be written, silence while they cannot."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path

import pytest

from ondol.base import log

SECRET = "hunter2"


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


def test_a_traceback_shows_no_local_variables() -> None:
    """Passwords and tokens are local variables of something: a failure that is logged must not tell them."""
    stream = io.StringIO()
    log.configure(stream=stream)

    def fail(password: str) -> None:
        raise ZeroDivisionError(len(password))

    try:
        fail(SECRET)
    except ZeroDivisionError as error:
        log.get("apiserver").error("request_failed", exc_info=error)
    assert "ZeroDivisionError: 7" in stream.getvalue()
    assert SECRET not in stream.getvalue()
