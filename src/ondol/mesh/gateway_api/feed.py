"""Gateway API's objects in, what they expand to out; told on them what became of each."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Final

from ondol.api import objects, resources
from ondol.api.objects import Key, Object, Resource
from ondol.base import errors
from ondol.base.memo import Memo
from ondol.client import PatchType
from ondol.mesh import definitions
from ondol.mesh.config import MeshConfig
from ondol.mesh.gateway_api import expansion, names, statuses
from ondol.mesh.gateway_api.expansion import Expansion, Objects, Surroundings
from ondol.mesh.gateway_api.listeners import Place
from ondol.mesh.gateway_api.outcomes import Condition, ParentOutcome
from ondol.mesh.gateway_api.sifting import Sifter
from ondol.mesh.gateway_api.statuses import Proxy
from ondol.mesh.kinds.kind import Finding
from ondol.mesh.translate.credentials import Credentials
from ondol.mesh.translate.translator import ingress_ports, port_problem
from ondol.mesh.xds import types
from ondol.mesh.xds.types import Accepted, Origin, Outcome
from ondol.sdk import Controller, Manager, Result, generation_changed
from ondol.sdk.status import Writer

MARK: Final = "mesh.ondol.dev/gateway-classes-made"
"""On the ingress' namespace once the classes have been made: who deletes one has it no more."""
_FIELD_MANAGER: Final = "ondol-gateways"
_WATCHED: Final = (
    names.GATEWAY_CLASS,
    names.GATEWAY,
    names.LISTENER_SET,
    *names.ROUTES,
    names.REFERENCE_GRANT,
)
_WRITTEN: Final = {
    "GatewayClass": (("supportedFeatures",), (names.ACCEPTED, "SupportedVersion")),
    "Gateway": (
        ("addresses", "listeners", "attachedListenerSets"),
        (names.ACCEPTED, names.PROGRAMMED),
    ),
    "ListenerSet": (("listeners",), (names.ACCEPTED, names.PROGRAMMED)),
    **{resource.kind: (("parents",), ()) for resource in names.ROUTES},
}
"""The fields and conditions of a status that are written here, by kind."""


class Feed:
    """`expand` at each translation, `tell` after it."""

    def __init__(self, manager: Manager, config: MeshConfig, changed: Callable[[], None]) -> None:
        self._manager = manager
        self._config = config
        self._informers = {resource.kind: manager.informer(resource, optional=True) for resource in _WATCHED}
        for informer in self._informers.values():
            informer.add_handler(lambda old, new: changed() if generation_changed(old, new) else None)
        self._writers: dict[str, Writer] = {}
        self._controllers: dict[str, Controller] = {}
        for resource in _WATCHED:
            if resource.kind in _WRITTEN:
                self._add_writer(resource)
        self._place = Place(
            ingress_ports(config),
            partial(port_problem, config),
            definitions.ingress_status(config.ingress_address)["loadBalancer"]["ingress"][0]["ip"],
        )
        self._memo = Memo()
        self._sources: tuple[Any, ...] = ()
        self._alive: Sequence[Any] = ()
        self._expansion = Expansion()
        self._sifter = Sifter()
        self._refusals: dict[str, str] = {}
        """What the proxy said of listeners of the ingress."""
        self._proxy = Proxy(lambda _name: False)
        self._findings: Mapping[Origin, Sequence[Finding]] = {}

    def _add_writer(self, resource: Resource) -> None:
        fields, conditions = _WRITTEN[resource.kind]
        self._writers[resource.kind] = Writer(
            self._manager.client,
            resource,
            field_manager=_FIELD_MANAGER,
            fields=fields,
            conditions=conditions,
        )
        write: Callable[[Key], Awaitable[Result | None]] = partial(self._write, resource.kind)
        self._controllers[resource.kind] = Controller(f"mesh-gateway-{resource.plural}", write)
        self._manager.add(self._controllers[resource.kind])

    # In

    def secrets(self) -> tuple[Key, ...]:
        """The Secrets that listeners name, by which they may be shown or not."""
        listed = [*self._informers["Gateway"].lister.list(), *self._informers["ListenerSet"].lister.list()]
        return tuple(dict.fromkeys(key for each in listed for key in _secrets(each)))

    def expand(
        self, services: Sequence[Object], namespaces: Sequence[Object], credentials: Credentials
    ) -> Expansion:
        """What the objects of now are; the same value as long as nothing they depend on has changed."""
        listed = {kind: informer.lister.list() for kind, informer in self._informers.items()}
        present = [each for of_kind in listed.values() for each in of_kind]
        contents = {key: credentials.contents[key] for key in self.secrets() if key in credentials.contents}
        documents: list[Any] = [*present, *services, *namespaces, *contents.values()] if present else []
        sources = tuple(map(id, documents))
        if sources != self._sources:
            around = Surroundings(
                {objects.key(each): each for each in services},
                namespaces,
                contents,
                self._place,
                self._config.cluster_domain,
                self._config.ingress_namespace,
            )
            self._expansion = expansion.expand(Objects(listed), around, self._memo)
            self._memo.sweep()
            # An id is a document's for as long as that lives.
            self._sources, self._alive = sources, documents
        rules = self._sifter.served(self._expansion.virtual_services, self._expansion.joined)
        if rules is self._expansion.virtual_services:
            return self._expansion
        return replace(self._expansion, virtual_services=rules)

    def observe(self, outcomes: Iterable[Outcome]) -> bool:
        """Take in the proxy's answers; whether what is served must be translated anew."""
        listed = list(outcomes)
        for outcome in listed:
            if isinstance(outcome, Accepted):
                for resource in outcome.resources:
                    self._refusals.pop(resource.name, None)
            elif outcome.type_url == types.LISTENER:
                self._refusals[outcome.resource.name] = outcome.message
        return self._sifter.observe(listed)

    def refuse(self, origin: Origin, why: str) -> bool:
        """Leave out a rule made here of which nothing could be made; False where it is none."""
        return self._sifter.refuse(origin, why)

    def next_trial(self) -> bool:
        """Once all is settled: give one of several that were refused together a try of its own.

        Then more of one that is served in part.
        """
        return self._sifter.next_trial()

    # Told

    def tell(self, findings: Mapping[Origin, Sequence[Finding]], runs: Callable[[str], bool]) -> None:
        """Say of each object what became of it.

        `findings` are those on the rules that were made of Routes, too; `runs` says of a listener whether
        the proxy has it.
        """
        self._findings = self._sifter.of_whole(findings)
        self._proxy = Proxy(runs, lambda name: self._refusals.get(name, ""))
        for kind, controller in self._controllers.items():
            for each in self._informers[kind].lister.list():
                if self._differs(kind, each):
                    controller.enqueue(objects.key(each))

    def _differs(self, kind: str, obj: Object) -> bool:
        desired = self._desired(kind, obj)
        current = objects.status(obj)
        return desired is not None and any(current.get(name) != value for name, value in desired.items())

    def _desired(self, kind: str, obj: Object) -> Object | None:
        """The parts of the status that are written here; None where the object is another's."""
        now, key = self._manager.clock.now(), objects.key(obj)
        outcomes = self._expansion.outcomes
        if kind == "GatewayClass":
            of_class = outcomes.classes.get(key)
            return statuses.of_class(obj, of_class, now) if of_class else None
        if kind in ("Gateway", "ListenerSet"):
            of_gateway = outcomes.gateways.get((kind, key))
            if of_gateway is None:
                return None
            if kind == "ListenerSet":
                return statuses.of_listener_set(obj, of_gateway, self._proxy, now)
            return statuses.of_gateway(obj, of_gateway, self._proxy, self._place.address, now)
        parents = self._parents(outcomes.parents.get((kind, key), ()), kind, key)
        listed = statuses.of_parents(obj, parents, now, ("parents", "parentRef"))
        if not listed and not objects.status(obj).get("parents"):
            return None
        return {"parents": listed}

    def _parents(self, listed: Sequence[ParentOutcome], kind: str, key: Key) -> Sequence[ParentOutcome]:
        """With what is said of its hosts, and the proxy's words where it refused what was made of it."""
        listed = statuses.claimed(listed, self._findings)
        why = self._sifter.why((kind, key), self._expansion.sources)
        if not why:
            return listed
        condition = Condition(names.ACCEPTED, "False", "RejectedByProxy", why)
        return [
            replace(each, conditions=statuses.with_accepted(each.conditions, condition)) for each in listed
        ]

    async def _write(self, kind: str, key: Key) -> Result | None:
        obj = self._informers[kind].lister.get(key)
        if obj is None or not self._differs(kind, obj):
            return None
        desired = self._desired(kind, obj)
        if desired is not None:
            with contextlib.suppress(errors.Conflict):  # gone meanwhile, and its name another's
                await self._writers[kind].write(obj, desired)
        return None

    async def make_classes(self) -> None:
        """Create the classes once; whoever changes or deletes them is left alone."""
        client, namespace = self._manager.client, self._config.ingress_namespace
        home = await client.get(resources.NAMESPACE, namespace)
        if MARK in objects.annotations(home):
            return
        for name in names.CLASSES:
            with contextlib.suppress(errors.AlreadyExists):
                await client.create(names.GATEWAY_CLASS, gateway_class(name))
        mark = {"metadata": {"annotations": {MARK: "true"}}}
        await client.patch(resources.NAMESPACE, namespace, patch=mark, patch_type=PatchType.MERGE)


def _secrets(obj: Object) -> Iterator[Key]:
    """What the listeners of an object name, whatever it is."""
    for listener in objects.spec(obj).get("listeners") or ():
        for each in (listener.get("tls") or {}).get("certificateRefs") or ():
            yield Key(each.get("namespace") or objects.namespace(obj), each["name"])


def gateway_class(name: str) -> Object:
    return {
        "apiVersion": names.GATEWAY_CLASS.api_version,
        "kind": "GatewayClass",
        "metadata": {"name": name},
        "spec": {"controllerName": names.CONTROLLER},
    }
