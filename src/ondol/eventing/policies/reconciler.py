"""Reconciles EventPolicies: which subjects they come to."""

from __future__ import annotations

from typing import Final

from ondol.api import objects
from ondol.api.objects import Key, Object
from ondol.contracts import eventing
from ondol.eventing import verdicts
from ondol.eventing.configuration.live import Live
from ondol.eventing.destinations import Unresolved, reference
from ondol.eventing.destinations.resolver import Resolver
from ondol.eventing.policies.decision import Document, account_subject
from ondol.eventing.reporting import Reporter
from ondol.eventing.verdicts import Verdict
from ondol.sdk import Controller, Manager

AUTHENTICATION_ENABLED: Final = "AuthenticationEnabled"
SUBJECTS_RESOLVED: Final = "SubjectsResolved"
_CONDITIONS: Final = (AUTHENTICATION_ENABLED, SUBJECTS_RESOLVED)


class EventPolicyReconciler:
    """Who else reports on policies reads `status.from`."""

    def __init__(self, manager: Manager, live: Live) -> None:
        self._clock = manager.clock
        self._live = live
        self._policies = manager.informer(eventing.EVENT_POLICY)
        self._controller = Controller("eventing-event-policy", self.reconcile)
        self._resolver = Resolver.of(manager, self._controller)
        self._status = Reporter(manager, eventing.EVENT_POLICY, fields=("from",), conditions=_CONDITIONS)

    def controller(self) -> Controller:
        self._controller.watch(self._policies)
        self._live.watch(self._controller, self._policies)
        return self._controller

    async def reconcile(self, key: Key) -> None:
        self._resolver.begin(key)
        policy = self._policies.lister.get(key)
        if policy is None or objects.is_deleting(policy):
            return
        if not self._live.features.oidc:
            disabled = verdicts.failed("OIDCAuthenticationDisabled")
            await self._write(policy, {AUTHENTICATION_ENABLED: disabled}, None)
            return
        own = {AUTHENTICATION_ENABLED: verdicts.OK, SUBJECTS_RESOLVED: verdicts.OK}
        try:
            subjects = await self._subjects(key, policy)
        except Unresolved as error:
            own[SUBJECTS_RESOLVED] = verdicts.failed("SubjectsNotResolved", str(error))
            await self._write(policy, own, None)
            return
        await self._write(policy, own, subjects)

    async def _write(self, policy: Object, own: dict[str, Verdict], subjects: list[str] | None) -> None:
        desired = {
            "observedGeneration": objects.generation(policy),
            "from": subjects or None,
            "conditions": verdicts.with_ready(policy, own, of_ready=_CONDITIONS, now=self._clock.now()),
        }
        await self._status.write(policy, desired)

    async def _subjects(self, key: Key, policy: Object) -> list[str]:
        """The subjects of all senders; `Unresolved` if one of them has none yet."""
        subjects: list[str] = []
        for sender in objects.spec(policy).get("from") or ():
            ref = sender.get("ref")
            if ref:
                subjects += await self._of_object(key, ref)
            elif sender.get("sub"):
                subjects.append(str(sender["sub"]))
        return subjects

    async def _of_object(self, key: Key, ref: Document) -> list[str]:
        sender = reference(ref, key.namespace)
        prefix = "could not resolve subjects from reference: could not resolve auth status: "
        try:
            obj = await self._resolver.find(key, sender)
        except Unresolved as error:
            raise Unresolved(f"{prefix}{error}") from error
        auth = objects.status(obj).get("auth")
        if not auth:
            raise Unresolved(f"{prefix}.status.auth is missing in object {sender.key}")
        names = [*(auth.get("serviceAccountNames") or ()), auth.get("serviceAccountName")]
        return [account_subject(sender.namespace, str(name)) for name in names if name]
