"""CertificateSigningRequests: what is asked for stays, and by whom; it is approved, and then signed."""

# ruff: noqa: ARG002 - a hook names all it is given, as in the base class

from __future__ import annotations

from typing import ClassVar, Final

from ondol.api import objects
from ondol.api.objects import Object
from ondol.api.patch.fieldset import FieldSet
from ondol.api.schema import causes
from ondol.api.tables import certificates as tables
from ondol.api.validation import Rules, certificates
from ondol.apiserver import approvals, certificate_requests
from ondol.apiserver.admission import certificates as admission
from ondol.apiserver.admission.chain import Plugins
from ondol.apiserver.kinds.registration import Kind
from ondol.apiserver.strategy import Context, Strategy
from ondol.base.errors import Cause

_REQUESTER: Final = ("username", "uid", "groups", "extra")


class CertificateSigningRequest(Strategy):
    has_status: ClassVar[bool] = True
    empty_status: ClassVar[Object | None] = {}
    status_reset: ClassVar[FieldSet] = {"f:spec": {}, "f:status": {"f:conditions": {}}}

    def prepare_for_create(self, context: Context, new: Object) -> None:
        super().prepare_for_create(context, new)
        wish = {key: value for key, value in objects.spec(new).items() if key not in _REQUESTER}
        new["spec"] = {**wish, **context.user.document()}

    def prepare_for_update(self, context: Context, new: Object, old: Object) -> None:
        super().prepare_for_update(context, new, old)
        new["spec"] = old["spec"]

    def prepare_for_status_update(self, context: Context, new: Object, old: Object) -> None:
        """Approvals stay as they were written."""
        listed = list(objects.status(new).get("conditions") or ())
        for kind in certificates.APPROVALS:
            before = certificates.of_type(old, kind)
            places = [index for index, each in enumerate(listed) if each.get("type") == kind]
            if len(places) == len(before):
                for index, condition in zip(places, before, strict=True):
                    listed[index] = {**condition}
        if listed:
            new["status"] = {**objects.status(new), "conditions": listed}
        approvals.date_conditions(context.now, new, old)

    def problems(self, context: Context, new: Object, old: Object | None) -> list[Cause]:
        listed = list(certificates.conditions(new))
        if old is None:
            detail = certificate_requests.problem(new)
            wrong = [causes.invalid("spec.request", objects.spec(new).get("request") or "", detail)]
            return [*wrong, *listed] if detail else listed
        if objects.status(new).get("certificate") != objects.status(old).get("certificate"):
            detail = certificate_requests.certificate_problem(new)
            if detail:
                listed.append(causes.invalid("status.certificate", "<certificate data>", detail))
        return [*listed, *certificates.lasting(new, old)]


KIND: Final = Kind(
    "certificates.k8s.io",
    "CertificateSigningRequest",
    strategy=CertificateSigningRequest(),
    rules=Rules(certificates.request, name=certificates.any_name),
    layout=tables.REQUEST,
    plugins=Plugins(validating=(admission.admit,)),
)
