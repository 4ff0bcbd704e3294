"""The machine's engines that pods run on (runtime, images, network), and facts measured once at the start."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

from ondol.base.clock import Clock
from ondol.base.reserve import Reserve
from ondol.node.config import NodeConfig
from ondol.node.images.images import Images
from ondol.node.images.rootfs import RootFolders
from ondol.node.metrics.books import Books
from ondol.node.network.ipam import AddressPool
from ondol.node.network.prepared import PreparedSandboxes
from ondol.node.network.sandbox import Network
from ondol.node.pods.sources import Sources
from ondol.node.runtime.port import Runtime


@dataclass(frozen=True, slots=True)
class Engines:
    config: NodeConfig
    clock: Clock
    runtime: Runtime
    images: Images
    roots: RootFolders
    network: Network
    prepared: PreparedSandboxes
    addresses: AddressPool
    sources: Sources
    books: Books
    reserve: Reserve
    """Space that records and addresses are written in on a full disk."""
    memory_bytes: int
    allocatable: dict[str, str]
    oom_score_adj: int
    also_masked: tuple[str, ...]
    also_read_only: tuple[str, ...]
    """What containers do not see, and may not write, of this machine beside what is so on all."""
    mounting: threading.Lock = field(default_factory=threading.Lock)
    """Held while an image is mounted as a volume."""
