"""What the SDK counts, and the families made of it: work queues, reconciles, informers, events.

Names and labels are those of client-go and controller-runtime where they have one. Counting is plain
addition in the event loop; families are made when a page is asked for.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from ondol.api.objects import Resource
from ondol.base import metrics
from ondol.base.metrics import Family, Histogram, LabelValues


@dataclass(slots=True)
class QueueMetrics:
    """Of one work queue since its start; seconds by key."""

    adds: int = 0
    retries: int = 0
    waited: Histogram = field(default_factory=lambda: Histogram(metrics.WORK_S))
    worked: Histogram = field(default_factory=lambda: Histogram(metrics.WORK_S))


@dataclass(slots=True)
class ControllerMetrics:
    """Of one controller since its start."""

    reconciles: int = 0
    errors: int = 0
    terminal: int = 0
    requeued_after: int = 0
    """Reconciles that asked to be called again after a time."""
    delayed: int = 0
    """Reconciles put off until the informers showed the key's own writes."""
    seconds: Histogram = field(default_factory=Histogram)


class _Queue(Protocol):
    metrics: QueueMetrics

    def __len__(self) -> int: ...


class _Controller(Protocol):
    name: str
    metrics: ControllerMetrics

    @property
    def queue(self) -> _Queue: ...


class _Informer(Protocol):
    @property
    def resource(self) -> Resource: ...

    def counts(self) -> Mapping[str, int]: ...


def of_queues(controllers: Iterable[_Controller]) -> Iterator[Family]:
    queues = {(controller.name,): controller.queue for controller in controllers}
    names = ["name"]
    depth = {name: len(queue) for name, queue in queues.items()}
    adds = {name: queue.metrics.adds for name, queue in queues.items()}
    retries = {name: queue.metrics.retries for name, queue in queues.items()}
    waited = {name: queue.metrics.waited for name, queue in queues.items()}
    worked = {name: queue.metrics.worked for name, queue in queues.items()}
    yield metrics.gauge("workqueue_depth", "Keys that wait in a work queue.", depth, names)
    yield metrics.counter("workqueue_adds_total", "Keys added to a work queue.", adds, names)
    yield metrics.counter("workqueue_retries_total", "Keys added again after a failure.", retries, names)
    yield metrics.histogram(
        "workqueue_queue_duration_seconds", "How long keys waited in a work queue.", waited, names
    )
    yield metrics.histogram("workqueue_work_duration_seconds", "How long keys were worked on.", worked, names)


def of_controllers(controllers: Iterable[_Controller]) -> Iterator[Family]:
    by_name = {controller.name: controller.metrics for controller in controllers}
    names = ["controller"]
    results: dict[LabelValues, float] = {}
    for name, each in by_name.items():
        failed = each.errors + each.terminal
        results[name, "error"] = failed
        results[name, "requeue_after"] = each.requeued_after
        results[name, "success"] = each.seconds.count - failed - each.requeued_after
    yield metrics.counter(
        "controller_runtime_reconcile_total", "Reconciles by result.", results, ["controller", "result"]
    )
    for short, documentation, counts in (
        (
            "reconcile_errors",
            "Reconciles that failed.",
            {(n,): m.errors + m.terminal for n, m in by_name.items()},
        ),
        (
            "terminal_reconcile_errors",
            "Reconciles that failed and are not tried again.",
            {(n,): m.terminal for n, m in by_name.items()},
        ),
    ):
        yield metrics.counter(f"controller_runtime_{short}_total", documentation, counts, names)
    yield metrics.histogram(
        "controller_runtime_reconcile_time_seconds",
        "How long reconciles took.",
        {(name,): each.seconds for name, each in by_name.items()},
        names,
    )
    yield metrics.counter(
        "ondol_controller_held_back_total",
        "Reconciles put off until the informers showed the key's own writes.",
        {(name,): each.delayed for name, each in by_name.items()},
        names,
    )


def of_informers(informers: Iterable[_Informer]) -> Iterator[Family]:
    """Informers of one resource (of several selections) are summed."""
    totals: dict[str, dict[LabelValues, float]] = {}
    for informer in informers:
        for name, count in informer.counts().items():
            samples = totals.setdefault(name, {})
            label = (informer.resource.group_resource,)
            samples[label] = samples.get(label, 0) + count
    for name, samples in totals.items():
        if name == "objects":
            yield metrics.gauge("ondol_informer_objects", "Objects kept.", samples, ["resource"])
        else:
            documentation = f"Of informers: {name.replace('_', ' ')}."
            yield metrics.counter(f"ondol_informer_{name}_total", documentation, samples, ["resource"])


def of_events(counts: Mapping[str, int]) -> Iterator[Family]:
    """Of the Events that controllers record: how many were recorded, written, dropped."""
    for name, count in counts.items():
        yield metrics.counter(f"ondol_events_{name}_total", f"Events {name}.", {(): count})
