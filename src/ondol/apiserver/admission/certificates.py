"""Who may approve requests for certificates, who may sign them, and what no request may ask for.

Follows `plugin/pkg/admission/certificates`: beside the right to the subresource it takes that to the signer,
by its whole name or by all of its domain.
"""

from __future__ import annotations

from typing import Final

from ondol.api import objects, status
from ondol.api.validation import certificates
from ondol.apiserver import certificate_requests
from ondol.apiserver.admission.parts import Parts
from ondol.apiserver.admission.request import Request
from ondol.apiserver.auth import identity, rbac
from ondol.apiserver.strategy import Context
from ondol.base import errors

_GROUP: Final = "certificates.k8s.io"
_CLIENT_SIGNER: Final = "kubernetes.io/kube-apiserver-client"


def admit(parts: Parts, context: Context, request: Request) -> None:
    """Refuse approvals, signatures and subjects that the user has no right to."""
    if request.operation == "create":
        _check_subject(request)
    if request.operation != "update" or request.old is None:
        return
    signer = objects.spec(request.old).get("signerName") or ""
    if request.subresource == "approval":
        _require(parts, context, request, "approve", signer)
    elif request.subresource == "status":
        causes = list(certificates.approvals_unchanged(request.new, request.old))
        if causes:
            raise status.invalid(request.served.resource, objects.name(request.new), causes)
        new, old = objects.status(request.new), objects.status(request.old)
        if any(new.get(field) != old.get(field) for field in ("certificate", "conditions")):
            _require(parts, context, request, "sign", signer)


def _check_subject(request: Request) -> None:
    """No request makes its client an administrator."""
    if objects.spec(request.new).get("signerName") != _CLIENT_SIGNER:
        return
    if identity.MASTERS in certificate_requests.organizations(request.new):
        why = f"use of {_CLIENT_SIGNER} signer with {identity.MASTERS} group is not allowed"
        raise _forbidden(request, why)


def _require(parts: Parts, context: Context, request: Request, verb: str, signer: str) -> None:
    names = (signer, f"{signer.partition('/')[0]}/*")
    if parts.rbac is None or any(
        parts.rbac.authorize(context.user, rbac.Attributes(verb, _GROUP, "signers", name=name)).allowed
        for name in names
    ):
        return
    raise _forbidden(request, f'user not permitted to {verb} requests with signerName "{signer}"')


def _forbidden(request: Request, why: str) -> errors.Forbidden:
    return status.forbidden(request.served.resource, objects.name(request.new), why)
