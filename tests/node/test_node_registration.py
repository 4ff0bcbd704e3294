"""The Node's status: when it is written, and what its conditions say of time."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import msgspec
import pytest

from ondol.base.clock import ManualClock, rfc3339
from ondol.client import AsgiTransport, Client
from ondol.node import registration
from ondol.node.config import NodeConfig

pytestmark = pytest.mark.anyio


async def test_a_heartbeat_is_stamped_with_each_write_and_causes_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Conditions tell when they were looked at last; time alone passing writes no status."""
    healthy = registration.measured(tmp_path)
    machines = [healthy]
    monkeypatch.setattr(registration, "measured", lambda _: machines[-1])
    written: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        body = (await receive())["body"]
        if scope["path"].endswith("/status"):
            written.append(msgspec.json.decode(body)["status"]["conditions"])
        document = {"kind": "Node", "metadata": {"name": "here", "uid": "u"}}
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": msgspec.json.encode(document)})

    clock = ManualClock()
    config = NodeConfig(instance="abcdef", name="here", data_dir=tmp_path, host_ip="10.0.0.1")
    ours = registration.Registration(config, Client(AsgiTransport(app)), clock, runtime="crun://1")
    await ours.register(1)
    begun = rfc3339(clock.now())
    await clock.advance(60)
    await ours._write_status(healthy)
    assert [{c["lastHeartbeatTime"] for c in said} for said in written] == [{begun}]
    await ours._write_status(dataclasses.replace(healthy, memory_available_bytes=0))
    assert {c["lastHeartbeatTime"] for c in written[1]} == {rfc3339(clock.now())}
    moved = {c["type"]: c["lastTransitionTime"] for c in written[1]}
    assert (moved["MemoryPressure"], moved["Ready"]) == (rfc3339(clock.now()), begun)
