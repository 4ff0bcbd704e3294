"""One APIService: whether its server answers, what it serves, and the condition that says so.

It is asked every 30 seconds, and at once when its Service or the Service's endpoints change, but never more
than once a second; after failures at growing intervals of at most those 30 seconds.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import anyio
import anyio.to_thread
import msgspec

from ondol.api import objects, resources
from ondol.api.objects import Object
from ondol.apiserver import bootstrap, lenses, writing
from ondol.apiserver.aggregation import availability, descriptions, discovery, requests
from ondol.apiserver.aggregation.availability import Availability
from ondol.apiserver.aggregation.remotes import Documents, Remote
from ondol.apiserver.core import Core
from ondol.apiserver.service_endpoints import Address, Endpoints
from ondol.base import errors, log
from ondol.base.backoff import Backoff
from ondol.base.signal import Signal

_INTERVAL_S: Final = 30.0
_PACE_S: Final = 1.0
_BACKOFF: Final = Backoff(initial_s=_PACE_S, maximum_s=_INTERVAL_S)
_ASKED_MAX: Final = 5
_PROBE_BYTES_MAX: Final = 4 * 1024 * 1024
_DISCOVERY_BYTES_MAX: Final = 4 * 1024 * 1024
_OPENAPI_BYTES_MAX: Final = 16 * 1024 * 1024
_OK: Final = 200
_AGGREGATED: Final = (
    "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,"
    "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList"
)
_JSON: Final = "application/json"

_log = log.get("apiserver")


class Keeper:
    """Tells `core.remotes` of one remote, and the store of its condition."""

    def __init__(self, core: Core, remote: Remote) -> None:
        self._core = core
        self._remote = remote
        self._endpoints = Endpoints(core.state, remote.namespace, remote.service)
        self._woken = Signal()
        self._openapi_v2: tuple[bytes, bytes] = b"", b""
        """As it came, by its digest, and what is kept of it."""

    @property
    def name(self) -> str:
        return self._remote.name

    def wake(self) -> None:
        self._woken.set()

    async def pause(self) -> None:
        await self._core.clock.sleep(_PACE_S)

    async def run(self) -> None:
        """For ever."""
        failures = 0
        while True:
            self._woken.clear()
            is_well = await self._look()
            failures = 0 if is_well else failures + 1
            await self.pause()
            with self._core.clock.move_on_after(_INTERVAL_S if is_well else _BACKOFF.delay_s(failures)):
                await self._woken.wait()

    async def _look(self) -> bool:
        """Ask, write what came of it; whether all that has to be there is."""
        standing = availability.standing(self._remote, self._endpoints)
        address, outcome = None, standing.failure
        if outcome is None:
            address, outcome = await self._asked(standing.endpoints)
        if address is None:
            self._core.remotes.tell(self._remote, Documents())
            await write(self._core, self._remote.name, outcome)
            return outcome.reason != "FailedDiscoveryCheck"
        # First what it serves: whoever sees that it is there finds it in discovery.
        documents = await self._documents(address)
        self._core.remotes.tell(self._remote, documents)
        await write(self._core, self._remote.name, outcome)
        return documents.resources is not None

    async def _asked(self, endpoints: Sequence[Address]) -> tuple[Address | None, Availability]:
        """The first endpoint to answer as it should, or why none does."""
        allowed = requests.reachable(self._core.config, endpoints)
        if not allowed:
            place = f'service/{self._remote.service} in "{self._remote.namespace}"'
            return None, availability.undiscovered(f"no endpoint of {place} may be asked")
        chosen = self._core.rng.sample(allowed, min(len(allowed), _ASKED_MAX))
        answering: list[Address] = []
        reasons: list[str] = []
        async with anyio.create_task_group() as group:

            async def probe(address: Address) -> None:
                reason = await self._probe(address)
                if reason:
                    reasons.append(reason)
                else:
                    answering.append(address)
                    group.cancel_scope.cancel()

            for address in chosen:
                group.start_soon(probe, address)
        if answering:
            return answering[0], availability.PASSED
        return None, availability.undiscovered(min(reasons))

    async def _probe(self, address: Address) -> str:
        """Why an endpoint does not answer as it should; empty if it does."""
        url = f"https://{address[0]}:{address[1]}{self._remote.root}"
        try:
            answer = await self._fetch(address, self._remote.root, bytes_max=_PROBE_BYTES_MAX)
        except OSError as error:
            return availability.of_silence(url, errors.why(error))
        return availability.of_answer(url, answer.status)

    async def _fetch(
        self, address: Address, target: str, *, bytes_max: int, accept: str = _JSON
    ) -> requests.Fetched:
        to = requests.destination(self._core, self._remote, address)
        return await requests.fetch(self._core, to, target, accept=accept, bytes_max=bytes_max)

    async def _documents(self, address: Address) -> Documents:
        """What the server says that it serves; what it does not say in time, or not so, is none."""
        try:
            resources_ = await self._discovered(address)
        except (OSError, msgspec.MsgspecError, ValueError) as error:
            _log.warning("discovery_failed", api_service=self._remote.name, error=str(error))
            return Documents()
        return Documents(resources_, await self._hash(address), await self._v2(address))

    async def _discovered(self, address: Address) -> tuple[Object, ...]:
        """In the new form, where the server knows it."""
        remote = self._remote
        answer = await self._fetch(address, "/apis", bytes_max=_DISCOVERY_BYTES_MAX, accept=_AGGREGATED)
        if answer.status == _OK and "as=APIGroupDiscoveryList" in answer.content_type.replace(" ", ""):
            return discovery.of_aggregated(answer.body, remote.group, remote.version)
        answer = await self._fetch(address, remote.root, bytes_max=_DISCOVERY_BYTES_MAX)
        if answer.status != _OK:
            raise OSError(f"failed to download legacy discovery for {remote.root}: {answer.status}")
        return discovery.of_legacy(answer.body, remote.group, remote.version)

    async def _hash(self, address: Address) -> str:
        try:
            answer = await self._fetch(address, "/openapi/v3", bytes_max=_DISCOVERY_BYTES_MAX)
            key = self._remote.root.removeprefix("/")
            return descriptions.hash_of(answer.body, key) if answer.status == _OK else ""
        except (OSError, msgspec.MsgspecError, ValueError):
            return ""

    async def _v2(self, address: Address) -> bytes:
        try:
            answer = await self._fetch(address, "/openapi/v2", bytes_max=_OPENAPI_BYTES_MAX)
        except OSError:
            return b""
        if answer.status != _OK:
            return b""
        digest = descriptions.digest(answer.body)
        if digest != self._openapi_v2[0]:
            part = await anyio.to_thread.run_sync(descriptions.part, answer.body, self._remote.root)
            self._openapi_v2 = digest, part
        return self._openapi_v2[1]


async def write(core: Core, name: str, outcome: Availability) -> None:
    """Write the condition, if it is another one."""
    service = core.lookup(resources.API_SERVICE, "", name)
    if service is None or availability.changed(service, outcome, 0) is None:
        return
    served = core.catalogue.of(resources.API_SERVICE)
    uid = objects.uid(service)

    def change(live: Object) -> Object:
        if objects.uid(live) != uid:
            return live  # another one of the name, which has a keeper of its own
        return availability.changed(live, outcome, core.clock.now()) or live

    writes = writing.Writes(core, served, bootstrap.OPTIONS)
    try:
        await writes.update("", name, lenses.Status(served.strategy.status_reset), change)
    except errors.NotFound:
        return
    except errors.OndolError as error:
        _log.warning("availability_not_written", api_service=name, error=str(error))
        return
    _log.info(
        "api_service_availability",
        api_service=name,
        status=outcome.status,
        reason=outcome.reason,
        message=outcome.message,
    )
