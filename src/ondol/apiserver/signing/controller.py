"""Follows the requests for certificates, and removes old ones.

It is part of the API server, since that has the authority's key; nobody else gets to see it.
"""

from __future__ import annotations

import base64
import functools
import math
from typing import Final

from cryptography import x509

from ondol.api import objects, resources
from ondol.api.objects import Object
from ondol.apiserver import approvals, bootstrap, certificate_requests, deleting, lenses, writing
from ondol.apiserver.auth import rbac
from ondol.apiserver.core import Core
from ondol.apiserver.signing import decisions, signers
from ondol.apiserver.signing.authority import Authority
from ondol.base import errors, log
from ondol.store.log import Watch

_SWEEP_S: Final = 600.0
_RETRY_S: Final = 1.0
_KIND: Final = resources.CERTIFICATE_SIGNING_REQUEST

_log = log.get("apiserver")


class Controller:
    """Approves, signs and removes."""

    def __init__(self, core: Core, key: bytes) -> None:
        """`key` (PEM) is that of the authority whose certificate the server's configuration has."""
        self._core = core
        self._key = key
        self._served = core.catalogue.of(_KIND)
        self._writes = writing.Writes(core, self._served, bootstrap.OPTIONS)

    @functools.cached_property
    def _authority(self) -> Authority:
        return Authority(self._core.config.ca_certificate.encode(), self._key)

    async def run(self) -> None:
        """Handle every change, for ever."""
        store = self._core.store
        while True:
            cursor = store.watch(self._served.bucket, after=store.revision)
            changed: set[str] | None = {objects.name(obj) for obj in self._core.list_objects(_KIND)}
            failed: set[str] = set()
            while changed is not None:
                failed = {name for name in sorted(changed | failed) if not await self._handle(name)}
                changed = _take(cursor)
                if changed == set():
                    with self._core.clock.move_on_after(_RETRY_S if failed else math.inf):
                        await cursor.changed()

    async def sweep(self) -> None:
        """Remove what is over, at each interval."""
        while True:
            await self._core.clock.sleep(_SWEEP_S)
            now = self._core.clock.now()
            for obj in [each for each in self._core.list_objects(_KIND) if decisions.is_over(each, now)]:
                await self._remove(obj)

    async def _remove(self, obj: Object) -> None:
        try:
            await deleting.delete(
                self._writes, "", objects.name(obj), deleting.DeleteOptions(uid=objects.uid(obj))
            )
        except errors.ApiError as error:
            _log.warning("certificate_request_not_removed", name=objects.name(obj), error=str(error))

    async def _handle(self, name: str) -> bool:
        """Do what is to be done about one request; false if it is to be tried again, as on a full disk."""
        try:
            await self._reconcile(name)
        except errors.NotFound:
            return True
        except errors.OndolError as error:
            _log.warning("certificate_request_not_handled", name=name, error=str(error))
            return False
        except certificate_requests.UNREADABLE as error:
            _log.warning("certificate_request_not_read", name=name, error=str(error))
        return True

    async def _reconcile(self, name: str) -> None:
        obj = self._core.lookup(_KIND, "", name)
        if obj is None:
            return
        request = certificate_requests.parsed(obj)
        condition = decisions.approval(obj, request, functools.partial(self._may, obj))
        if condition is not None:
            await self._approve(obj, condition)
        elif decisions.is_to_sign(obj):
            await self._sign(obj, request)

    def _may(self, obj: Object, subresource: str) -> bool:
        attributes = rbac.Attributes("create", _KIND.group, _KIND.plural, subresource)
        access = self._core.rbac
        return access is not None and access.authorize(decisions.requester(obj), attributes).allowed

    async def _approve(self, obj: Object, condition: Object) -> None:
        def change(live: Object) -> Object:
            return live if decisions.is_decided(live) else _with_condition(live, condition)

        await self._writes.update("", objects.name(obj), approvals.Approval(), change)

    async def _sign(self, obj: Object, request: x509.CertificateSigningRequest) -> None:
        spec = objects.spec(obj)
        usages = spec["usages"]
        refusal = signers.problem(spec["signerName"], request, usages)
        if refusal is None:
            return  # another signer's
        lens = lenses.Status(self._served.strategy.status_reset)
        outcome: Object = {}
        if not refusal:
            try:
                pem = self._authority.sign(
                    request, usages, spec.get("expirationSeconds"), self._core.clock.now()
                )
                outcome = {"certificate": base64.b64encode(pem).decode()}
            except ValueError as error:
                refusal = str(error)

        def change(live: Object) -> Object:
            if not decisions.is_to_sign(live) or objects.uid(live) != objects.uid(obj):
                return live
            if refusal:
                return _with_condition(live, _failure(refusal))
            return {**live, "status": {**objects.status(live), **outcome}}

        await self._writes.update("", objects.name(obj), lens, change)


def _take(cursor: Watch) -> set[str] | None:
    """What has changed since; None if that was forgotten."""
    try:
        return {event.record.name for event in cursor.take()}
    except errors.Expired:
        return None


def _failure(message: str) -> Object:
    reason = "SignerValidationFailure"
    return {"type": decisions.FAILED, "status": "True", "reason": reason, "message": message}


def _with_condition(obj: Object, condition: Object) -> Object:
    listed = objects.status(obj).get("conditions") or []
    return {**obj, "status": {**objects.status(obj), "conditions": [*listed, dict(condition)]}}
