"""The metrics of all parts as one page."""

from __future__ import annotations

from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from ondol.base import metrics, unix_socket
from ondol.observe.metrics import merging, parts
from ondol.observe.metrics.parts import Exposition
from ondol.web import exposition
from ondol.web.serving import serving

pytestmark = pytest.mark.anyio

A = """# HELP adds_total Added.
# TYPE adds_total counter
adds_total{name="x"} 1.0
adds_total{name="}\\" y"} 2.0
# HELP wait_seconds Waited.
# TYPE wait_seconds histogram
wait_seconds_bucket{le="+Inf"} 1.0
wait_seconds_count 1.0
wait_seconds_sum 0.5
alone 7
"""
B = """# TYPE adds_total counter
adds_total 3 1700000000000

# TYPE envoy_updates counter
envoy_updates{} 5
"""


def test_each_family_stands_once_and_each_sample_says_whose_it_is() -> None:
    """Headers come from the first page that has them; names, values and other labels stay as they are."""
    assert merging.merge({"a": A, "b": B}).splitlines() == [
        "# HELP adds_total Added.",
        "# TYPE adds_total counter",
        'adds_total{part="a",name="x"} 1.0',
        'adds_total{part="a",name="}\\" y"} 2.0',
        'adds_total{part="b"} 3 1700000000000',
        "# HELP wait_seconds Waited.",
        "# TYPE wait_seconds histogram",
        'wait_seconds_bucket{part="a",le="+Inf"} 1.0',
        'wait_seconds_count{part="a"} 1.0',
        'wait_seconds_sum{part="a"} 0.5',
        'alone{part="a"} 7',
        "# TYPE envoy_updates counter",
        'envoy_updates{part="b"} 5',
    ]


async def test_parts_are_asked_and_those_that_do_not_answer_are_named(tmp_path: Path) -> None:
    """A part that is away takes nothing from the page but its own metrics."""
    page = metrics.Page(lambda: [metrics.gauge("depth", "Waiting.", {(): 2})])
    expositions = {
        "api": Exposition(tmp_path / "api.sock"),
        "node": Exposition(tmp_path / "gone.sock"),
        "envoy": Exposition(tmp_path / "api.sock", "/other"),
    }
    async with serving(exposition.application(page), unix_socket.listen(tmp_path / "api.sock")):
        text = await parts.page(expositions, {"observe": "depth 1\n"})
    samples = {
        (sample.name, sample.labels["part"]): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    assert {part: samples["up", part] for part in expositions} == {"api": 1, "node": 0, "envoy": 0}
    assert (samples["depth", "api"], samples["depth", "observe"]) == (2, 1)
