"""The kubelet's pages: cAdvisor's families, and counters that are exact however short a container lives."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families
from tests.node.test_node_accounting import DIVIDED, planted

from ondol.base import metrics
from ondol.base.clock import ManualClock
from ondol.node.config import NodeConfig
from ondol.node.metrics import books, cadvisor, ended, kubelet
from ondol.node.metrics.activity import Activity
from ondol.node.metrics.books import Books
from ondol.node.metrics.interfaces import Flow, Interface
from ondol.node.pods.model import Attempt, Container, Record, Volume
from ondol.node.runtime.accounting import Counters, Cpu, Tree
from ondol.node.runtime.port import Handle

POD = {
    "metadata": {"name": "cart", "namespace": "shop", "uid": "u1"},
    "spec": {"containers": [{"name": "main"}]},
}
MACHINE = cadvisor.Machine(2, 4096, 0, "m", "b")
GROUP = "/ondol-ab12cd/podu1"


def attempt(identity: str = "c1") -> Attempt:
    return Attempt(0, identity, "shop:1", "i", Handle(identity, 1, 1, 1, 1), started_at=50.0)


def record(*, is_running: bool = True) -> Record:
    containers = {"main": Container(current=attempt())} if is_running else {}
    return Record("u1", "shop", "cart", "boot", 40.0, has_sandbox=True, containers=containers)


def samples(families: Any) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """By name and labels; a page that cannot be parsed, or has a series twice, has none."""
    text = metrics.text(families).decode()
    rows = [
        ((each.name, tuple(sorted((k, v) for k, v in each.labels.items() if v))), each.value)
        for family in text_string_to_metric_families(text)
        for each in family.samples
    ]
    assert len(rows) == len(dict(rows))
    heads = [line for line in text.splitlines() if line.startswith("# TYPE")]
    assert len(heads) == len(set(heads))
    return dict(rows)


def of(page: Mapping[Any, float], family: str, /, **labels: str) -> float:
    """The one sample of a family that has these labels."""
    values = [
        value for (name, own), value in page.items() if name == family and labels.items() <= dict(own).items()
    ]
    assert len(values) == 1, (family, labels, values)
    return values[0]


@pytest.fixture
def config(tmp_path: Path) -> NodeConfig:
    return NodeConfig("ab12cd", "n1", tmp_path, "192.0.2.1")


def groups(root: Path, *names: str) -> Tree:
    """A tree in which each of these groups has the same books."""
    tree = Tree.of(root)
    for name in names:
        tree = planted(root, {key.replace("/g/", f"{name}/"): text for key, text in DIVIDED.items()})
    return tree


def books_of(config: NodeConfig, clock: ManualClock, tree: Tree, wires: Mapping[str, Interface]) -> Books:
    sources = books.Sources(lambda: tree, lambda: wires, lambda: Counters(Cpu(total_ns=9_000_000_000)))
    return Books(config, clock, lambda uid: f"v{uid}", MACHINE, sources)


@pytest.mark.anyio
async def test_a_container_is_told_as_cadvisor_does(config: NodeConfig, tmp_path: Path) -> None:
    """With the labels of the kubelet: the container's, its pod's, the machine's are told apart by them."""
    tree = groups(tmp_path / "fs", GROUP, f"{GROUP}/c1", "/ondol-ab12cd")
    wires = {"vu1": Interface(Flow(1, 2, 3, 4), Flow(5, 6, 7, 8)), "eth0": Interface(Flow(9), Flow(10))}

    snapshot = await books_of(config, ManualClock(), tree, wires).snapshot([(POD, record())])
    page = samples(cadvisor.page(snapshot))
    main = {"namespace": "shop", "pod": "cart", "container": "main", "image": "shop:1", "name": "c1"}
    main["id"] = f"{GROUP}/c1"
    assert of(page, "container_cpu_usage_seconds_total", **main, cpu="total") == 1.5
    assert of(page, "container_cpu_cfs_throttled_periods_total", **main) == 4
    assert of(page, "container_cpu_cfs_throttled_seconds_total", **main) == 0.25
    assert of(page, "container_memory_working_set_bytes", **main) == 7000
    assert of(page, "container_memory_failcnt", **main) == 3
    assert (
        of(page, "container_memory_failures_total", **main, failure_type="pgmajfault", scope="container") == 8
    )
    assert of(page, "container_oom_events_total", **main) == 2
    assert of(page, "container_spec_cpu_quota", **main) == 50_000
    assert of(page, "container_spec_memory_limit_bytes", **main) == 16384
    assert of(page, "container_start_time_seconds", **main) == 50
    assert of(page, "container_fs_writes_bytes_total", **main) == 8192
    assert of(page, "container_threads", **main) == 5
    assert of(page, "container_cpu_usage_seconds_total", id=GROUP, pod="cart") == 1.5
    assert of(page, "container_cpu_usage_seconds_total", id="/") == 9
    assert of(page, "container_network_receive_bytes_total", pod="cart", interface="eth0") == 5
    assert of(page, "container_network_transmit_packets_dropped_total", pod="cart", interface="eth0") == 4
    assert of(page, "container_network_receive_bytes_total", id="/", interface="eth0") == 9
    assert of(page, "machine_cpu_cores") == 2
    with_image = [dict(own) for name, own in page if name == "container_cpu_usage_seconds_total"]
    assert [labels["container"] for labels in with_image if labels.get("image")] == ["main"]


@pytest.mark.anyio
async def test_what_has_ended_is_told_to_the_last(config: NodeConfig, tmp_path: Path) -> None:
    """Its counters as they were in the end, and no memory, after its cgroup and its cable have gone."""
    tree = groups(tmp_path / "fs", GROUP, f"{GROUP}/c1")
    wires = {"vu1": Interface(Flow(1), Flow(5))}

    kept = books_of(config, ManualClock(), tree, wires)
    kept.container_ended(POD, "main", attempt())
    kept.pod_ended(POD)
    shutil.rmtree(tmp_path / "fs")
    wires.clear()
    kept.pod_ended(POD)  # a step that is tried again
    snapshot = await kept.snapshot([])
    for page in (samples(cadvisor.page(snapshot)), samples(kubelet.page(snapshot))):
        assert of(page, "container_cpu_usage_seconds_total", container="main") == 1.5
        assert not [
            1 for name, own in page if name == "container_memory_working_set_bytes" and ("pod", "cart") in own
        ]
    page = samples(cadvisor.page(snapshot))
    assert of(page, "container_network_receive_bytes_total", pod="cart") == 5


@pytest.mark.anyio
async def test_a_sandbox_that_was_made_anew_is_told_as_it_is(config: NodeConfig, tmp_path: Path) -> None:
    """The last word on the one before does not stand in the way of it."""
    tree = groups(tmp_path / "fs", GROUP)
    wires = {"vu1": Interface(Flow(1), Flow(5))}

    kept = books_of(config, ManualClock(), tree, wires)
    kept.pod_ended(POD)
    (tmp_path / f"fs/cpuacct{GROUP}/cpuacct.usage").write_text("3000000000")
    wires["vu1"] = Interface(Flow(1), Flow(2))
    page = samples(cadvisor.page(await kept.snapshot([(POD, record(is_running=False))])))
    assert of(page, "container_cpu_usage_seconds_total", pod="cart") == 3
    assert of(page, "container_network_receive_bytes_total", pod="cart") == 2


# Exact counters

_LIVES = st.lists(
    st.one_of(
        st.tuples(st.just("use"), st.integers(0, 4), st.integers(1, 9)),
        st.tuples(st.just("end"), st.integers(0, 4), st.just(0)),
        st.tuples(st.just("scrape"), st.just(0), st.integers(1, 100)),
    ),
    max_size=60,
)


@settings(max_examples=200)
@given(_LIVES)
def test_no_use_is_lost_however_short_a_life_is(lives: list[tuple[str, int, int]]) -> None:
    """Who reads every two minutes or oftener sees each container's last counter, and none that falls."""
    kept: ended.Ended[int] = ended.Ended()
    living: dict[str, int] = {}
    used: dict[str, int] = {}
    seen: dict[str, int] = {}
    number = dict.fromkeys(range(5), 0)
    now = 0.0

    def scrape() -> None:
        for name, value in {**living, **dict(kept.shown(now))}.items():
            assert value >= seen.get(name, 0)
            seen[name] = value

    for what, which, amount in lives:
        name = f"{which}.{number[which]}"
        if what == "use":
            living[name] = used[name] = used.get(name, 0) + amount
        elif what == "end" and name in living:
            kept.put(name, living.pop(name), now)
            number[which] += 1
        elif what == "scrape":
            now += amount
            scrape()
    scrape()
    assert seen == used


def test_what_was_read_goes_after_two_minutes() -> None:
    """And what nobody reads after fifteen; of very many the oldest that were read go first."""
    kept: ended.Ended[int] = ended.Ended()
    kept.put("a", 1, 0.0)
    assert dict(kept.shown(600.0)) == {"a": 1}
    assert dict(kept.shown(601.0)) == {}
    kept.put("b", 1, 0.0)
    assert dict(kept.shown(901.0)) == {}
    kept.put("read", 1, 0.0)
    assert dict(kept.shown(1.0)) == {"read": 1}
    for index in range(1000):
        kept.put(str(index), index, 2.0)
    assert "read" not in dict(kept.shown(3.0))
    assert len(dict(kept.shown(3.0))) == 1000


# What the node does


def test_what_the_node_does_is_told_as_the_kubelet_does(tmp_path: Path) -> None:
    """Starts, steps, calls of the runtime, probes, and the space of each claim."""
    activity, clock = Activity(), ManualClock()
    activity.start_s.observe(0.3)
    activity.step_s[("create",)].observe(0.1)
    activity.started_containers[("container",)] += 1
    activity.evictions[("memory.available",)] += 1
    with pytest.raises(OSError, match="x"), activity.call("create_container", clock):
        raise OSError("x")
    activity.probed(POD, "main", "readiness", "failed")
    volume = Volume({"name": "v", "persistentVolumeClaim": {"claimName": "c"}}, str(tmp_path), is_placed=True)
    placed = Record("u1", "shop", "cart", "boot", 40.0, has_sandbox=True, volumes={"v": volume})
    page = samples(kubelet.families("n1", activity, [(POD, placed)]))
    assert of(page, "kubelet_node_name", node="n1") == 1
    assert of(page, "kubelet_running_pods") == 1
    assert of(page, "kubelet_pod_start_duration_seconds_count") == 1
    assert of(page, "kubelet_pod_worker_duration_seconds_bucket", operation_type="create", le="0.1") == 1
    assert of(page, "kubelet_runtime_operations_errors_total", operation_type="create_container") == 1
    assert of(page, "kubelet_evictions", eviction_signal="memory.available") == 1
    assert of(page, "kubelet_volume_stats_capacity_bytes", namespace="shop", persistentvolumeclaim="c") > 0
    probes = samples(kubelet.probes(activity))
    assert (
        of(probes, "prober_probe_total", probe_type="Readiness", result="failed", pod="cart", pod_uid="u1")
        == 1
    )
    activity.forget("u1")
    assert not samples(kubelet.probes(activity))
