"""What the activator counts of each revision, as Prometheus reads it."""

from __future__ import annotations

import pytest
from prometheus_client.parser import text_string_to_metric_families

from ondol.api.objects import Key
from ondol.base import metrics
from ondol.base.clock import ManualClock
from ondol.serverless.activator.metrics import Counts, Load, families

_LABELS = ("revision_name", "response_code", "response_code_class", "le")
pytestmark = pytest.mark.anyio


def samples(loads: dict[Key, Load]) -> dict[tuple[str, ...], float]:
    """By name, revision, and code if there is one; of buckets the one of a hundred."""
    return {
        (sample.name, *(sample.labels[name] for name in _LABELS if name in sample.labels)): sample.value
        for family in text_string_to_metric_families(metrics.text(families(loads)).decode())
        for sample in family.samples
        if sample.labels.get("le", "100.0") == "100.0"
    }


async def test_requests_are_counted_by_revision_and_code() -> None:
    """Each with the time it took; one whose client left before an answer is in neither."""
    clock, one, two = ManualClock(), Counts(), Counts()
    for counts, code, took_s in ((one, 200, 0.09), (one, 200, 3.0), (one, 504, 60.0), (two, 503, 0.0)):
        with counts.request(clock) as exchange:
            await clock.advance(took_s)
            exchange.code = code
    with pytest.raises(OSError), two.request(clock):  # noqa: PT011 - any
        raise OSError
    counted = samples({Key("d", "one"): Load(2, 3, one), Key("d", "two"): Load(0, 0, two)})
    assert counted["activator_request_count", "one", "200", "2xx"] == 2
    assert counted["activator_request_count", "one", "504", "5xx"] == 1
    assert counted["activator_request_count", "two", "503", "5xx"] == 1
    assert counted["activator_request_latencies_sum", "one", "200", "2xx"] == pytest.approx(3090)
    assert counted["activator_request_latencies_bucket", "one", "200", "2xx", "100.0"] == 1
    assert counted["activator_request_concurrency", "one"] == 5
    assert counted["ondol_activator_queue_depth", "one"] == 2
    assert counted["ondol_activator_in_flight", "one"] == 3
    assert {key[1] for key in counted if key[0] == "activator_request_count"} == {"one", "two"}
