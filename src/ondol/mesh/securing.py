"""What the world needs of identities and of the state of guarding, besides the objects it is made of."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Final

from ondol.api import conditions, objects, resources
from ondol.api.objects import Object
from ondol.contracts import mesh
from ondol.mesh.identity import spiffe
from ondol.mesh.identity.feed import AuthorityFeed
from ondol.mesh.model import mesh_options
from ondol.mesh.policy import selection
from ondol.mesh.translate import reach
from ondol.mesh.translate.world import Translation, World
from ondol.mesh.xds import types
from ondol.mesh.xds.types import Origin
from ondol.sdk import Manager

_OPEN_S: Final = 5.0
"""For so long the pods of a workload wait for the last of them to be turned, before policies hold for all."""


class Security:
    """`completed` at each translation; `run` beside it."""

    def __init__(self, manager: Manager, changed: Callable[[], None], platform_namespace: str) -> None:
        self._clock = manager.clock
        self._changed = changed
        self._platform_namespace = platform_namespace
        self._authority = AuthorityFeed(manager, changed)
        self._options = manager.informer(
            resources.CONFIG_MAP,
            namespace=mesh_options.CONFIG_MAP.namespace,
            field_selector=f"metadata.name={mesh_options.CONFIG_MAP.name}",
        )
        self._options.add_handler(lambda _old, _new: changed())
        self._opening = Opening()
        self.run = self._authority.run

    def completed(self, world: World, former: Translation) -> World:
        """The world with the mesh's configuration, certificates, and who is about to be turned.

        `former` is what was translated last.
        """
        options = mesh_options.options(self._options.lister.get(mesh_options.CONFIG_MAP))
        world = replace(world, options=options)
        if not _is_secured(world):
            return world
        identities = self._identities(world, options.trust_domain)
        closed = self._opening.closed(world, former)
        return replace(
            world,
            closed=closed,
            certificates=dict(self._authority.certificates(identities, options.trust_domain)),
            roots=self._authority.roots(),
            opening=self._opening.of(world, former, self._clock.monotonic()),
        )

    def _identities(self, world: World, domain: str) -> Iterator[str]:
        """Of whoever calls or is called."""
        yield spiffe.identity(domain, reach.ISTIO_SYSTEM, reach.INGRESS_ACCOUNT)
        yield spiffe.identity(domain, self._platform_namespace, reach.PLATFORM_WORKLOAD)
        for pod in world.pods:
            if conditions.is_true(pod, mesh.SANDBOX_READY):
                yield spiffe.identity(domain, objects.namespace(pod), spiffe.account(pod))

    async def close(self) -> None:
        """Have all translated anew when somebody has been waited for long enough; for ever."""
        while True:
            await self._clock.sleep(1.0)
            if self._opening.has_ended(self._clock.monotonic()):
                self._changed()


class Opening:
    """Which pods run with nothing asked of their calls yet, and are about to be turned.

    One that begins while it is to be guarded is none of them: it is turned before its containers start. So no
    new pod opens its workload.
    """

    def __init__(self) -> None:
        self._since: dict[str, float | None] = {}
        """By uid; None before the proxy is told to listen for what arrives."""
        self._open: frozenset[str] = frozenset()
        """What was answered last."""
        self._closed: frozenset[str] = frozenset()

    def of(self, world: World, former: Translation, now: float) -> frozenset[str]:
        """Their uids, each for five seconds at most; `now` in seconds, of a clock that only goes on."""
        since: dict[str, float | None] = {}
        for pod in world.pods:
            uid = objects.uid(pod)
            is_turned = conditions.is_true(pod, mesh.POD_ARRIVALS_TURNED)
            if is_turned or not conditions.is_true(pod, mesh.POD_PROGRAMMED):
                continue
            if conditions.is_true(pod, mesh.POD_GUARDED) and uid not in self._since:
                continue  # it was so from its beginning
            plan = former.pods.get(objects.key(pod))
            is_asked = plan is not None and bool(plan.arrivals)
            earlier = self._since.get(uid)
            since[uid] = now if is_asked and earlier is None else earlier
        self._since = since
        self._open = frozenset(uid for uid, at in since.items() if at is None or now - at < _OPEN_S)
        return self._open

    def closed(self, world: World, former: Translation) -> frozenset[str]:
        """Slots that hold what is asked of calls since `former`; to be called before `of`.

        One pod that takes the labels of others is guarded as they are: who may label pods opens no workload.
        """
        slots = former.snapshot.of(types.EXTENSION)
        plans = (former.pods.get(objects.key(pod)) for pod in world.pods if objects.uid(pod) in self._open)
        opened = {name for plan in plans if plan is not None for name in plan.filters}
        in_force = {name for name, slot in slots.items() if slot.origins}
        self._closed = frozenset(in_force & self._closed | in_force - opened)
        return self._closed

    def has_ended(self, now: float) -> bool:
        """Whether one that was answered last has been waited for long enough, however long ago that was."""
        return any(at is not None and now - at >= _OPEN_S for at in map(self._since.get, self._open))


def evaded(pods: Iterable[Object], translation: Translation) -> frozenset[Origin]:
    """Objects that are not in force at some pod that runs, since nothing turns its calls to the proxy.

    As long as its node is slow, or away. One that begins is turned before its containers start.
    """
    listeners = translation.snapshot.of(types.LISTENER)
    return frozenset(
        origin
        for pod in pods
        if objects.status(pod).get("phase") == "Running" and conditions.is_true(pod, mesh.SANDBOX_READY)
        if not conditions.is_true(pod, mesh.POD_ARRIVALS_TURNED)
        if (plan := translation.pods.get(objects.key(pod))) is not None and plan.arrivals in listeners
        for origin in listeners[plan.arrivals].carries
    )


def _is_secured(world: World) -> bool:
    """Whether anything is or was asked of calls: else nobody needs an identity."""
    return any(world.of(kind) for kind in selection.KINDS) or any(
        conditions.is_true(pod, mesh.POD_GUARDED) for pod in world.pods
    )
