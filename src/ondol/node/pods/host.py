"""What every pod worker shares: the node's configuration, the API, the runtime and the machine."""

from __future__ import annotations

from dataclasses import dataclass, field

from ondol import sdk
from ondol.base.clock import Clock
from ondol.client import Client
from ondol.node.config import NodeConfig
from ondol.node.metrics.activity import Activity
from ondol.node.pods.machine import Machine
from ondol.node.pods.records import Records
from ondol.node.pods.sources import Sources
from ondol.node.runtime.port import Runtime


@dataclass(frozen=True, slots=True)
class Host:
    config: NodeConfig
    client: Client
    clock: Clock
    recorder: sdk.EventRecorder
    runtime: Runtime
    machine: Machine
    records: Records
    sources: Sources
    boot: str
    """The machine's present run: nothing runs of what another one left."""
    allocatable: dict[str, str]
    kernel: str
    """As `uname -r` has it."""
    activity: Activity = field(default_factory=Activity)
    """What is counted of its pods."""
