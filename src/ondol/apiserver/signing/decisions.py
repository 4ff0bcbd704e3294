"""What is to be done about a request for a certificate, from the request and the time alone.

Follows `pkg/controller/certificates/approver` and `pkg/controller/certificates/cleaner`.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from typing import Final

from cryptography import x509

from ondol.api import objects
from ondol.api.objects import Object
from ondol.api.validation import certificates
from ondol.apiserver.auth.identity import User
from ondol.apiserver.signing import signers
from ondol.base import clock

_DECIDED_S: Final = 3600.0
_PENDING_S: Final = 24 * 3600.0
FAILED: Final = "Failed"
APPROVED: Final = "Approved"
_DENIED: Final = "Denied"
_SELF: Final = "selfnodeclient"
_NODE: Final = "nodeclient"
_MESSAGES: Final = {
    _SELF: "Auto approving self kubelet client certificate after SubjectAccessReview.",
    _NODE: "Auto approving kubelet client certificate after SubjectAccessReview.",
}


def requester(obj: Object) -> User:
    """Who asked."""
    spec = objects.spec(obj)
    extra = {key: tuple(values) for key, values in (spec.get("extra") or {}).items()}
    return User(spec.get("username") or "", tuple(spec.get("groups") or ()), spec.get("uid") or "", extra)


def approval(
    obj: Object, request: x509.CertificateSigningRequest, may: Callable[[str], bool]
) -> Object | None:
    """The condition that approves a node's own certificate, if who asked may have it so.

    `may` says whether they may create the subresource of that name.
    """
    spec = objects.spec(obj)
    if is_decided(obj) or not signers.is_for_node(
        spec.get("signerName") or "", request, spec.get("usages") or ()
    ):
        return None
    kinds = [_SELF, _NODE] if spec.get("username") == signers.common_name(request) else [_NODE]
    kind = next((kind for kind in kinds if may(kind)), None)
    if kind is None:
        return None
    return {"type": APPROVED, "status": "True", "reason": "AutoApproved", "message": _MESSAGES[kind]}


def is_decided(obj: Object) -> bool:
    """Whether it was approved or denied, or signed already."""
    types = {condition.get("type") for condition in _conditions(obj)}
    return bool(types & {APPROVED, _DENIED} or objects.status(obj).get("certificate"))


def is_to_sign(obj: Object) -> bool:
    """Whether it was approved, and has neither a certificate nor failed."""
    return (
        bool(certificates.of_type(obj, APPROVED))
        and not certificates.of_type(obj, FAILED)
        and not certificates.of_type(obj, _DENIED)
        and not objects.status(obj).get("certificate")
    )


def is_over(obj: Object, now: float) -> bool:
    """Whether nobody needs it any more: decided long ago, never decided, or its certificate ran out."""
    if not _conditions(obj):
        return now - clock.parse_rfc3339(obj["metadata"]["creationTimestamp"]) > _PENDING_S
    certificate = objects.status(obj).get("certificate")
    if certificate and certificates.of_type(obj, APPROVED) and _has_ended(certificate, now):
        return True
    approved_s = _DECIDED_S if certificate else _PENDING_S
    limits = {APPROVED: approved_s, _DENIED: _DECIDED_S, FAILED: _DECIDED_S}
    return any(now - since > limits[kind] for kind, since in _dated(obj) if kind in limits)


def _dated(obj: Object) -> Iterator[tuple[str, float]]:
    for condition in _conditions(obj):
        if since := condition.get("lastUpdateTime"):
            yield condition.get("type") or "", clock.parse_rfc3339(since)


def _conditions(obj: Object) -> list[Object]:
    return objects.status(obj).get("conditions") or []


def _has_ended(certificate: str, now: float) -> bool:
    try:
        parsed = x509.load_pem_x509_certificate(base64.b64decode(certificate))
    except ValueError:
        return False
    return parsed.not_valid_after_utc.timestamp() < now
