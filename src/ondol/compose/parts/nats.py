"""The part `nats`: NATS JetStream, the engine that keeps events. It starts when the first one is to be kept.

It goes on when the platform's code changes, unless it has changed itself.
"""

from __future__ import annotations

import hashlib
import json
import os
from functools import partial
from typing import Any, Final

from ondol.compose.instance import Instance
from ondol.compose.part import Identity, Notify, Part
from ondol.compose.parts import process
from ondol.compose.settings import Settings

_MIB: Final = 1 << 20


def part(instance: Instance, settings: Settings) -> Part:
    """Who speaks to it ends before it, so that what was delivered is told to it."""
    config = engine_config(instance, settings)
    return Part(
        "nats",
        partial(run, config),
        on_demand=True,
        outlives=("events",),
        probe=lambda _pid: _is_ready(config),
        identity=partial(identity, config),
        silence_max_s=process.SILENCE_MAX_S,
        address=f"nats://127.0.0.1:{instance.ports.nats}",
        idle_memory_mib=20,
    )


def run(config: Any, _notify: Notify) -> None:
    """Become the server; the supervisor asks whether it serves."""
    from ondol.eventing import engine

    command = engine.command(config)
    os.execve(command[0], command, dict(engine.environment(config)))  # noqa: S606 - a fixed command line, no shell


def identity(config: Any) -> Identity:
    """What a server started now would be: its binary, as the machine tells files apart, and its document."""
    from ondol.eventing import engine

    binary = engine.binary().stat()
    content = json.dumps(
        [binary.st_ino, binary.st_size, binary.st_mtime_ns, engine.document(config)], sort_keys=True
    )
    return Identity(hashlib.sha256(content.encode()).hexdigest())


def _is_ready(config: Any) -> bool:
    from ondol.eventing import engine

    return engine.ready(config)


def engine_config(instance: Instance, settings: Settings) -> Any:
    """The server's `EngineConfig`."""
    from ondol.eventing.engine import EngineConfig

    return EngineConfig(
        data_dir=instance.data_dir / "events",
        config_file=instance.run_dir / "nats.json",
        port=instance.ports.nats,
        memory_bytes_max=settings.events_memory_max_mib * _MIB,
        file_bytes_max=settings.events_disk_max_mib * _MIB,
    )
