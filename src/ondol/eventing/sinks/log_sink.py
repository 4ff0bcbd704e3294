"""IntegrationSinks of the type log, in the process `events`: each event is a line of that process's log."""

from __future__ import annotations

from typing import Final

from ondol.api import objects
from ondol.base import log
from ondol.contracts import eventing
from ondol.eventing.exchange import Answer, Incoming
from ondol.eventing.sinks import posting
from ondol.sdk import Manager

LEVELS: Final = ("TRACE", "DEBUG", "INFO", "WARN", "ERROR", "OFF")
NAME: Final = "log-sink"
UNUSED: Final = (
    "logMask",
    "multiline",
    "showAllProperties",
    "showBodyType",
    "showCachedStreams",
    "showExchangePattern",
    "showProperties",
    "showStreams",
)
"""Fields about a route of Camel, which there is none of."""
_BODY_MAX: Final = 4096
"""Bytes of the data that are shown."""


class LogSinks:
    """Answers `POST /<namespace>/<name>` with 204 once the line is written."""

    def __init__(self, manager: Manager) -> None:
        self._sinks = manager.informer(eventing.INTEGRATION_SINK)
        self._log = log.get("integration-sink")

    async def handle(self, incoming: Incoming) -> Answer:
        taken = posting.posted(incoming, eventing.INTEGRATION_SINK, self._sinks.lister)
        if isinstance(taken, Answer):
            return taken
        key, sink, event = taken
        spec = objects.spec(sink).get("log") or {}
        shown: dict[str, object] = {"sink": str(key), "logger": str(spec.get("loggerName") or NAME)}
        if spec.get("marker"):
            shown["marker"] = str(spec["marker"])
        if spec.get("showHeaders"):
            shown["attributes"] = dict(event.attributes)
        else:
            shown |= {"id": event.id, "source": event.source, "type": event.type}
        if spec.get("showBody", True):
            shown["data"] = _text(event.data or b"")
        self._write(str(spec.get("level") or "INFO"), shown)
        return Answer(204)

    def _write(self, level: str, shown: dict[str, object]) -> None:
        if level in {"TRACE", "DEBUG"}:
            self._log.debug("event_taken", **shown)
        elif level == "INFO":
            self._log.info("event_taken", **shown)
        elif level == "WARN":
            self._log.warning("event_taken", **shown)
        elif level == "ERROR":
            self._log.error("event_taken", **shown)


def _text(data: bytes) -> str:
    """Data for people: cut where it is long, and no line breaks that would look like other lines."""
    text = data[:_BODY_MAX].decode("utf-8", "replace")
    return text + (f"... ({len(data)} bytes)" if len(data) > _BODY_MAX else "")
