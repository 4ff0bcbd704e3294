"""Metrics in Prometheus' text format."""

from __future__ import annotations

from collections.abc import Iterable

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from ondol.base import metrics

BOUNDS = (0.1, 1.0, 10.0)


@given(st.lists(st.floats(0, 20), max_size=30))
def test_a_histogram_counts_each_value_once(values: list[float]) -> None:
    """A bucket says how many values are not above its bound, as Prometheus' `le` does."""
    histogram = metrics.Histogram(BOUNDS)
    for value in values:
        histogram.observe(value)
    expected = [(str(bound), sum(value <= bound for value in values)) for bound in BOUNDS]
    assert histogram.buckets() == [*expected, ("+Inf", len(values))]
    assert histogram.count == len(values)


def test_a_page_can_be_read_back() -> None:
    """Counters, gauges and histograms with their labels, and what every process has."""
    observed = metrics.Histogram(BOUNDS)
    observed.observe(0.5)

    def collect() -> Iterable[metrics.Family]:
        yield metrics.counter("adds_total", "Added.", {("a",): 2}, ["name"])
        yield metrics.gauge("depth", "Waiting.", {(): 3.5})
        yield metrics.histogram("wait_seconds", "Waited.", {("b",): observed}, ["name"])

    text = metrics.Page(collect).text().decode()
    samples = {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    assert samples["adds_total", ("name", "a")] == 2
    assert samples["depth",] == 3.5
    assert samples["wait_seconds_bucket", ("le", "0.1"), ("name", "b")] == 0
    assert samples["wait_seconds_bucket", ("le", "1.0"), ("name", "b")] == 1
    assert samples["wait_seconds_count", ("name", "b")] == 1
    assert samples["wait_seconds_sum", ("name", "b")] == 0.5
    assert samples["process_resident_memory_bytes",] > 0


def test_a_page_counts_anew_each_time() -> None:
    """What is collected is what is true when somebody asks."""
    count = 0
    page = metrics.Page(lambda: [metrics.gauge("count", "Counted.", {(): count})])
    assert "\ncount 0.0\n" in page.text().decode()
    count = 4
    assert "\ncount 4.0\n" in page.text().decode()
