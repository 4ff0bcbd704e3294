"""What the xDS server counts, and the families made of it, under the names of Istio's pilot.

`pilot_xds_push_time` is the time from a response's turn until gRPC took it, `pilot_proxy_convergence_time`
the time from the last snapshot's publication until a client had answered all of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from ondol.base import metrics
from ondol.base.metrics import Family, Histogram
from ondol.mesh.xds import types
from ondol.mesh.xds.types import Outcome, Rejected, Response

_TYPES: Final = {
    types.CLUSTER: "cds",
    types.ENDPOINTS: "eds",
    types.SECRET: "sds",
    types.EXTENSION: "ecds",
    types.LISTENER: "lds",
    types.ROUTES: "rds",
}
_SIZE_BYTES: Final = (1.0, 1e3, 1e4, 1e5, 1e6, 4e6, 1e7)
"""Istio's bounds; above 4 MB gRPC's clients refuse a message unless they are told not to."""


@dataclass(slots=True)
class _Pushes:
    """Of one type."""

    count: int = 0
    rejects: int = 0
    seconds: Histogram = field(default_factory=Histogram)
    size_bytes: Histogram = field(default_factory=lambda: Histogram(_SIZE_BYTES))


class Metrics:
    """Counts of one server since its start; types that pilot has no word for are counted by none."""

    def __init__(self) -> None:
        self._pushes = {name: _Pushes() for name in _TYPES.values()}
        self._convergence = Histogram()

    def pushed(self, response: Response, size_bytes: int, seconds: float) -> None:
        if (name := _TYPES.get(response.type_url)) is not None:
            pushes = self._pushes[name]
            pushes.count += 1
            pushes.size_bytes.observe(size_bytes)
            pushes.seconds.observe(seconds)

    def answered(self, outcomes: Sequence[Outcome]) -> None:
        for outcome in outcomes:
            if isinstance(outcome, Rejected) and (name := _TYPES.get(outcome.type_url)) is not None:
                self._pushes[name].rejects += 1

    def converged(self, seconds: float) -> None:
        self._convergence.observe(seconds)

    def families(self, clients: int) -> Iterator[Family]:
        pushes = {(name,): each for name, each in self._pushes.items()}
        kind = ("type",)
        yield metrics.gauge("pilot_xds", "Clients connected.", {(): clients})
        yield metrics.unsuffixed(
            "pilot_xds_pushes", "Responses sent.", {name: each.count for name, each in pushes.items()}, kind
        )
        yield metrics.unsuffixed(
            "pilot_total_xds_rejects",
            "Resources that clients refused.",
            {name: each.rejects for name, each in pushes.items()},
            kind,
        )
        yield metrics.histogram(
            "pilot_xds_push_time",
            "Seconds it took to send a response.",
            {name: each.seconds for name, each in pushes.items()},
            kind,
        )
        yield metrics.histogram(
            "pilot_xds_config_size_bytes",
            "Bytes of a response.",
            {name: each.size_bytes for name, each in pushes.items()},
            kind,
        )
        yield metrics.histogram(
            "pilot_proxy_convergence_time",
            "Seconds from a snapshot's publication until a client had answered all of it.",
            {(): self._convergence},
        )
