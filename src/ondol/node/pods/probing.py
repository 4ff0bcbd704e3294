"""Probes: when to ask, how to count, and who is asked how.

Until a probe first succeeds it is asked more often than its period (5 ms, growing to the period; a
command 20 ms), so a pod is ready milliseconds after it answers; failures in that time count once a
period, so the thresholds mean the same number of seconds as in Kubernetes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

import anyio

from ondol.base.clock import Clock
from ondol.node.pods import env, http_probe
from ondol.node.pods.target import Answer, Target, UnknownPort
from ondol.node.runtime.port import ExecTimeout, RuntimeFailed

Kind = Literal["startup", "readiness", "liveness"]
Spec = Mapping[str, Any]

# A connection costs next to nothing: it may be tried again after a seventh of the time that has passed.
_FIRST_WAIT_S: Final = 0.005
_GROWTH: Final = 1.15
# A command costs as much as a small start.
_FIRST_COMMAND_WAIT_S: Final = 0.02
_COMMAND_GROWTH: Final = 1.5
_OUTPUT_MAX: Final = 1024


@dataclass(frozen=True, slots=True)
class Schedule:
    """A probe's timing and thresholds with the API's defaults."""

    initial_delay_s: float
    period_s: float
    timeout_s: float
    success_threshold: int
    failure_threshold: int
    runs_command: bool = False

    @classmethod
    def of(cls, probe: Spec) -> Schedule:
        return cls(
            float(probe.get("initialDelaySeconds") or 0),
            float(probe.get("periodSeconds") or 10),
            float(probe.get("timeoutSeconds") or 1),
            int(probe.get("successThreshold") or 1),
            int(probe.get("failureThreshold") or 3),
            "exec" in probe,
        )


@dataclass(frozen=True, slots=True)
class Count:
    """Results so far; `verdict` changes only when a threshold is reached."""

    verdict: bool | None = None
    successes: int = 0
    failures: int = 0
    has_succeeded: bool = False
    attempts: int = 0
    counted_at: float = 0.0


def counted(count: Count, schedule: Schedule, *, succeeded: bool, now: float) -> Count:
    """The count after one more answer."""
    if succeeded:
        successes = count.successes + 1
        verdict = True if successes >= schedule.success_threshold else count.verdict
        return Count(verdict, successes, 0, has_succeeded=True, attempts=count.attempts + 1, counted_at=now)
    is_early = not count.has_succeeded and count.failures > 0 and now - count.counted_at < schedule.period_s
    failures = count.failures if is_early else count.failures + 1
    verdict = False if failures >= schedule.failure_threshold else count.verdict
    counted_at = count.counted_at if is_early else now
    return Count(verdict, 0, failures, count.has_succeeded, count.attempts + 1, counted_at)


def wait_s(count: Count, schedule: Schedule) -> float:
    """How long until the next question."""
    if count.has_succeeded:
        return schedule.period_s
    if schedule.runs_command:
        eager_s = _FIRST_COMMAND_WAIT_S * _COMMAND_GROWTH ** min(count.attempts, 60)
    else:
        eager_s = _FIRST_WAIT_S * _GROWTH ** min(max(count.attempts - 1, 0), 120)
    return float(min(eager_s, schedule.period_s))


@dataclass(frozen=True, slots=True)
class Listener:
    """Who hears of a container's probes."""

    report: Callable[[Kind, bool], None]
    """A verdict was reached or changed."""
    tell: Callable[[Kind, Answer], None]
    """An answer worth an event, long before a verdict."""
    is_ending: Callable[[], bool]
    """The pod is to end: nobody starts it anew or waits for its start."""
    asked: Callable[[Kind, Answer], None] = lambda _kind, _answer: None
    """Every answer, as it comes."""


@dataclass(frozen=True, slots=True)
class Run:
    """One run of a container, as far as its probes go."""

    container: Spec
    target: Target
    started_at: float
    """Seconds since the epoch: initial delays count from here."""
    is_started: bool
    """It has started up; its startup probe was content or it has none."""


async def watch_all(run: Run, clock: Clock, listener: Listener) -> None:
    """Ask all probes of a container for as long as it runs, the others once the startup probe is content."""
    is_starting = bool(run.container.get("startupProbe")) and not run.is_started
    if is_starting and not await _watch("startup", run, clock, listener):
        return
    async with anyio.create_task_group() as probes:
        for kind in ("readiness", "liveness"):
            if run.container.get(f"{kind}Probe"):
                probes.start_soon(_watch, kind, run, clock, listener)


async def _watch(kind: Kind, run: Run, clock: Clock, listener: Listener) -> bool:
    """Ask again and again; ends, with the verdict, once nothing more depends on it.

    That is so for a container that has started up or is to be restarted, and for a pod that is to end
    (readiness alone is followed to the last). `tell` does not hear of the first failure of a container that
    may just be starting.
    """
    probe = run.container[f"{kind}Probe"]
    schedule = Schedule.of(probe)
    await clock.sleep(max(run.started_at + schedule.initial_delay_s - clock.now(), 0.0))
    count, reported_at = Count(), clock.monotonic()
    while kind == "readiness" or not listener.is_ending():
        answer = await ask(probe, run.target, schedule.timeout_s, run.container, clock)
        listener.asked(kind, answer)
        now = clock.monotonic()
        before, count = count, _after(count, schedule, answer, now)
        if _is_news(before, count, answer) or (
            answer.kind == "error" and now - reported_at >= schedule.period_s
        ):
            reported_at = now
            listener.tell(kind, answer)
        if count.verdict is not None and count.verdict != before.verdict:
            listener.report(kind, count.verdict)
            if kind == "startup" or (kind == "liveness" and not count.verdict):
                return count.verdict
        await clock.sleep(wait_s(count, schedule))
    return False


def _after(count: Count, schedule: Schedule, answer: Answer, now: float) -> Count:
    """As the kubelet, an error (the question could not be put) says nothing about the container."""
    if answer.kind == "error":
        return replace(count, attempts=count.attempts + 1)
    return counted(count, schedule, succeeded=answer.succeeded, now=now)


def _is_news(before: Count, after: Count, answer: Answer) -> bool:
    if answer.kind == "warning":
        return True
    is_reported = after.verdict is False or after.has_succeeded or after.failures > 1
    return answer.kind == "failure" and is_reported and after.failures > before.failures


async def ask(probe: Spec, target: Target, timeout_s: float, container: Spec, clock: Clock) -> Answer:
    """One question by the means the probe names."""
    try:
        if "httpGet" in probe:
            return await http_probe.ask(probe["httpGet"], target, timeout_s, clock)
        if "tcpSocket" in probe:
            return await _tcp(probe["tcpSocket"], target, timeout_s, clock)
        if "grpc" in probe:
            return await _grpc(probe["grpc"], target, timeout_s)
        return await _exec(probe["exec"], target, timeout_s, container)
    except UnknownPort as error:
        return Answer("error", str(error))


async def _exec(action: Spec, target: Target, timeout_s: float, container: Spec) -> Answer:
    """The command may name variables that the container spells out; it has the container's environment."""
    declared = {
        v["name"]: str(v.get("value") or "") for v in container.get("env") or () if "valueFrom" not in v
    }
    command = [env.expand(str(part), declared) for part in action.get("command") or ()]
    try:
        result = await target.run(command, timeout_s)
    except ExecTimeout as error:
        return Answer("failure", str(error))
    except (RuntimeFailed, OSError) as error:
        return Answer("error", str(error))
    text = result.output.decode(errors="replace")[:_OUTPUT_MAX]
    return Answer("success" if result.code == 0 else "failure", text)


async def _tcp(action: Spec, target: Target, timeout_s: float, clock: Clock) -> Answer:
    host, port = action.get("host") or target.address, target.port(action["port"])
    try:
        with clock.fail_after(timeout_s):
            asked_from = None if action.get("host") else target.asked_from
            stream = await anyio.connect_tcp(host, port, local_host=asked_from)
            await stream.aclose()
    except (OSError, TimeoutError, UnicodeError) as error:  # the last: of a host that is no name
        return Answer("failure", http_probe.dial_failure(host, port, error))
    return Answer("success")


async def _grpc(action: Spec, target: Target, timeout_s: float) -> Answer:
    from ondol.node.pods import grpc_probe  # noqa: PLC0415 - heavy: loaded by the first pod that needs it

    service = str(action.get("service") or "")
    return await grpc_probe.ask(target.address, int(action["port"]), service, timeout_s, target.asked_from)
