"""Autoscaling annotations as users write them."""

from __future__ import annotations

import pytest

from ondol.serverless.autoscaler.decide import Scaling
from ondol.serverless.serving import wellknown


def test_defaults_are_knatives() -> None:
    """Without annotations the documented defaults hold."""
    scaling, causes = wellknown.scaling({}, container_concurrency=0)
    assert causes == []
    assert (scaling.target, scaling.utilization, scaling.window_s) == (100.0, 0.7, 60)
    assert (scaling.min_scale, scaling.max_scale, scaling.initial_scale) == (0, 0, 1)


def test_values_are_read_old_spelling_too() -> None:
    """Kebab case and the older camel case mean the same."""
    scaling, causes = wellknown.scaling(
        {
            "autoscaling.knative.dev/minScale": "2",
            "autoscaling.knative.dev/target": "10",
            "autoscaling.knative.dev/window": "1m30s",
            "autoscaling.knative.dev/panic-threshold-percentage": "150.0",
            "serving.knative.dev/progress-deadline": "30s",
        },
        container_concurrency=5,
    )
    assert causes == []
    assert (scaling.min_scale, scaling.target_value, scaling.window_s) == (2, 3.5, 90)
    assert (scaling.panic_threshold, scaling.progress_deadline_s) == (1.5, 30.0)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("window", "1s"),
        ("window", "soon"),
        ("target", "0"),
        ("min-scale", "-1"),
        ("metric", "cpu"),
        ("class", "our.autoscaling.knative.dev"),
        ("activation-scale", "1"),
        ("target", "inf"),
        ("window", "6500ms"),
    ],
)
def test_wrong_values_are_told_and_defaults_used(key: str, value: str) -> None:
    """A value that cannot be honoured is reported with its field; the service still scales."""
    scaling, causes = wellknown.scaling({f"autoscaling.knative.dev/{key}": value}, container_concurrency=0)
    assert [c.field for c in causes] == [f"spec.template.metadata.annotations[autoscaling.knative.dev/{key}]"]
    assert scaling == Scaling()


def test_a_hard_limit_is_the_target_unless_another_is_given() -> None:
    """Without a target a replica takes what it may; with one, no more than it may."""
    prefix = "autoscaling.knative.dev/"
    for limit, notes, total in (
        (500, {}, 500),
        (5, {}, 5),
        (5, {f"{prefix}target": "50"}, 5),
        (0, {}, 100),
        (50, {f"{prefix}metric": "rps"}, 200),
    ):
        assert wellknown.scaling(notes, container_concurrency=limit)[0].total == total


def test_unknown_annotations_are_named() -> None:
    """Only those of autoscaling that no spelling of a known one matches."""
    annotated = ("tarrget", "minScale", "min-scale")
    notes = {f"autoscaling.knative.dev/{key}": "1" for key in annotated} | {"example.com/x": "1"}
    assert wellknown.unknown(notes) == ["autoscaling.knative.dev/tarrget"]


def test_rps_has_its_own_target() -> None:
    """Requests a second aim at two hundred unless told otherwise."""
    scaling, _ = wellknown.scaling({"autoscaling.knative.dev/metric": "rps"}, container_concurrency=0)
    assert scaling.target_value == pytest.approx(140.0)
