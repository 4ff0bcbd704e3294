"""From zero and to zero: the plan for each situation."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ondol.contracts import proxy
from ondol.serverless.autoscaler import metrics
from ondol.serverless.autoscaler.decide import Decision, Scaling
from ondol.serverless.autoscaler.metrics import Busyness, Counters
from ondol.serverless.autoscaler.scaler import Facts, plan

RUNNING = Facts(
    scaling=Scaling(window_s=60),
    replicas=1,
    ready=1,
    demand=0,
    decision=Decision(0, 0.0, panicking=False),
    observed_s=100.0,
    initialized=True,
    quiet=True,
)


def test_first_the_initial_scale() -> None:
    """A new revision runs its initial scale until that was reached once, traffic or not."""
    fresh = replace(RUNNING, initialized=False, replicas=1, ready=0, scaling=Scaling(initial_scale=3))
    assert (plan(fresh).replicas, plan(fresh).mode, plan(fresh).active) == (3, "Proxy", "Unknown")


def test_hopeless_start_ends_at_zero() -> None:
    """A revision that never came up in time does not run for ever."""
    late = replace(RUNNING, initialized=False, ready=0, age_s=10_000)
    assert (plan(late).replicas, plan(late).reason) == (0, "TimedOut")


def test_a_held_request_wakes_the_revision() -> None:
    """At zero, one waiting request is enough for one replica, or for the activation scale."""
    asleep = replace(RUNNING, replicas=0, ready=0, demand=1, decision=None)
    assert (plan(asleep).replicas, plan(asleep).mode) == (1, "Proxy")
    many = replace(asleep, scaling=Scaling(activation_scale=4))
    assert plan(many).replicas == 4


def test_pods_answer_directly_while_warm() -> None:
    """With ready pods and no reason to count, the activator is out of the path."""
    warm = replace(RUNNING, decision=Decision(2, 0.0, panicking=False), quiet=False)
    assert (plan(warm).replicas, plan(warm).mode, plan(warm).active) == (2, "Serve", "True")


@pytest.mark.parametrize(
    "scaling_and_excess", [(Scaling(container_concurrency=1), 0.0), (Scaling(burst_capacity=200), -100.0)]
)
def test_activator_stays_where_it_is_needed(scaling_and_excess: tuple[Scaling, float]) -> None:
    """A hard limit, or a burst the pods could not take, keeps the activator in the path."""
    scaling, excess = scaling_and_excess
    facts = replace(RUNNING, scaling=scaling, decision=Decision(1, excess, panicking=False), quiet=False)
    assert plan(facts).mode == "Proxy"


def test_to_zero_in_steps() -> None:
    """Not before a whole quiet window; then the activator first; the pods when the proxy has followed."""
    early = replace(RUNNING, observed_s=10.0)
    assert (plan(early).replicas, plan(early).idle) == (1, False)
    quiet = plan(RUNNING)
    assert (quiet.replicas, quiet.mode, quiet.idle) == (1, "Proxy", True)
    waiting = replace(RUNNING, idle_s=1.0)
    assert plan(waiting).replicas == 1
    assert plan(replace(waiting, drained=True)).replicas == 0
    assert plan(replace(waiting, idle_s=31.0)).replicas == 0


def test_retention_keeps_the_last_pod() -> None:
    """The retention period is waited out even when the proxy has followed."""
    retaining = replace(RUNNING, scaling=Scaling(retention_s=60), idle_s=40.0, drained=True)
    assert plan(retaining).replicas == 1
    assert plan(replace(retaining, idle_s=60.0)).replicas == 0


def test_a_request_on_the_way_to_zero_turns_it_around() -> None:
    """Demand while leaving keeps the pods and ends the leaving."""
    turned = replace(RUNNING, idle_s=5.0, drained=True, demand=1)
    assert (plan(turned).replicas, plan(turned).mode, plan(turned).idle) == (1, "Serve", False)


def test_min_scale_holds_only_while_reachable() -> None:
    """A revision that no route points at may go to zero whatever its minimum."""
    minimal = replace(RUNNING, scaling=Scaling(min_scale=2), replicas=2, ready=2)
    assert plan(minimal).replicas == 2
    assert plan(replace(minimal, reachable=False)).idle


def test_prometheus_page_is_read_by_cluster() -> None:
    """Counters are found by the cluster's name, other metrics are left alone."""
    page = (
        "# TYPE envoy_cluster_upstream_rq_active gauge\n"
        'envoy_cluster_upstream_rq_active{envoy_cluster_name="outbound|80||a.b.svc.cluster.local"} 3\n'
        'envoy_cluster_upstream_rq_total{envoy_cluster_name="outbound|80||a.b.svc.cluster.local"} 10\n'
        'envoy_cluster_upstream_rq_time_sum{envoy_cluster_name="outbound|80||a.b.svc.cluster.local"} 250.5\n'
        'envoy_cluster_upstream_rq_time_count{envoy_cluster_name="outbound|80||a.b.svc.cluster.local"} 7\n'
        'envoy_cluster_upstream_cx_active{envoy_cluster_name="other"} 1\n'
    )
    assert metrics.prometheus_text(page) == {proxy.revision_cluster("a", "b", 80): Counters(3, 10, 250.5, 7)}


def test_short_requests_count_by_their_time() -> None:
    """A thousand requests of ten milliseconds in a second are ten at a time."""
    busyness = Busyness()
    assert busyness.sample(0.0, Counters()) is None
    sample = busyness.sample(1.0, Counters(active=2, total=1000, time_sum_ms=10_000, time_count=1000))
    assert sample is not None
    assert sample == pytest.approx((10.0, 1000.0))


def test_long_requests_count_by_the_gauge() -> None:
    """A request longer than the interval does not pour all its time into the last one."""
    busyness = Busyness()
    busyness.sample(0.0, Counters(active=5, total=5))
    assert busyness.sample(1.0, Counters(active=4, total=5, time_sum_ms=30_000, time_count=1)) == (4, 0.0)


def test_restarted_proxy_gives_no_sample() -> None:
    """Counters that went backwards are a new proxy, not negative traffic."""
    busyness = Busyness()
    busyness.sample(0.0, Counters(total=100))
    assert busyness.sample(1.0, Counters(total=3)) is None
    assert busyness.sample(2.0, Counters(total=4)) == (0.0, 1.0)
