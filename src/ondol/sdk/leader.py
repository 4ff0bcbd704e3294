"""Leader election by a Lease: of several processes with the same controllers, one acts.

The timings are those of Kubernetes (15 s lease, renewed every 2 s, given up after 10 s without
success), so a leader that cannot reach the API server stops before another can begin. Time is judged
by what this process observed, never by comparing clocks of two machines.
"""

from __future__ import annotations

from dataclasses import dataclass

from ondol.api import resources
from ondol.api.objects import Object
from ondol.base import clock as time
from ondol.base import errors, log
from ondol.base.clock import Clock
from ondol.client import Client


class LeadershipLost(errors.OndolError):
    """Another process may lead now: stop everything this one does as the leader."""


@dataclass(frozen=True, slots=True)
class Lease:
    """Which Lease to hold, and the three periods."""

    name: str
    namespace: str = "kube-system"
    duration_s: float = 15.0
    renew_deadline_s: float = 10.0
    retry_s: float = 2.0


class Election:
    """`acquire` returns once this process leads; `keep` then renews until leadership is lost."""

    def __init__(self, client: Client, lease: Lease, *, identity: str, clock: Clock) -> None:
        self._client = client
        self._lease = lease
        self._identity = identity
        self._clock = clock
        self._observed: tuple[str, str, float] = ("", "", 0.0)
        self._log = log.get("leader").bind(lease=lease.name, identity=identity)

    async def acquire(self) -> None:
        while not await self._try():
            await self._clock.sleep(self._lease.retry_s)
        self._log.info("leadership_acquired")

    async def keep(self) -> None:
        renewed = self._clock.monotonic()
        while True:
            await self._clock.sleep(self._lease.retry_s)
            if await self._try():
                renewed = self._clock.monotonic()
            elif self._clock.monotonic() - renewed >= self._lease.renew_deadline_s:
                raise LeadershipLost(f"lease {self._lease.name} could not be renewed")

    async def release(self) -> None:
        """Let another process lead at once."""
        lease = await self._client.get(resources.LEASE, self._lease.name, self._lease.namespace)
        if (lease.get("spec") or {}).get("holderIdentity") == self._identity:
            await self._client.update(
                resources.LEASE, {**lease, "spec": {**lease["spec"], "holderIdentity": ""}}
            )

    async def _try(self) -> bool:
        try:
            return await self._claim()
        except errors.ApiError as error:
            self._log.debug("lease_not_written", error=error.message)
            return False

    async def _claim(self) -> bool:
        try:
            lease = await self._client.get(resources.LEASE, self._lease.name, self._lease.namespace)
        except errors.NotFound:
            metadata = {"name": self._lease.name, "namespace": self._lease.namespace}
            await self._client.create(resources.LEASE, {"metadata": metadata, "spec": self._spec({})})
            return True
        spec = lease.get("spec") or {}
        if spec.get("holderIdentity") not in ("", None, self._identity) and not self._ran_out(spec):
            return False
        # The document carries the resourceVersion that was read: of two claimants one gets a Conflict.
        await self._client.update(resources.LEASE, {**lease, "spec": self._spec(spec)})
        return True

    def _ran_out(self, spec: Object) -> bool:
        holder, renewed = str(spec.get("holderIdentity") or ""), str(spec.get("renewTime") or "")
        if self._observed[:2] != (holder, renewed):
            self._observed = (holder, renewed, self._clock.monotonic())
            return False
        duration_s = float(spec.get("leaseDurationSeconds") or self._lease.duration_s)
        return self._clock.monotonic() - self._observed[2] >= duration_s

    def _spec(self, old: Object) -> Object:
        now = time.rfc3339_micro(self._clock.now())
        is_holder = old.get("holderIdentity") == self._identity
        return {
            **old,
            "holderIdentity": self._identity,
            "leaseDurationSeconds": int(self._lease.duration_s),
            "acquireTime": old.get("acquireTime") if is_holder else now,
            "renewTime": now,
            "leaseTransitions": int(old.get("leaseTransitions") or 0) + (0 if is_holder or not old else 1),
        }
