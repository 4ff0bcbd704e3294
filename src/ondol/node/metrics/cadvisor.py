"""`/metrics/cadvisor`: what is used here, in cAdvisor's families as the kubelet labels them.

A sample has the labels `container`, `id`, `image`, `name`, `namespace` and `pod`. A container's has all of
them; a pod's cgroup has no container, image and name; the instance's and the machine's (`id="/"`) have the id
alone. A pod's network is that of its sandbox, which the kubelet gives an image: so has it here (`SANDBOX`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from ondol.base import metrics
from ondol.base.metrics import Family
from ondol.node.metrics.interfaces import Flow, Interface
from ondol.node.runtime.accounting import Counters, Transfers

SANDBOX: Final = "ondol.local/sandbox"
_LABELS: Final = ("container", "id", "image", "name", "namespace", "pod")
_S: Final = 1e9

Labelled: TypeAlias = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Usage:
    """What one container, pod, or the machine has used, and who it is."""

    id: str
    counters: Counters
    namespace: str = ""
    pod: str = ""
    container: str = ""
    image: str = ""
    name: str = ""
    started_at: float = 0.0
    """Seconds since the epoch; 0 where that says nothing."""
    descriptors: int | None = None
    """Open files; None where nobody has counted."""
    is_over: bool = False
    """It has ended: what it used is told, not what it has."""

    @property
    def labels(self) -> Labelled:
        return self.container, self.id, self.image, self.name, self.namespace, self.pod


@dataclass(frozen=True, slots=True)
class Traffic:
    """The interfaces of one sandbox, or of the machine, by name."""

    id: str
    interfaces: Mapping[str, Interface]
    namespace: str = ""
    pod: str = ""

    @property
    def labels(self) -> Labelled:
        image, name = (SANDBOX, self.id.rpartition("/")[2]) if self.pod else ("", "")
        return "", self.id, image, name, self.namespace, self.pod


@dataclass(frozen=True, slots=True)
class Disk:
    """A file system of the machine, in bytes and inodes."""

    device: str
    size: int
    used: int
    inodes: int
    inodes_free: int


@dataclass(frozen=True, slots=True)
class Machine:
    cores: int
    memory_bytes: int
    swap_bytes: int
    machine_id: str
    boot_id: str


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All that a page tells, read at one time."""

    at: float
    usages: Sequence[Usage]
    traffic: Sequence[Traffic]
    machine: Machine
    disks: Sequence[Disk] = ()
    devices: Mapping[str, str] = field(default_factory=dict)
    """Paths of devices by `major:minor`."""


def page(snapshot: Snapshot) -> Iterator[Family]:
    yield from _counted(snapshot)
    yield from _present(snapshot)
    yield from _transfers(snapshot)
    yield from _network(snapshot)
    yield from _machine(snapshot)


# What was used: of the living and of those that have ended


_COUNTERS: Final[tuple[tuple[str, str, Callable[[Counters], float]], ...]] = (
    ("cpu_user_seconds_total", "Seconds of processor time in programs.", lambda c: c.cpu.user_ns / _S),
    ("cpu_system_seconds_total", "Seconds of processor time in the kernel.", lambda c: c.cpu.system_ns / _S),
    ("memory_failcnt", "How often memory came to its limit.", lambda c: c.memory.limit_hits),
    ("oom_events_total", "Processes that were ended because memory ran out.", lambda c: c.memory.oom_kills),
)
_THROTTLED: Final[tuple[tuple[str, str, Callable[[Counters], float]], ...]] = (
    (
        "cpu_cfs_periods_total",
        "Periods in which the limit of processor time counted.",
        lambda c: c.cpu.periods,
    ),
    (
        "cpu_cfs_throttled_periods_total",
        "Periods that ended at the limit.",
        lambda c: c.cpu.throttled_periods,
    ),
    (
        "cpu_cfs_throttled_seconds_total",
        "Seconds spent waiting at the limit.",
        lambda c: c.cpu.throttled_ns / _S,
    ),
)


def _counted(snapshot: Snapshot) -> Iterator[Family]:
    usages = snapshot.usages
    cpu = {(*usage.labels, "total"): usage.counters.cpu.total_ns / _S for usage in usages}
    yield metrics.counter(
        "container_cpu_usage_seconds_total", "Seconds of processor time.", cpu, (*_LABELS, "cpu")
    )
    for name, documentation, value in _COUNTERS:
        yield _counter(name, documentation, {usage.labels: value(usage.counters) for usage in usages})
    limited = [usage for usage in usages if usage.counters.cpu.quota_us]
    for name, documentation, value in _THROTTLED:
        yield _counter(name, documentation, {usage.labels: value(usage.counters) for usage in limited})
    faults = {
        (*usage.labels, kind, scope): count
        for usage in usages
        for kind, count in (
            ("pgfault", usage.counters.memory.faults),
            ("pgmajfault", usage.counters.memory.major_faults),
        )
        for scope in ("container", "hierarchy")
    }
    labels = (*_LABELS, "failure_type", "scope")
    yield metrics.counter("container_memory_failures_total", "Page faults.", faults, labels)


def _counter(name: str, documentation: str, samples: Mapping[Labelled, float]) -> Family:
    make = metrics.counter if name.endswith("_total") else metrics.unsuffixed
    return make(f"container_{name}", documentation, samples, _LABELS)


# What there is: of the living


_GAUGES: Final[tuple[tuple[str, str, Callable[[Counters], float]], ...]] = (
    ("memory_usage_bytes", "Bytes in use.", lambda c: c.memory.usage),
    (
        "memory_working_set_bytes",
        "Bytes in use that cannot simply be dropped.",
        lambda c: c.memory.working_set,
    ),
    ("memory_rss", "Bytes of memory that no file stands behind.", lambda c: c.memory.rss),
    ("memory_cache", "Bytes of files in memory.", lambda c: c.memory.cache),
    ("memory_mapped_file", "Bytes of files mapped into memory.", lambda c: c.memory.mapped_file),
    ("memory_swap", "Bytes in swap.", lambda c: c.memory.swap),
    ("memory_kernel_usage", "Bytes of the kernel's own.", lambda c: c.memory.kernel),
    ("memory_max_usage_bytes", "The most bytes that were in use.", lambda c: c.memory.max_usage),
    ("memory_total_active_file_bytes", "Bytes of files used lately.", lambda c: c.memory.active_file),
    ("memory_total_inactive_file_bytes", "Bytes of files not used lately.", lambda c: c.memory.inactive_file),
    ("processes", "Processes.", lambda c: c.processes),
    ("threads", "Threads.", lambda c: c.threads),
    ("threads_max", "Threads there may be; 0 is any number.", lambda c: c.threads_max),
    (
        "spec_cpu_period",
        "Length in 10⁻⁶ s of the period that the limit of processor time is for.",
        lambda c: c.cpu.period_us,
    ),
    ("spec_cpu_shares", "Weight where processor time is short.", lambda c: c.cpu.shares),
    (
        "spec_memory_limit_bytes",
        "The most bytes there may be in use; 0 is any number.",
        lambda c: c.memory.limit,
    ),
    ("spec_memory_swap_limit_bytes", "The same of memory and swap.", lambda c: c.memory.swap_limit),
    (
        "spec_memory_reservation_limit_bytes",
        "Bytes that are left to it longest.",
        lambda c: c.memory.reservation,
    ),
)


def _present(snapshot: Snapshot) -> Iterator[Family]:
    living = [usage for usage in snapshot.usages if not usage.is_over]
    for name, documentation, value in _GAUGES:
        yield _gauge(name, documentation, {usage.labels: value(usage.counters) for usage in living})
    quotas = {u.labels: u.counters.cpu.quota_us for u in living if u.counters.cpu.quota_us}
    yield _gauge("spec_cpu_quota", "Processor time in 10⁻⁶ s that a period has.", quotas)
    descriptors = {u.labels: u.descriptors for u in living if u.descriptors is not None}
    yield _gauge("file_descriptors", "Open files.", descriptors)
    started = {usage.labels: float(int(usage.started_at)) for usage in living if usage.started_at}
    yield _gauge("start_time_seconds", "When it was started.", started)
    yield _gauge(
        "last_seen", "When it was looked at.", {usage.labels: float(int(snapshot.at)) for usage in living}
    )


def _gauge(name: str, documentation: str, samples: Mapping[Labelled, float]) -> Family:
    return metrics.gauge(f"container_{name}", documentation, samples, _LABELS)


# Disks


_TRANSFERS: Final[tuple[tuple[str, str, Callable[[Transfers], float]], ...]] = (
    ("fs_reads_bytes_total", "Bytes read from the device.", lambda t: t.read_bytes),
    ("fs_writes_bytes_total", "Bytes written to the device.", lambda t: t.write_bytes),
    ("fs_reads_total", "Reads from the device.", lambda t: t.reads),
    ("fs_writes_total", "Writes to the device.", lambda t: t.writes),
)


def _transfers(snapshot: Snapshot) -> Iterator[Family]:
    rows = {
        (*usage.labels, snapshot.devices.get(number, number)): transfers
        for usage in snapshot.usages
        for number, transfers in usage.counters.devices.items()
    }
    labels = (*_LABELS, "device")
    for name, documentation, value in _TRANSFERS:
        samples = {key: value(transfers) for key, transfers in rows.items()}
        yield metrics.counter(f"container_{name}", documentation, samples, labels)
    disks = {("", "/", "", "", "", "", disk.device): disk for disk in snapshot.disks}
    for name, documentation, of in _DISKS:
        samples = {key: of(disk) for key, disk in disks.items()}
        yield metrics.gauge(f"container_{name}", documentation, samples, labels)


_DISKS: Final[tuple[tuple[str, str, Callable[[Disk], float]], ...]] = (
    ("fs_limit_bytes", "Bytes of the file system.", lambda disk: disk.size),
    ("fs_usage_bytes", "Bytes in use of the file system.", lambda disk: disk.used),
    ("fs_inodes_total", "Inodes of the file system.", lambda disk: disk.inodes),
    ("fs_inodes_free", "Inodes of the file system that are free.", lambda disk: disk.inodes_free),
)


# Network


_FLOWS: Final[tuple[tuple[str, Callable[[Flow], float]], ...]] = (
    ("bytes", lambda flow: flow.bytes),
    ("packets", lambda flow: flow.packets),
    ("errors", lambda flow: flow.errors),
    ("packets_dropped", lambda flow: flow.dropped),
)


def _network(snapshot: Snapshot) -> Iterator[Family]:
    labels = (*_LABELS, "interface")
    for verb, side in (("receive", _received), ("transmit", _transmitted)):
        for what, value in _FLOWS:
            samples = {
                (*each.labels, name): value(side(interface))
                for each in snapshot.traffic
                for name, interface in each.interfaces.items()
            }
            title = f"{verb.capitalize()}d {what.replace('_', ' ')}.".replace("Transmitd", "Transmitted")
            yield metrics.counter(f"container_network_{verb}_{what}_total", title, samples, labels)


def _received(interface: Interface) -> Flow:
    return interface.received


def _transmitted(interface: Interface) -> Flow:
    return interface.transmitted


def _machine(snapshot: Snapshot) -> Iterable[Family]:
    machine = snapshot.machine
    labels, values = ("machine_id", "boot_id"), (machine.machine_id, machine.boot_id)
    yield metrics.gauge("machine_cpu_cores", "Processors of the machine.", {values: machine.cores}, labels)
    yield metrics.gauge(
        "machine_memory_bytes", "Memory of the machine.", {values: machine.memory_bytes}, labels
    )
    yield metrics.gauge("machine_swap_bytes", "Swap of the machine.", {values: machine.swap_bytes}, labels)
    yield metrics.gauge("container_scrape_error", "Whether something could not be read.", {(): 0})
    yield metrics.gauge("machine_scrape_error", "Likewise, of the machine.", {(): 0})
