"""Structured logs: one event a line, named by a verb in the past, with its facts as keys."""

from __future__ import annotations

import contextlib
import logging
import sys
from typing import Final, TextIO, cast

import structlog

Logger = structlog.typing.FilteringBoundLogger


class _Forgiving:
    """A stream that drops lines it cannot write, so that a full disk does not stop what is logged."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def write(self, text: str) -> int:
        with contextlib.suppress(OSError):
            self.stream.write(text)
        return len(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError):
            self.stream.flush()


# One for all loggers, so that those created before `configure` write to its stream too.
_output: Final = _Forgiving(sys.stderr)


def configure(*, level: str = "info", json: bool = False, stream: TextIO | None = None) -> None:
    """Set up logging for this process, to stderr or `stream`; called by whoever owns the process."""
    _output.stream = sys.stderr if stream is None else stream
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer()
        if json
        else structlog.dev.ConsoleRenderer(
            colors=False,
            # Others, taken when their package happens to be there, print local variables: secrets, and
            # documents so large that the process stands still over them.
            exception_formatter=structlog.dev.plain_traceback,
        )
    )
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info if json else _keep,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
        logger_factory=structlog.WriteLoggerFactory(cast("TextIO", _output)),
        cache_logger_on_first_use=True,
    )


def get(part: str) -> Logger:
    """A logger bound to the name of a part of the platform."""
    logger: Logger = structlog.get_logger().bind(part=part)
    return logger


def _keep(
    _logger: structlog.typing.WrappedLogger, _name: str, event: structlog.typing.EventDict
) -> structlog.typing.EventDict:
    return event
