"""Probes: when to ask, how to count, and the three ways of asking.

Until a probe first succeeds it is asked more often than its period (20 ms, growing to the period),
so a pod is ready milliseconds after it answers; failures in that time count once a period, so the
thresholds mean the same number of seconds as in Kubernetes.
"""

from __future__ import annotations

import ssl
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

import anyio

from ondol.base.clock import Clock
from ondol.node.runtime.port import ExecResult, ExecTimeout, RuntimeFailed

Kind = Literal["startup", "readiness", "liveness"]
Spec = Mapping[str, Any]
Exec = Callable[[list[str], float], Awaitable[ExecResult]]

_FIRST_WAIT_S: Final = 0.02
_GROWTH: Final = 1.5
_BODY_MAX: Final = 1024


@dataclass(frozen=True, slots=True)
class Schedule:
    """A probe's timing and thresholds with the API's defaults."""

    initial_delay_s: float
    period_s: float
    timeout_s: float
    success_threshold: int
    failure_threshold: int

    @classmethod
    def of(cls, probe: Spec) -> Schedule:
        return cls(
            float(probe.get("initialDelaySeconds") or 0),
            float(probe.get("periodSeconds") or 10),
            float(probe.get("timeoutSeconds") or 1),
            int(probe.get("successThreshold") or 1),
            int(probe.get("failureThreshold") or 3),
        )


@dataclass(frozen=True, slots=True)
class Count:
    """Results so far; `verdict` changes only when a threshold is reached."""

    verdict: bool | None = None
    successes: int = 0
    failures: int = 0
    has_succeeded: bool = False
    asked: int = 0
    counted_at: float = 0.0


def counted(count: Count, schedule: Schedule, *, succeeded: bool, now: float) -> Count:
    """The count after one more answer."""
    if succeeded:
        successes = count.successes + 1
        verdict = True if successes >= schedule.success_threshold else count.verdict
        return Count(verdict, successes, 0, has_succeeded=True, asked=count.asked + 1, counted_at=now)
    is_early = not count.has_succeeded and count.failures > 0 and now - count.counted_at < schedule.period_s
    failures = count.failures if is_early else count.failures + 1
    verdict = False if failures >= schedule.failure_threshold else count.verdict
    counted_at = count.counted_at if is_early else now
    return Count(verdict, 0, failures, count.has_succeeded, count.asked + 1, counted_at)


def wait_s(count: Count, schedule: Schedule) -> float:
    """How long until the next question."""
    if count.has_succeeded:
        return schedule.period_s
    return float(min(_FIRST_WAIT_S * _GROWTH ** min(count.asked, 60), schedule.period_s))


@dataclass(frozen=True, slots=True)
class Target:
    """Where a container is reached."""

    address: str
    ports: Mapping[str, int]
    run: Exec

    def port(self, given: str | int) -> int:
        if isinstance(given, int) or str(given).isdigit():
            return int(given)
        return self.ports[str(given)]


async def watch(
    probe: Spec,
    target: Target,
    clock: Clock,
    report: Callable[[bool], None],
    *,
    failed: Callable[[str], None],
    until: bool | None = None,
) -> None:
    """Ask for ever and report each change of verdict; with `until`, return at that verdict.

    A failed verdict is reported on every further failure too: a container that is not restarted in
    time is asked to again. `failed` hears of each failure that counts, long before a verdict; not of
    the first one of a container that may just be starting.
    """
    schedule = Schedule.of(probe)
    await clock.sleep(schedule.initial_delay_s)
    count = Count()
    while True:
        succeeded, message = await ask(probe, target, schedule.timeout_s)
        after = counted(count, schedule, succeeded=succeeded, now=clock.monotonic())
        if after.verdict is not None and (
            after.verdict != count.verdict or (not succeeded and not after.verdict)
        ):
            report(after.verdict)
        is_told = after.verdict is False or after.has_succeeded or after.failures > 1
        if not succeeded and is_told and after.failures > count.failures:
            failed(message)
        if after.verdict is not None and after.verdict is until:
            return
        count = after
        await clock.sleep(wait_s(count, schedule))


async def ask(probe: Spec, target: Target, timeout_s: float) -> tuple[bool, str]:
    """One question: whether it succeeded, and what to say if not."""
    try:
        with anyio.fail_after(timeout_s):
            if "httpGet" in probe:
                return await _http(probe["httpGet"], target)
            if "tcpSocket" in probe:
                return await _tcp(probe["tcpSocket"], target)
            return await _exec(probe["exec"], target, timeout_s)
    except TimeoutError:
        return False, f"probe timed out after {timeout_s:g}s"
    except (OSError, KeyError, ValueError, anyio.BrokenResourceError, anyio.EndOfStream) as error:
        return False, f"probe failed: {_reason(error)}"


def _reason(error: BaseException) -> str:
    if isinstance(error, KeyError):
        return f"no port is named {error}"
    cause = error.__cause__
    return str(cause or error) or type(error).__name__


async def _exec(action: Spec, target: Target, timeout_s: float) -> tuple[bool, str]:
    try:
        result = await target.run(list(action.get("command") or ()), timeout_s)
    except (ExecTimeout, RuntimeFailed) as error:
        return False, str(error)
    return result.code == 0, result.output.decode(errors="replace")[:_BODY_MAX]


async def _tcp(action: Spec, target: Target) -> tuple[bool, str]:
    stream = await anyio.connect_tcp(action.get("host") or target.address, target.port(action["port"]))
    await stream.aclose()
    return True, ""


async def _http(action: Spec, target: Target) -> tuple[bool, str]:
    status, body = await request(action, target, user_agent="kube-probe/1.34")
    return 200 <= status < 400, f"HTTP probe failed with statuscode: {status}{_tail(body)}"


def _tail(body: bytes) -> str:
    text = body.decode(errors="replace").strip()
    return f": {text[:200]}" if text else ""


async def request(action: Spec, target: Target, *, user_agent: str) -> tuple[int, bytes]:
    """GET as `httpGet` says; status code and the head of the body."""
    host = action.get("host") or target.address
    port = target.port(action["port"])
    context = _unverified() if str(action.get("scheme", "HTTP")).upper() == "HTTPS" else None
    stream = (
        await anyio.connect_tcp(host, port)
        if context is None
        else await anyio.connect_tcp(host, port, ssl_context=context, tls_standard_compatible=False)
    )
    async with stream:
        await stream.send(_request_head(action, f"{host}:{port}", user_agent))
        received = b""
        while b"\r\n\r\n" not in received and len(received) < 65536:
            received += await stream.receive()
    head, _, body = received.partition(b"\r\n\r\n")
    words = head.split(b"\r\n", 1)[0].split(None, 2)
    if len(words) < 2 or not words[0].startswith(b"HTTP/"):
        raise ValueError("the answer is not HTTP")
    return int(words[1]), body


def _request_head(action: Spec, host: str, user_agent: str) -> bytes:
    given = [(h["name"], h["value"]) for h in action.get("httpHeaders") or ()]
    names = {name.lower() for name, _ in given}
    defaults = [("Host", host), ("User-Agent", user_agent), ("Accept", "*/*"), ("Connection", "close")]
    headers = [(n, v) for n, v in defaults if n.lower() not in names] + given
    path = action.get("path") or "/"
    path = path if path.startswith("/") else f"/{path}"
    lines = [f"GET {path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers)]
    return "\r\n".join([*lines, "", ""]).encode()


def _unverified() -> ssl.SSLContext:
    """Probes ask whether a server answers, not who it is (as in Kubernetes)."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
