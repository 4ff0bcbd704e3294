"""Traces: a span for what comes in and for each delivery, in the trace that the sender began.

An event without a trace begins one for a share of events, and of those for a bounded number a
second: a flood of events is not made a flood of spans.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Final

from ondol.api.objects import Object
from ondol.base.clock import Clock
from ondol.contracts import tracing
from ondol.contracts.tracing import Parent
from ondol.eventing.cloudevents.event import Event
from ondol.web.spans import Export, Exporter

Pairs = list[tuple[bytes, bytes]]

TRACEPARENT: Final = b"traceparent"
_KINDS: Final = {"server": 2, "client": 3, "producer": 4, "consumer": 5}
_GATHER_S: Final = 1.0
_SERVICE: Final = "ondol-events"
_FAILURE: Final = 2


@dataclass(slots=True)
class Span:
    """One that is under way."""

    trace_id: str
    span_id: str
    parent_id: str
    kind: str
    start_ns: int
    name: str = ""
    attributes: dict[str, str | int] = field(default_factory=dict)

    def of_event(self, destination: str, event: Event) -> None:
        """Say whose event it is, and where it goes."""
        self.attributes |= {
            "messaging.destination": destination,
            "cloudevents.type": event.type,
            "cloudevents.source": event.source,
            "cloudevents.id": event.id,
        }

    @property
    def traceparent(self) -> bytes:
        return f"00-{self.trace_id}-{self.span_id}-01".encode()


def continued(headers: Pairs, span: Span | None) -> Pairs:
    """The headers with the span as the parent of what follows; as they are where there is none."""
    if span is None:
        return headers
    others = [pair for pair in headers if pair[0] != TRACEPARENT]
    return [*others, (TRACEPARENT, span.traceparent)]


class Tracer:
    """Makes spans and exports them; without `export` it makes none."""

    def __init__(
        self,
        export: Export | None = None,
        *,
        clock: Clock,
        rng: random.Random,
        sampling_percent: float = 100.0,
        roots_per_s_max: int = 50,
    ) -> None:
        self._exporter = None
        if export is not None:
            self._exporter = Exporter(export, clock, service=_SERVICE, gather_s=_GATHER_S)
        self._clock = clock
        self._rng = rng
        self._share = sampling_percent / 100
        self._roots_max = roots_per_s_max
        self._roots = 0
        self._second = 0

    def begin(self, kind: str, headers: Pairs) -> Span | None:
        """A span below the one that the headers name; None for an event that is not traced."""
        if self._exporter is None:
            return None
        header = next((value for name, value in headers if name == TRACEPARENT), b"")
        above = tracing.parent(header.decode("latin-1")) if header else None
        if above is None:
            if not self._begins():
                return None
            trace_id, parent_id = f"{self._rng.getrandbits(128):032x}", ""
        else:
            trace_id, parent_id, is_sampled = above
            if not is_sampled:
                return None
        start_ns = round(self._clock.now() * 1e9)
        span_id = f"{self._rng.getrandbits(64) or 1:016x}"
        return Span(trace_id, span_id, parent_id, kind, start_ns)

    def end(self, span: Span | None, code: int) -> None:
        """It is over; `code` is the answer's."""
        if span is None or self._exporter is None:
            return
        span.attributes["http.response.status_code"] = code
        end_ns = round(self._clock.now() * 1e9)
        self._exporter.add([_document(span, end_ns, is_failure=not 200 <= code < 400)])

    async def run(self) -> None:
        """Export what has ended, until cancelled."""
        if self._exporter is not None:
            await self._exporter.run()

    def _begins(self) -> bool:
        """Whether an event without a trace begins one."""
        second = int(self._clock.monotonic())
        if second != self._second:
            self._second, self._roots = second, 0
        if self._roots >= self._roots_max or self._rng.random() >= self._share:
            return False
        self._roots += 1
        return True


def _document(span: Span, end_ns: int, *, is_failure: bool) -> Object:
    within = Parent(span.trace_id, span.parent_id)
    document = tracing.span(
        within, span.span_id, span.name, kind=_KINDS[span.kind], start_ns=span.start_ns, end_ns=end_ns
    )
    document["attributes"] = [tracing.attribute(name, value) for name, value in span.attributes.items()]
    if is_failure:
        document["status"] = {"code": _FAILURE}
    return document
