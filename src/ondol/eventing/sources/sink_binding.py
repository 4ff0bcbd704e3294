"""Reconciles SinkBindings: resolves the sink, and tells it to the pods of every subject."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from ondol.api import objects, resources
from ondol.api.objects import Key, Object, Resource
from ondol.base import errors
from ondol.contracts import eventing
from ondol.eventing import verdicts, wellknown
from ondol.eventing.configuration import features
from ondol.eventing.configuration.live import Live
from ondol.eventing.destinations import NOWHERE, Address, Unresolved, reference
from ondol.eventing.destinations.resolver import Resolver
from ondol.eventing.identities import Identities, Identity
from ondol.eventing.reporting import Reporter
from ondol.eventing.sources import binding as bindings
from ondol.eventing.sources import containers, status
from ondol.eventing.sources import wellknown as words
from ondol.eventing.sources.binding import Outfit
from ondol.eventing.sources.token_secrets import TokenSecrets, secret_name
from ondol.eventing.sources.trust_maps import TrustMaps
from ondol.eventing.verdicts import Verdict
from ondol.sdk import Controller, Informer, Manager, Result, children, finalizers

Document: TypeAlias = Mapping[str, Any]

FIELD_MANAGER: Final = "ondol-sinkbinding"
_CONDITIONS: Final = (
    words.AVAILABLE,
    words.SINK_PROVIDED,
    words.OIDC_IDENTITY_CREATED,
    words.OIDC_TOKEN_SECRET_CREATED,
    words.TRUST_BUNDLE_PROPAGATED,
)
_NO_OIDC: Final = Verdict("True", f"{features.OIDC} feature disabled")
_NO_AUDIENCE: Final = Verdict("True", "Sink has no audience defined")
_NO_TRUST: Final = "FailedTrustBundlePropagation"
_NO_SECRET: Final = "Unable to reconcile OIDC token secret"  # noqa: S105 - a reason


@dataclass(frozen=True, slots=True)
class _Token:
    """The Secret with the token of a binding, if there is one, and when to look at it again."""

    verdict: Verdict
    secret: str = ""
    again_s: float | None = None


@dataclass(frozen=True, slots=True)
class _Trust:
    """The ConfigMap with the certificates of bundles of trust, if there is one."""

    verdict: Verdict = verdicts.OK
    config_map: str = ""
    again_s: float | None = None


@dataclass(frozen=True, slots=True)
class _Subjects:
    """The objects that a binding means, all of one kind."""

    resource: Resource
    objects: list[Object]


class SinkBindingReconciler:
    """Subjects are of any kind with a template of pods at `spec.template`."""

    def __init__(self, manager: Manager, live: Live) -> None:
        self._manager = manager
        self._client = manager.client
        self._clock = manager.clock
        self._live = live
        self._bindings = manager.informer(eventing.SINK_BINDING)
        self._controller = Controller("eventing-sinkbinding", self.reconcile)
        self._resolver = Resolver.of(manager, self._controller)
        self._identities = Identities(manager, eventing.SINK_BINDING)
        self._secrets = TokenSecrets(manager)
        self._trust_maps = TrustMaps(manager)
        self._subjects: dict[Resource, Informer] = {}
        selector = f"{bindings.MANAGED_BY}={bindings.MANAGER}"
        self._policies = [
            manager.informer(resource, label_selector=selector, optional=True)
            for resource in (resources.MUTATING_ADMISSION_POLICY, resources.MUTATING_ADMISSION_POLICY_BINDING)
        ]
        self._status = Reporter(
            manager,
            eventing.SINK_BINDING,
            fields=("sinkUri", "sinkCACerts", "sinkAudience", "auth", "oidcTokenSecretName"),
            conditions=_CONDITIONS,
        )

    def controller(self) -> Controller:
        self._controller.watch(self._bindings)
        self._live.watch(self._controller, self._bindings)
        self._identities.watch(self._controller)
        self._secrets.watch(self._controller)
        self._live.watch_trust(self._controller, self._bindings)
        self._trust_maps.watch(self._controller)
        return self._controller

    async def reconcile(self, key: Key) -> Result | None:
        self._resolver.begin(key)
        binding = self._bindings.lister.get(key)
        if binding is None:
            self._identities.forget(key)
            self._secrets.forget(key)
            self._trust_maps.forget(key)
            return None
        if objects.is_deleting(binding):
            await self._leave(key, binding)
            return None
        binding = await finalizers.add(self._client, eventing.SINK_BINDING, binding, words.BINDING_FINALIZER)
        sink = await self._sink(key, binding)
        identity = await self._identities.ensure(binding, self._live.features)
        token = await self._token(binding, sink, identity)
        trust = await self._trust(binding)
        available = await self._bind(key, binding, sink, token.secret, trust.config_map)
        own = {
            words.AVAILABLE: available,
            words.SINK_PROVIDED: status.sink_verdict(sink, "NoAddressable"),
            words.OIDC_IDENTITY_CREATED: identity.verdict,
            words.OIDC_TOKEN_SECRET_CREATED: token.verdict,
            words.TRUST_BUNDLE_PROPAGATED: trust.verdict,
        }
        desired = _status(binding, sink, own, identity=identity, token=token, now=self._clock.now())
        await self._status.write(binding, desired)
        times = [again_s for again_s in (token.again_s, trust.again_s) if again_s is not None]
        return Result(requeue_after_s=min(times, default=None))

    async def _trust(self, binding: Object) -> _Trust:
        """The certificates that the pods believe besides those of their sink."""
        try:
            return _Trust(config_map=await self._trust_maps.keep(binding, self._live.trusted))
        except errors.ApiError as error:
            return _Trust(verdicts.failed(_NO_TRUST, error.message), again_s=wellknown.RETRY_S)

    async def _token(self, binding: Object, sink: Address | Unresolved, identity: Identity) -> _Token:
        """The token that the pods show, where tokens are asked for and the sink states an audience."""
        if isinstance(sink, Unresolved):  # what there is stays: it may be back soon
            return _Token(verdicts.UNKNOWN, containers.token_secret(binding))
        if not self._live.features.oidc or not sink.audience:
            await self._secrets.drop(binding)
            return _Token(_NO_AUDIENCE if self._live.features.oidc else _NO_OIDC)
        if not identity.verdict.is_true:
            return _Token(identity.verdict)
        account = Key(objects.namespace(binding), identity.service_account)
        try:
            again_s = await self._secrets.keep(binding, account, sink.audience)
        except errors.ApiError as error:
            return _Token(verdicts.failed(_NO_SECRET, error.message), again_s=words.TOKEN_AGAIN_S)
        return _Token(verdicts.OK, secret_name(binding), again_s)

    async def _sink(self, key: Key, binding: Object) -> Address | Unresolved:
        group = self._live.features.is_on(features.KREFERENCE_GROUP)
        try:
            return await self._resolver.resolve(key, objects.spec(binding).get("sink") or {}, group=group)
        except Unresolved as error:
            return error

    async def _bind(
        self, key: Key, binding: Object, sink: Address | Unresolved, token_secret: str, trust_map: str
    ) -> Verdict:
        """The condition Available, once the subjects are so."""
        if isinstance(sink, Unresolved):
            return verdicts.UNKNOWN
        try:
            subjects = await self._subjects_of(key, binding)
        except Unresolved as error:
            return verdicts.failed("SubjectUnavailable", str(error))
        desired = bindings.outfit(binding, sink, token_secret, trust_map)
        await self._keep_policy(binding, subjects.resource, desired)
        name = (objects.spec(binding).get("subject") or {}).get("name")
        if name and not subjects.objects:
            return verdicts.failed("SubjectMissing", bindings.missing_subject(subjects.resource, [name]))
        if subjects.resource == resources.JOB:
            return _job_verdict(subjects.objects if name else (), desired)
        refusals = [await self._patch(subjects.resource, obj, desired) for obj in subjects.objects]
        messages = [message for message in refusals if message]
        return verdicts.failed("BindingFailed", "; ".join(messages)) if messages else verdicts.OK

    async def _leave(self, key: Key, binding: Object) -> None:
        """Take the variables away again, then let the binding go."""
        if words.BINDING_FINALIZER not in objects.finalizers(binding):
            return
        await self._drop_policy(binding)
        await self._release(key, binding)
        await finalizers.remove(self._client, eventing.SINK_BINDING, binding, words.BINDING_FINALIZER)

    async def _release(self, key: Key, binding: Object) -> None:
        """Take the variables out of the subjects; a Job that has them keeps them."""
        try:
            subjects = await self._subjects_of(key, binding)
        except Unresolved:
            return
        if subjects.resource != resources.JOB:
            for obj in subjects.objects:
                await self._patch(subjects.resource, obj, bindings.NOTHING)

    async def _subjects_of(self, key: Key, binding: Object) -> _Subjects:
        subject = objects.spec(binding).get("subject") or {}
        resource = await self._resolver.resource(key, reference(subject, key.namespace))
        informer = self._subjects.get(resource)
        if informer is None:
            informer = self._subjects[resource] = self._manager.informer(resource, optional=True)
            self._controller.watch(informer, self._of_subject(resource))
        await informer.wait_synced()
        listed = informer.lister.list(key.namespace)
        return _Subjects(resource, [obj for obj in listed if bindings.is_subject(binding, obj)])

    def _of_subject(self, resource: Resource) -> Callable[[Object], Iterable[Key]]:
        def keys(obj: Object) -> Iterable[Key]:
            for binding in self._bindings.lister.list(objects.namespace(obj)):
                subject = objects.spec(binding).get("subject") or {}
                if subject.get("kind") == resource.kind and bindings.is_subject(binding, obj):
                    yield objects.key(binding)

        return keys

    async def _patch(self, resource: Resource, obj: Object, desired: Outfit) -> str:
        """Make one subject so; why it cannot be, in words."""
        patch = None if objects.is_deleting(obj) else bindings.change(obj, desired)
        if patch is None:
            return ""
        try:
            await self._client.patch(
                resource,
                objects.name(obj),
                objects.namespace(obj),
                patch=patch,
                field_manager=FIELD_MANAGER,
            )
        except errors.NotFound:
            return ""
        except (errors.Invalid, errors.Forbidden, errors.BadRequest) as error:
            return f"failed binding subject {objects.name(obj)}: {error.message}"
        return ""

    async def _keep_policy(self, binding: Object, resource: Resource, desired: Outfit) -> None:
        """For subjects that are created from now on; a server without such policies has them patched."""
        if not bindings.has_policy(resource):
            await self._drop_policy(binding)
            return
        documents = (bindings.policy(binding, resource, desired), bindings.policy_binding(binding))
        for informer, document in zip(self._policies, documents, strict=True):
            live = informer.lister.get(objects.key(document))
            if live is not None and _digest(live) == _digest(document):
                continue
            try:
                await self._client.apply(informer.resource, document, field_manager=wellknown.FIELD_MANAGER)
            except errors.NotFound:
                return

    async def _drop_policy(self, binding: Object) -> None:
        for informer in reversed(self._policies):
            live = informer.lister.get(Key("", bindings.policy_name(binding)))
            if live is not None:
                await children.delete(self._client, informer.resource, live)


def _digest(policy: Document) -> str | None:
    return objects.annotations(policy).get(bindings.DIGEST)


def _job_verdict(named: Iterable[Object], desired: Outfit) -> Verdict:
    """Jobs are told the sink when they are created; one that is named must have been."""
    for job in named:
        if bindings.change(job, desired) is not None:
            message = f"the template of Job {objects.name(job)} cannot be changed: create the Job anew"
            return verdicts.failed("SubjectImmutable", message)
    return verdicts.OK


def _status(
    binding: Document,
    sink: Address | Unresolved,
    own: Mapping[str, Verdict],
    *,
    identity: Identity,
    token: _Token,
    now: float,
) -> Object:
    address = NOWHERE if isinstance(sink, Unresolved) else sink
    return {
        "observedGeneration": objects.generation(binding),
        **address.as_status("sink"),
        "auth": status.auth(identity),
        "oidcTokenSecretName": token.secret or None,
        "conditions": verdicts.with_ready(binding, own, of_ready=tuple(own), now=now),
    }
