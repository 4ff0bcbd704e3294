"""Ingresses in, what they expand to out; told on them where they are reached, and what is not served."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from ondol.api import default_classes, objects, resources
from ondol.api.objects import Key, Object
from ondol.base import errors
from ondol.client import PatchType
from ondol.contracts import ingress
from ondol.mesh import definitions
from ondol.mesh.config import MeshConfig
from ondol.mesh.ingress import expansion
from ondol.mesh.ingress.expansion import Expansion, Ports, Problem, Surroundings
from ondol.mesh.ingress.refused import Refused
from ondol.mesh.kinds.findings import CLAIMED
from ondol.mesh.kinds.kind import Finding
from ondol.mesh.translate import listeners
from ondol.mesh.translate.credentials import Content, Credentials
from ondol.mesh.xds.types import Origin, Outcome
from ondol.sdk import Controller, Manager, Result
from ondol.sdk.status import Writer

MARK: Final = "mesh.ondol.dev/ingress-class-made"
"""On the ingress' namespace once the class has been made: who deletes it has none."""
_FIELD_MANAGER: Final = "ondol-ingress"
_FIELD: Final = "loadBalancer"


class Feed:
    """`expand` at each translation, `tell` after it."""

    def __init__(self, manager: Manager, config: MeshConfig, changed: Callable[[], None]) -> None:
        self._manager = manager
        self._config = config
        self._ingresses = manager.informer(resources.INGRESS)
        self._classes = manager.informer(resources.INGRESS_CLASS)
        self._ingresses.add_handler(lambda old, new: changed() if _matters(old) != _matters(new) else None)
        self._classes.add_handler(lambda _old, _new: changed())
        self._writer = Writer(
            manager.client, resources.INGRESS, field_manager=_FIELD_MANAGER, fields=(_FIELD,)
        )
        self._status = Controller("mesh-ingresses", self._write)
        manager.add(self._status)
        self._sources: tuple[Any, ...] = ()
        self._alive: Sequence[Any] = ()
        self._expansion = Expansion()
        self._problems: dict[Key, tuple[Problem, ...]] = {}
        """What is to be said of each."""
        self._reported: dict[Key, tuple[Problem, ...]] = {}
        self._is_reached = False
        self._refused = Refused()

    def secrets(self) -> Iterator[Key]:
        """The Secrets that Ingresses name."""
        for each in self._ingresses.lister.list():
            for tls in objects.spec(each).get("tls") or ():
                if tls.get("secretName"):
                    yield Key(objects.namespace(each), tls["secretName"])

    def expand(self, services: Sequence[Object], credentials: Credentials) -> Expansion:
        """What the Ingresses of now are; the same value as long as nothing they depend on has changed."""
        listed = self._ingresses.lister.list()
        documents: list[Any] = [*listed, *self._classes.lister.list()]
        contents = {key: credentials.contents.get(key) for key in self.secrets()}
        documents += [*services, *contents.values()] if listed else ()
        sources_now = tuple(map(id, documents))
        if sources_now != self._sources:
            self._expansion = expansion.expand(
                listed, self._classes.lister.list(), self._surroundings(services, contents)
            )
            # An id is a document's for as long as that lives.
            self._sources, self._alive = sources_now, documents
        return self._refused.without(self._expansion)

    def observe(self, outcomes: Iterable[Outcome]) -> bool:
        """Take in the proxy's answers; whether what is served must be translated anew."""
        return self._refused.observe(outcomes)

    def refuse(self, origin: Origin, why: str) -> bool:
        """Leave out a rule made here of which nothing could be made; False where it is none."""
        return self._refused.refuse(origin, why)

    def next_trial(self) -> bool:
        """Once all is settled: give one of several that were refused together a try of its own."""
        return self._refused.next_trial()

    def _surroundings(
        self, services: Sequence[Object], contents: Mapping[Key, Content | None]
    ) -> Surroundings:
        stored = {key: content for key, content in contents.items() if content is not None}
        return Surroundings(
            {objects.key(each): each for each in services},
            {key: each.certificate for key, each in stored.items() if each.certificate is not None},
            {key: each.no_certificate for key, each in stored.items() if each.no_certificate},
            Ports(self._config.ingress_port, self._config.ingress_tls_port),
            self._config.cluster_domain,
            self._config.ingress_namespace,
        )

    # Told

    def tell(self, findings: Mapping[Origin, Sequence[Finding]], runs: Callable[[str], bool]) -> None:
        """Say of each Ingress where it is reached, and what is not served.

        `findings` are those on the rules that were made of Ingresses, too; `runs` says of a listener whether
        the proxy has it.
        """
        self._is_reached = runs(listeners.ingress_name(expansion.HTTP_NUMBER))
        expanded = self._expansion
        problems = {key: list(listed) for key, listed in expanded.problems.items()}
        for origin, sources in expanded.sources.items():
            claimed = [
                Problem("HostHeld", each.message) for each in findings.get(origin, ()) if each.code == CLAIMED
            ]
            if (why := self._refused.rules.get(origin)) is not None:
                claimed.append(Problem("RejectedByProxy", why))
            for key in sources:
                problems[key] += claimed
        for each in self._ingresses.lister.list():
            if objects.key(each) in problems:
                problems[objects.key(each)] += self._refused.of_tls(each)
        self._problems = {key: tuple(dict.fromkeys(listed)) for key, listed in problems.items()}
        for each in self._ingresses.lister.list():
            key = objects.key(each)
            has_news = self._problems.get(key, ()) != self._reported.get(key, ())
            if has_news or self._desired(each) is not None:
                self._status.enqueue(key)
        for key in self._reported.keys() - self._problems.keys():
            del self._reported[key]

    def _desired(self, obj: Object) -> list[Object] | None:
        """The addresses to write, or None where they are there, or another's to say."""
        current = list((objects.status(obj).get(_FIELD) or {}).get("ingress") or ())
        if objects.key(obj) in self._problems:
            desired = self._addresses(obj) if self._is_reached else current
        else:
            is_ours = any(each in current for each in (self._addresses(obj)[:1]))
            desired = [] if is_ours else current
        return None if desired == current else desired

    def _addresses(self, obj: Object) -> list[Object]:
        status = definitions.ingress_status(self._config.ingress_address)
        address: Object = dict(status[_FIELD]["ingress"][0])
        ports = [self._config.ingress_port]
        if objects.spec(obj).get("tls"):
            ports.append(self._config.ingress_tls_port)
        return [{**address, "ports": [{"port": port, "protocol": "TCP"} for port in ports]}]

    async def _write(self, key: Key) -> Result | None:
        obj = self._ingresses.lister.get(key)
        if obj is None:
            return None
        if (desired := self._desired(obj)) is not None:
            with contextlib.suppress(errors.Conflict):  # gone meanwhile, and its name another's
                await self._writer.write(obj, {_FIELD: {"ingress": desired} if desired else {}})
        problems, before = self._problems.get(key, ()), self._reported.get(key, ())
        for problem in problems:
            if problem not in before:
                self._manager.recorder.event(obj, "Warning", problem.reason, problem.message)
        if key in self._problems:
            self._reported[key] = problems
        return None

    async def make_class(self) -> None:
        """Create the class once, as the default where there is none; whoever changes it is left alone."""
        client, namespace = self._manager.client, self._config.ingress_namespace
        home = await client.get(resources.NAMESPACE, namespace)
        if MARK in objects.annotations(home):
            return
        has_default = bool(default_classes.newest(self._classes.lister.list(), default_classes.INGRESS))
        with contextlib.suppress(errors.AlreadyExists):
            await client.create(resources.INGRESS_CLASS, ingress_class(is_default=not has_default))
        mark = {"metadata": {"annotations": {MARK: "true"}}}
        await client.patch(resources.NAMESPACE, namespace, patch=mark, patch_type=PatchType.MERGE)


def ingress_class(*, is_default: bool) -> Object:
    annotations = {default_classes.INGRESS[0]: "true"} if is_default else {}
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "IngressClass",
        "metadata": {"name": ingress.CLASS, "annotations": annotations},
        "spec": {"controller": ingress.CONTROLLER},
    }


def _matters(obj: Object | None) -> tuple[Any, ...] | None:
    """What of an Ingress is translated: all but its status."""
    if obj is None:
        return None
    return objects.uid(obj), objects.spec(obj), objects.annotations(obj)
