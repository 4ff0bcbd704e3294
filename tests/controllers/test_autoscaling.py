"""The arithmetic of HorizontalPodAutoscalers: sizes from metrics, and how fast a size may change."""

from __future__ import annotations

from typing import Any

import pytest

from ondol.api.objects import Object
from ondol.controllers.autoscaling import behavior, metrics_apis, sizing
from ondol.controllers.autoscaling.behavior import History
from ondol.controllers.autoscaling.sizing import CannotMeasure, Proposal, Sample, Usage

NOW = 1_700_000_000.0
OLD = "2023-11-14T21:00:00Z"
CPU = Usage("cpu", NOW)


def a_pod(name: str, request: str = "1", **status: Any) -> Object:
    ready = {"type": "Ready", "status": "True", "lastTransitionTime": OLD}
    return {
        "metadata": {"name": name},
        "spec": {"containers": [{"name": "c", "resources": {"requests": {"cpu": request}}}]},
        "status": {"phase": "Running", "startTime": OLD, "conditions": [ready], **status},
    }


def used(**amounts: int) -> dict[str, Sample]:
    return {name: Sample(amount, NOW, 15.0) for name, amount in amounts.items()}


UNREADY = [{"type": "Ready", "status": "False", "lastTransitionTime": OLD}]
YOUNG = "2023-11-14T22:12:00Z"  # eighty seconds before NOW


@pytest.mark.parametrize(
    ("target", "amounts", "others", "replicas"),
    [
        (30, {"a": 300, "b": 500, "c": 700}, [], 5),  # 50 % where 30 % are meant
        (100, {"a": 300, "b": 500, "c": 250}, [], 2),
        (50, {"a": 500, "b": 540, "c": 480}, [], 3),  # within a tenth
        (50, {"a": 560, "b": 560, "c": 560}, [], 4),
        (50, {"a": 1000, "b": 1000}, [a_pod("c", phase="Pending")], 4),  # a pod to come counts as idle
        (50, {"a": 200, "b": 200}, [a_pod("c", phase="Pending")], 1),  # and not at all on the way down
        (50, {"a": 200, "b": 200}, [a_pod("c")], 3),  # of c nothing is known: taken as wholly used
        (50, {"a": 1000, "b": 1000}, [a_pod("c")], 4),  # or as idle
        (200, {"a": 200, "b": 200}, [a_pod("c")], 2),  # above 100 % as much as is meant
        (50, {"a": 600, "b": 600}, [a_pod("c")], 3),  # with c idle there would be too many: no change
        (50, {"a": 1000, "b": 1000}, [a_pod("c", phase="Failed")], 4),  # gone, so neither
    ],
)
def test_sizes_for_a_share_of_requests(
    target: int, amounts: dict[str, int], others: list[Object], replicas: int
) -> None:
    """The size at which each pod would use that share; pods that cannot be measured damp the change."""
    selected = [*map(a_pod, amounts), *others]
    assert sizing.utilization(3, target, used(**amounts), selected, CPU).replicas == replicas


def test_the_processor_of_a_starting_pod_is_not_measured() -> None:
    """Neither while it is not ready, nor by readings from before it was; memory is."""
    amounts = {"a": 500, "b": 4000}
    ready_at = {"type": "Ready", "status": "True", "lastTransitionTime": "2023-11-14T22:13:10Z"}
    for listed in (UNREADY, [ready_at], []):
        selected = [a_pod("a"), a_pod("b", startTime=YOUNG, conditions=listed)]
        assert sizing.utilization(2, 50, used(**amounts), selected, CPU).replicas == 2
    selected = [a_pod("a"), a_pod("b", startTime=YOUNG, conditions=UNREADY)]
    memory = Usage("memory", NOW)
    assert sizing.per_pod(2, 500, used(**amounts), selected, memory).replicas == 9


@pytest.mark.parametrize(
    ("selected", "samples", "usage", "message"),
    [
        ([], {}, CPU, "no pods returned by selector while calculating replica count"),
        (
            [a_pod("a", phase="Pending")],
            {},
            CPU,
            "did not receive metrics for targeted pods (pods might be unready)",
        ),
        ([a_pod("a")], used(a=1), Usage("memory", NOW), "missing request for memory in container c of Pod a"),
        ([a_pod("a")], used(a=1), Usage("cpu", NOW, "x"), "container x not found in Pod a"),
        ([a_pod("a", "0")], used(a=1), CPU, "no metrics returned matched known pods"),
    ],
)
def test_what_cannot_be_sized_is_told(
    selected: list[Object], samples: dict[str, Sample], usage: Usage, message: str
) -> None:
    """In Kubernetes' words."""
    with pytest.raises(CannotMeasure) as raised:
        sizing.utilization(3, 50, samples, selected, usage)
    assert str(raised.value) == message


def test_what_a_pod_requests() -> None:
    """All of its containers together, those that run beside it too, or what is said of it as a whole."""
    pod = a_pod("a", "250m")
    beside = {"name": "s", "restartPolicy": "Always", "resources": {"requests": {"cpu": "1"}}}
    first = {"name": "i", "resources": {"requests": {"cpu": "5"}}}
    pod["spec"]["initContainers"] = [first, beside]
    assert sizing.requested(pod, CPU) == 1250
    assert sizing.requested(pod, Usage("cpu", NOW, "c")) == 250
    pod["spec"]["resources"] = {"requests": {"cpu": "3"}}
    assert sizing.requested(pod, CPU) == 3000


def test_sizes_for_metrics_of_others() -> None:
    """A metric of one object by its ratio; one that is shared out by division."""
    selected = [a_pod("a"), a_pod("b"), a_pod("c", conditions=UNREADY)]
    assert sizing.of_value(3, 10_000, 20_000, selected) == 4  # of the two that are ready
    assert sizing.of_value(3, 10_000, 10_500, selected) == 3
    assert sizing.of_value(0, 10_000, 25_000, []) == 3
    assert sizing.of_share(3, 10_000, 45_000) == Proposal(5, 15_000)
    assert sizing.of_share(3, 10_000, 31_000) == Proposal(3, 10_334)
    with pytest.raises(CannotMeasure, match="unable to calculate ready pods"):
        sizing.of_value(3, 10_000, 20_000, [])


def test_pod_metrics_are_summed_over_containers() -> None:
    """Or one container's are taken; a pod that does not tell of all of them is left out."""

    def item(name: str, **containers: str | None) -> Object:
        listed = [{"name": each, "usage": {"cpu": cpu} if cpu else {}} for each, cpu in containers.items()]
        timestamp = "2023-11-14T22:13:20Z"
        return {"metadata": {"name": name}, "timestamp": timestamp, "window": "15s", "containers": listed}

    items = [item("a", c="100m", s="5000000n"), item("b", c="1", s=None), item("c")]
    assert metrics_apis.resource_samples(items, CPU) == {"a": Sample(105, NOW, 15.0)}
    only = metrics_apis.resource_samples(items, Usage("cpu", NOW, "c"))
    assert {name: sample.amount for name, sample in only.items()} == {"a": 100, "b": 1000}


def spec(**more: Any) -> Object:
    return {"minReplicas": 2, "maxReplicas": 20, **more}


@pytest.mark.parametrize(
    ("current", "proposed", "replicas", "reason"),
    [
        (3, 5, 5, "DesiredWithinRange"),
        (3, 9, 6, "ScaleUpLimit"),  # to the double of what there is
        (1, 9, 4, "ScaleUpLimit"),  # or to four
        (15, 25, 20, "TooManyReplicas"),
        (3, 1, 2, "TooFewReplicas"),
    ],
)
def test_bounds_without_rules(current: int, proposed: int, replicas: int, reason: str) -> None:
    """At most to the double at once, and within the spec's bounds."""
    decision = behavior.decide(spec(), current, proposed, History(), 0.0)
    assert (decision.replicas, decision.limited.reason) == (replicas, reason)
    assert decision.limited.is_true is (replicas != proposed)


def test_a_size_goes_down_when_it_was_too_high_for_five_minutes() -> None:
    """The highest recommendation of that time holds."""
    history = History()
    history.begin(8, 0.0)
    decisions = [behavior.decide(spec(), 8, 3, history, float(at)) for at in range(15, 315, 15)]
    assert {decision.replicas for decision in decisions[:-1]} == {8}
    assert decisions[0].able.reason == "ScaleDownStabilized"
    assert (decisions[-1].replicas, decisions[-1].able.reason) == (3, "ReadyForNewScale")


UP = {"stabilizationWindowSeconds": 0, "selectPolicy": "Max", "policies": []}


def rules(**more: Any) -> Object:
    whole = {"type": "Percent", "value": 100, "periodSeconds": 15}
    sides = {
        side: {"stabilizationWindowSeconds": 0, "selectPolicy": "Max", "policies": [whole]}
        for side in ("scaleUp", "scaleDown")
    }
    return spec(behavior={side: {**sides[side], **more.get(side, {})} for side in sides})


PODS = {"type": "Pods", "value": 3, "periodSeconds": 60}
PERCENT = {"type": "Percent", "value": 10, "periodSeconds": 60}


@pytest.mark.parametrize(
    ("side", "change", "current", "proposed", "replicas", "reason"),
    [
        ("scaleUp", {"policies": [PODS, PERCENT]}, 10, 20, 13, "ScaleUpLimit"),
        ("scaleUp", {"policies": [PODS, PERCENT], "selectPolicy": "Min"}, 10, 20, 11, "ScaleUpLimit"),
        ("scaleUp", {"selectPolicy": "Disabled"}, 10, 20, 10, "ScaleUpLimit"),
        ("scaleUp", {}, 15, 40, 20, "TooManyReplicas"),
        ("scaleDown", {"policies": [PODS, PERCENT]}, 10, 2, 7, "ScaleDownLimit"),
        ("scaleDown", {"policies": [PODS, PERCENT], "selectPolicy": "Min"}, 10, 2, 9, "ScaleDownLimit"),
        ("scaleDown", {"selectPolicy": "Disabled"}, 10, 2, 10, "ScaleDownLimit"),
        ("scaleDown", {}, 10, 1, 2, "TooFewReplicas"),
    ],
)
def test_rules_for_the_rate(  # noqa: PLR0917 - the columns of its table
    side: str, change: Object, current: int, proposed: int, replicas: int, reason: str
) -> None:
    """The widest or the narrowest of a side's rules, or no change at all."""
    decision = behavior.decide(rules(**{side: change}), current, proposed, History(), 0.0)
    assert (decision.replicas, decision.limited.reason) == (replicas, reason)


def test_rules_count_what_was_changed_in_their_period() -> None:
    """Three pods a minute are three pods, in however many steps."""
    history, asked = History(), rules(scaleUp={"policies": [PODS]})
    history.scaled(10, 12, 100.0, 60.0)
    assert behavior.decide(asked, 12, 20, history, 130.0).replicas == 13
    assert behavior.decide(asked, 13, 20, history, 161.0).replicas == 16
    history.scaled(16, 15, 161.0, 60.0)
    assert behavior.decide(asked, 15, 20, history, 162.0).replicas == 19


def test_windows_steady_both_ways() -> None:
    """Up by the lowest recommendation of the window, down by the highest."""
    asked = rules(scaleUp={"stabilizationWindowSeconds": 60}, scaleDown={"stabilizationWindowSeconds": 60})
    history = History()
    history.begin(4, 0.0)
    raised = behavior.decide(asked, 4, 6, history, 30.0)
    assert (raised.replicas, raised.able.reason) == (4, "ScaleUpStabilized")
    lowered = behavior.decide(asked, 4, 2, history, 59.0)
    assert (lowered.replicas, lowered.able.reason) == (4, "ScaleDownStabilized")
    settled = behavior.decide(asked, 4, 6, history, 120.0)
    assert settled.replicas == 6
