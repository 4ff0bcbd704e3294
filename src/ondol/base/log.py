"""Structured logs: one event a line, named by a verb in the past, with its facts as keys."""

from __future__ import annotations

import contextlib
import logging
import sys
from typing import TextIO, cast

import structlog

Logger = structlog.typing.FilteringBoundLogger


class _Forgiving:
    """A stream whose lines are lost when they cannot be written: on a full disk, what is told of goes on."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        with contextlib.suppress(OSError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError):
            self._stream.flush()


def configure(*, level: str = "info", json: bool = False) -> None:
    """Set up logging for this process; called once, by whoever owns the process."""
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer() if json else structlog.dev.ConsoleRenderer(colors=False)
    )
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info if json else _keep,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
        logger_factory=structlog.WriteLoggerFactory(cast("TextIO", _Forgiving(sys.stderr))),
        cache_logger_on_first_use=True,
    )


def get(part: str) -> Logger:
    """A logger bound to the part of the platform that speaks."""
    logger: Logger = structlog.get_logger().bind(part=part)
    return logger


def _keep(
    _logger: structlog.typing.WrappedLogger, _name: str, event: structlog.typing.EventDict
) -> structlog.typing.EventDict:
    return event
