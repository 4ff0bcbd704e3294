"""Lifecycle hooks, and where probes and hooks reach a container."""

from __future__ import annotations

from ondol.base.clock import Clock
from ondol.contracts.mesh import PROBES_FROM
from ondol.node.pods import http_probe, probing
from ondol.node.pods.host import Host
from ondol.node.pods.model import Attempt, Record, Spec
from ondol.node.pods.target import Target, UnknownPort


def target_of(host: Host, record: Record, container: Spec, attempt: Attempt) -> Target:
    ports = {p["name"]: int(p["containerPort"]) for p in container.get("ports") or () if p.get("name")}
    handle = attempt.handle
    if handle is None:
        raise ValueError("a container that was not created cannot be probed")
    address = record.address or host.config.host_ip
    asked_from = PROBES_FROM if record.address and host.config.mesh_enabled else None
    return Target(
        address, ports, lambda args, timeout_s: host.runtime.exec(handle, args, timeout_s), asked_from
    )


async def run(hook: Spec, target: Target, clock: Clock, timeout_s: float) -> str:
    """Carry out a lifecycle hook; what went wrong, empty if nothing."""
    if "sleep" in hook:
        await clock.sleep(float(hook["sleep"]["seconds"]))
        return ""
    if "httpGet" in hook:
        try:
            await http_probe.get(hook["httpGet"], target, timeout_s, clock, agent=http_probe.HOOK_AGENT)
        except (OSError, TimeoutError, ValueError, UnknownPort, http_probe.HalfAnswer) as error:
            return str(error)
        return ""  # whatever the answer: the hook was heard
    if "exec" in hook:
        answer = await probing.ask({"exec": hook["exec"]}, target, timeout_s, {}, clock)
        return "" if answer.succeeded else answer.message or "the command failed"
    return f"hook {sorted(hook)} is not supported"
