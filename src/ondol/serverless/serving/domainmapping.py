"""Reconciles DomainMappings: claims the name, finds what it means, and has the mesh serve it.

A claim that was made for a mapping goes with it: whoever deletes the mapping while no controller runs has
the claim removed at the next start, for each claim brings its mapping back here.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final

from ondol.api import objects, resources
from ondol.api.objects import Key, Object
from ondol.base import errors
from ondol.contracts import mesh, serving
from ondol.sdk import Children, Controller, Manager, Result
from ondol.sdk.children import delete
from ondol.sdk.controller import controller_key
from ondol.serverless.config import live
from ondol.serverless.config.live import LiveConfig
from ondol.serverless.serving import children, mappings, verdicts
from ondol.serverless.serving.children import FIELD_MANAGER, RETRY_S, ChildProblem
from ondol.serverless.serving.mappings import Backend
from ondol.serverless.serving.reporting import Reporter
from ondol.serverless.serving.service import owner_uid
from ondol.serverless.serving.verdicts import OK, Verdict

_BY_REFERENCE: Final = "reference"
_BY_CERTIFICATE: Final = "certificate"
_BY_OWNER: Final = "owner"
_OWNER: Final = controller_key(serving.DOMAIN_MAPPING.api_version, serving.DOMAIN_MAPPING.kind)
_CERTIFICATES: Final = "type=kubernetes.io/tls"
_CONFIG_MAPS: Final = ("config-features", "config-network")


class DomainMappingReconciler:
    """Level-based: a name is served while its claim, its reference and its certificate are there."""

    def __init__(self, manager: Manager, config: LiveConfig, *, mesh_reports: bool = True) -> None:
        self._manager = manager
        self._config = config
        self._mesh_reports = mesh_reports
        self._children = Children(manager.client, field_manager=FIELD_MANAGER)
        self._status = Reporter(manager, serving.DOMAIN_MAPPING, mappings.CONDITIONS)
        self._mappings = manager.informer(serving.DOMAIN_MAPPING)
        self._claims = manager.informer(serving.DOMAIN_CLAIM)
        self._routes = manager.informer(serving.ROUTE)
        self._services = manager.informer(resources.SERVICE)
        self._rules = manager.informer(mesh.VIRTUAL_SERVICE)
        self._ingresses = manager.informer(resources.INGRESS)
        self._secrets = manager.informer(resources.SECRET, field_selector=_CERTIFICATES)
        self._mappings.add_index(_BY_REFERENCE, _referred)
        self._mappings.add_index(_BY_CERTIFICATE, _shown)
        self._ingresses.add_index(_BY_OWNER, owner_uid)

    def controller(self) -> Controller:
        controller = Controller("knative-domainmapping", self.reconcile)
        controller.watch(self._mappings)
        controller.watch(self._claims, self._of_claim)
        for informer in (self._routes, self._services):
            controller.watch(informer, lambda obj: self._mapped(_BY_REFERENCE, obj))
        controller.watch(self._secrets, lambda obj: self._mapped(_BY_CERTIFICATE, obj))
        controller.watch(self._rules, lambda obj: [*_OWNER(obj), *self._mapped(_BY_REFERENCE, obj)])
        controller.watch(self._ingresses, _OWNER)
        live.follow(controller, self._manager, _CONFIG_MAPS, self._mappings.lister.list)
        return controller

    def _mapped(self, index: str, obj: Object) -> list[Key]:
        return [objects.key(m) for m in self._mappings.lister.by_index(index, str(objects.key(obj)))]

    def _of_claim(self, claim: Object) -> list[Key]:
        """The mappings of the name, wherever they are, and the one the claim is for."""
        name = objects.name(claim)
        keys = {objects.key(m) for m in self._mappings.lister.list() if objects.name(m) == name}
        return [*keys, Key(str(objects.spec(claim).get("namespace") or ""), name)]

    async def reconcile(self, key: Key) -> Result | None:
        mapping = self._mappings.lister.get(key)
        if mapping is None:
            self._children.forget(key)
            await self._release(key)
            return None
        if objects.is_deleting(mapping):
            return None
        outcomes: dict[str, Verdict] = {}
        result = None
        try:
            await self._serve(mapping, outcomes)
        except ChildProblem as error:
            outcomes["IngressReady"] = Verdict("False", error.reason, str(error))
            result = Result(RETRY_S)
        naming, now = self._config().network.naming, self._manager.clock.now()
        await self._status.write(mapping, mappings.status(mapping, outcomes, naming, now=now))
        return result

    async def _serve(self, mapping: Object, outcomes: dict[str, Verdict]) -> None:
        """Put everything in place, and note how far it came; what does not hold any more is taken away."""
        outcomes["DomainClaimed"] = mappings.claimed(mapping, await self._claim(mapping))
        backend, outcomes["ReferenceResolved"] = self._resolve(mapping)
        secret = Key(objects.namespace(mapping), mappings.secret_name(mapping))
        has_secret = self._secrets.lister.get(secret) is not None
        outcomes["CertificateProvisioned"] = mappings.certified(mapping, has_secret=has_secret)
        if outcomes["DomainClaimed"].status != "True":
            backend = None
        outcomes["IngressReady"] = await self._program(mapping, backend)

    async def _program(self, mapping: Object, backend: Backend | None) -> Verdict:
        key, family, network = objects.key(mapping), self._children.of(mapping), self._config().network
        rules = self._rules.lister.get(key)
        verdict = Verdict("Unknown", "IngressNotConfigured", "Ingress has not yet been reconciled.")
        if backend is not None:
            redirects = mappings.is_redirected(mapping, by_default=network.redirects)
            desired = mappings.virtual_service(mapping, backend, network.naming, redirects=redirects)
            rules = await children.apply(family, mesh.VIRTUAL_SERVICE, desired, rules)
            verdict = verdicts.ingress_verdict(rules, reported=self._mesh_reports)
        elif rules is not None:
            await family.prune(mesh.VIRTUAL_SERVICE, [rules])
        if backend is not None and mappings.secret_name(mapping):
            desired = mappings.certificate_ingress(mapping)
            await children.apply(family, resources.INGRESS, desired, self._ingresses.lister.get(key))
        await family.prune(
            resources.INGRESS, self._ingresses.lister.by_index(_BY_OWNER, objects.uid(mapping))
        )
        return verdict

    def _resolve(self, mapping: Object) -> tuple[Backend | None, Verdict]:
        reference = mappings.reference_of(mapping)
        kind, name = str(reference.get("kind")), str(reference.get("name"))
        key = Key(objects.namespace(mapping), name)
        if reference.get("namespace", key.namespace) != key.namespace:
            text = f'{kind} "{name}" must be in the same namespace as the DomainMapping'
            return None, mappings.unresolved(text)
        if mappings.is_of_kubernetes(reference):
            return self._of_service(key)
        if (kind, str(reference.get("apiVersion"))) not in mappings.KINDS:
            text = f"{reference.get('apiVersion')} {kind} is not served here: name a Service or a Route"
            return None, mappings.unresolved(text)
        route, rules = self._routes.lister.get(key), self._rules.lister.get(key)
        if route is None:
            return None, mappings.unresolved(f'{kind.lower()}s.{serving.GROUP} "{name}" not found')
        if rules is None or not objects.is_controlled_by(rules, route):
            return None, mappings.unresolved(f'{kind} "{name}" has no address yet')
        return mappings.backend_of_route(rules), OK

    def _of_service(self, key: Key) -> tuple[Backend | None, Verdict]:
        service = self._services.lister.get(key)
        if service is None:
            return None, mappings.unresolved(f'services "{key.name}" not found')
        backend = mappings.backend_of_service(service)
        if backend is None:
            text = f'Service "{key.name}" has several ports, and none is 80'
            return None, mappings.unresolved(text)
        return backend, OK

    async def _claim(self, mapping: Object) -> Object | None:
        """The claim of the name, made for this mapping where that is allowed."""
        present = self._claims.lister.get(Key("", objects.name(mapping)))
        if present is not None or not self._config().network.autocreate_claims:
            return present
        try:
            return await self._manager.client.create(serving.DOMAIN_CLAIM, mappings.claim(mapping))
        except errors.AlreadyExists:
            return await self._manager.client.get(serving.DOMAIN_CLAIM, objects.name(mapping))

    async def _release(self, key: Key) -> None:
        """The mapping is gone: take away the claim that was made for it."""
        present = self._claims.lister.get(Key("", key.name))
        if present is None or objects.spec(present).get("namespace") != key.namespace:
            return
        if objects.labels(present).get(mappings.MANAGED) != mappings.MANAGER:
            return
        with suppress(errors.NotFound):
            await self._manager.client.get(serving.DOMAIN_MAPPING, key.name, key.namespace)
            return  # the cache lags behind
        await delete(self._manager.client, serving.DOMAIN_CLAIM, present)


def _referred(mapping: Mapping[str, Any]) -> list[str]:
    return [str(Key(objects.namespace(mapping), str(mappings.reference_of(mapping).get("name") or "")))]


def _shown(mapping: Mapping[str, Any]) -> list[str]:
    name = mappings.secret_name(mapping)
    return [str(Key(objects.namespace(mapping), name))] if name else []
