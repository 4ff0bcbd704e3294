"""Leader election by a Lease: of several processes with the same controllers, one acts.

The timings are those of Kubernetes: a lease of 15 s, renewed every 2 s. A leader gives up 10 s after it
began the last renewal that succeeded, however long a request to the API server may hang; another one waits
for 15 s after it saw that renewal, which is later. So the first has stopped before the second begins, if
stopping takes less than the 5 s between. Time is judged by what each process observed, never by comparing
the clocks of two machines.

    a begins a renewal at 2 s, which succeeds; b sees it at 3 s; a's next requests hang
    a gives up at 12 s; b leads at 18 s
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
    """Which Lease to hold, and the three periods; the deadline must be well below the duration."""

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
        self._renewed = 0.0
        """When the last try that succeeded began, in monotonic time: others count from then or later."""
        self._log = log.get("leader").bind(lease=lease.name, identity=identity)

    async def acquire(self) -> None:
        while not await self._try(self._lease.renew_deadline_s):
            await self._clock.sleep(self._lease.retry_s)
        self._log.info("leadership_acquired")

    async def keep(self) -> None:
        """Renew for ever; `LeadershipLost` once that has not succeeded for the renew deadline."""
        while True:
            await self._clock.sleep(min(self._lease.retry_s, max(0.0, self._left_s())))
            left_s = self._left_s()
            if left_s <= 0:
                raise LeadershipLost(f"lease {self._lease.name} could not be renewed")
            await self._try(left_s)

    async def release(self) -> None:
        """Let another process lead at once; only after all that this one did as the leader has ended.

        Where the lease cannot be given back in the time that is left of it, it runs out by itself.
        """
        try:
            with self._clock.move_on_after(max(0.0, self._left_s())):
                await self._give_back()
        except errors.ApiError as error:
            self._log.info("lease_not_released", error=error.message)

    async def _give_back(self) -> None:
        lease = await self._client.get(resources.LEASE, self._lease.name, self._lease.namespace)
        spec = lease.get("spec") or {}
        if spec.get("holderIdentity") == self._identity:
            await self._client.update(resources.LEASE, {**lease, "spec": {**spec, "holderIdentity": ""}})
            self._log.info("leadership_released")

    def _left_s(self) -> float:
        return self._renewed + self._lease.renew_deadline_s - self._clock.monotonic()

    async def _try(self, limit_s: float) -> bool:
        """Claim or renew the lease within so many seconds; whether it succeeded."""
        began = self._clock.monotonic()
        try:
            with self._clock.fail_after(limit_s):
                is_leader = await self._claim()
        except errors.ApiError as error:
            self._log.debug("lease_not_written", error=error.message)
            return False
        except TimeoutError:
            self._log.debug("lease_not_written", error=f"no answer within {limit_s:g} s")
            return False
        if is_leader:
            self._renewed = began
        return is_leader

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
