"""The kernel's books of a cgroup, in both versions, and those of interfaces."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import pytest

from ondol.node.metrics import interfaces
from ondol.node.metrics.interfaces import Flow, Interface
from ondol.node.runtime import accounting
from ondol.node.runtime.accounting import Counters, Cpu, Memory, Transfers, Tree

UNLIMITED = "9223372036854771712"
DIVIDED = {
    "cpuacct/g/cpuacct.usage": "1500000000",
    "cpuacct/g/cpuacct.usage_user": "1000000000",
    "cpuacct/g/cpuacct.usage_sys": "500000000",
    "cpu/g/cpu.stat": "nr_periods 10\nnr_throttled 4\nthrottled_time 250000000\nnr_bursts 0\nburst_time 0",
    "cpu/g/cpu.cfs_quota_us": "50000",
    "cpu/g/cpu.cfs_period_us": "100000",
    "cpu/g/cpu.shares": "512",
    "memory/g/memory.usage_in_bytes": "8000",
    "memory/g/memory.max_usage_in_bytes": "9000",
    "memory/g/memory.failcnt": "3",
    "memory/g/memory.kmem.usage_in_bytes": "700",
    "memory/g/memory.limit_in_bytes": "16384",
    "memory/g/memory.memsw.limit_in_bytes": UNLIMITED,
    "memory/g/memory.soft_limit_in_bytes": UNLIMITED,
    "memory/g/memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 2",
    "memory/g/memory.stat": (
        "cache 1\nrss 2\npgfault 1\ntotal_cache 3000\ntotal_rss 4000\ntotal_mapped_file 500\ntotal_swap 60\n"
        "total_pgfault 77\ntotal_pgmajfault 8\ntotal_inactive_file 1000\ntotal_active_file 900"
    ),
    "memory/g/cgroup.procs": "11\n12",
    "pids/g/pids.current": "5",
    "pids/g/pids.max": "max",
    "blkio/g/blkio.throttle.io_service_bytes_recursive": (
        "8:0 Read 4096\n8:0 Write 8192\n8:0 Sync 8192\n8:0 Total 12288\n8:16 Read 0\nTotal 12288"
    ),
    "blkio/g/blkio.throttle.io_serviced_recursive": "8:0 Read 1\n8:0 Write 2\nTotal 3",
}
JOINED = {re.sub("^(cpu|cpuacct)/", "cpu,cpuacct/", name): text for name, text in DIVIDED.items()}
UNIFIED = {
    "cgroup.controllers": "cpu io memory pids",
    "g/cpu.stat": (
        "usage_usec 1500000\nuser_usec 1000000\nsystem_usec 500000\n"
        "nr_periods 10\nnr_throttled 4\nthrottled_usec 250000"
    ),
    "g/cpu.max": "50000 100000",
    "g/cpu.weight": "20",
    "g/memory.current": "8000",
    "g/memory.peak": "9000",
    "g/memory.max": "16384",
    "g/memory.swap.max": "max",
    "g/memory.low": "0",
    "g/memory.swap.current": "60",
    "g/memory.events": "low 0\nhigh 0\nmax 3\noom 2\noom_kill 2",
    "g/memory.stat": (
        "anon 4000\nfile 3000\nkernel 700\nfile_mapped 500\ninactive_file 1000\nactive_file 900\n"
        "pgfault 77\npgmajfault 8"
    ),
    "g/cgroup.procs": "11\n12",
    "g/pids.current": "5",
    "g/pids.max": "max",
    "g/io.stat": (
        "8:0 rbytes=4096 wbytes=8192 rios=1 wios=2 dbytes=0 dios=0\n8:16 rbytes=0 wbytes=0 rios=0 wios=0"
    ),
}
TREES = {"v1": DIVIDED, "v1 joined": JOINED, "v2": UNIFIED}


def planted(root: Path, files: Mapping[str, str]) -> Tree:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(f"{text}\n")
    return Tree.of(root)


@pytest.mark.parametrize("version", TREES)
def test_both_versions_say_the_same(tmp_path: Path, version: str) -> None:
    """In nanoseconds, bytes and counts; what has no limit has a limit of 0."""
    shares = 500 if version == "v2" else 512  # weights are coarser
    assert accounting.read(planted(tmp_path, TREES[version]), "/g") == Counters(
        Cpu(1_500_000_000, 1_000_000_000, 500_000_000, 10, 4, 250_000_000, 50_000, 100_000, shares),
        Memory(
            usage=8000,
            working_set=7000,
            rss=4000,
            cache=3000,
            mapped_file=500,
            swap=60,
            kernel=700,
            max_usage=9000,
            active_file=900,
            inactive_file=1000,
            limit_hits=3,
            faults=77,
            major_faults=8,
            oom_kills=2,
            limit=16384,
            swap_limit=0,
            reservation=0,
        ),
        {"8:0": Transfers(4096, 8192, 1, 2)},
        processes=2,
        threads=5,
        threads_max=0,
    )


@pytest.mark.parametrize("version", TREES)
def test_a_group_that_is_gone_has_no_books(tmp_path: Path, version: str) -> None:
    """It is not one that has used nothing."""
    assert accounting.read(planted(tmp_path, TREES[version]), "/other") is None


@pytest.mark.parametrize("files", [{"memory/g/x": ""}, {"cgroup.controllers": "", "g/x": ""}])
def test_what_a_kernel_does_not_count_is_nothing(tmp_path: Path, files: dict[str, str]) -> None:
    """A controller that is not there makes no error."""
    assert accounting.read(planted(tmp_path, files), "g") == Counters()


NET_DEV = """Inter-| Receive | Transmit
 face |bytes packets errs drop fifo frame compressed multicast|bytes packets errs drop fifo colls carrier
    lo:   100       1    0    0    0     0          0         0      100       1    0    0    0     0 0 0
  eth0: 5000      50    1    2    0     0          0         3     7000      70    4    5    0     0 0 0
vab12cd0011: 10 1 2 3 0 0 0 0 20 4 5 6 0 0 0 0
"""


def test_interfaces_are_read_by_name() -> None:
    """A pod receives what its port on the bridge transmits; the machine's own are without those ports."""
    listed = interfaces.parsed(NET_DEV)
    assert listed["eth0"] == Interface(Flow(5000, 50, 1, 2), Flow(7000, 70, 4, 5))
    assert listed["vab12cd0011"].other_end == Interface(Flow(20, 4, 5, 6), Flow(10, 1, 2, 3))
    assert list(interfaces.of_machine(listed, "ab12cd")) == ["eth0"]
