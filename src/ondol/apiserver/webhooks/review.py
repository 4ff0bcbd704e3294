"""AdmissionReviews: the document that a webhook is sent, and what its answer says. Pure.

Follows Kubernetes' `webhook/request/admissionreview.go` and `webhook/errors/statuserror.go`.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from ondol.api import status
from ondol.api.objects import Object
from ondol.apiserver.webhooks.attributes import Attributes
from ondol.base import errors

_GROUP: Final = "admission.k8s.io"
_VERSIONS: Final = ("v1", "v1beta1")


class InvalidReview(errors.OndolError):
    """A webhook's answer that is none."""

    kind = "invalid webhook response"


class UndecodablePatch(InvalidReview):
    """A patch that is no list of operations."""

    kind = "undecodable patch in webhook response"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a webhook decided."""

    allowed: bool
    patch: tuple[Any, ...] = ()
    """The operations of a JSON patch."""
    status: Mapping[str, Any] | None = None
    """Why it is refused."""
    warnings: tuple[str, ...] = ()
    size_bytes: int = 0
    """How large the answer is, from which follows how long the work on it may take."""


def version(accepted: Iterable[str]) -> str:
    """The version to speak: the first that the webhook accepts and this server knows."""
    for each in accepted:
        if each in _VERSIONS:
            return each
    raise InvalidReview("webhook does not accept known AdmissionReview versions (v1, v1beta1)")


def review(attributes: Attributes, uid: str, spoken: str) -> Object:
    """The document for one call, whose answer must have the same uid."""
    request: Object = {"uid": uid, **attributes.document(), "object": attributes.obj}
    request["oldObject"] = attributes.old
    return {"kind": "AdmissionReview", "apiVersion": f"{_GROUP}/{spoken}", "request": request}


class _Cause(msgspec.Struct, omit_defaults=True):
    reason: str = ""
    message: str = ""
    field: str = ""


class _Details(msgspec.Struct, rename="camel", omit_defaults=True):
    name: str = ""
    group: str = ""
    kind: str = ""
    uid: str = ""
    causes: list[_Cause] | None = None
    retry_after_seconds: int = 0


class _Status(msgspec.Struct, omit_defaults=True):
    """What is read of a `Status`; its own metadata tells nothing."""

    code: int = 0
    message: str = ""
    reason: str = ""
    details: _Details | None = None


class _Response(msgspec.Struct, rename="camel"):
    uid: str = ""
    allowed: bool = False
    status: _Status | None = None
    patch: str | None = None
    patch_type: str | None = None
    warnings: list[str] | None = None


class _Review(msgspec.Struct, rename="camel"):
    api_version: str = ""
    kind: str = ""
    response: _Response | None = None


_decode: Final = msgspec.json.Decoder(_Review).decode


def verdict(body: bytes, uid: str, spoken: str, *, may_patch: bool) -> Verdict:
    """What the answer to a review says; `InvalidReview` if it is no answer to it."""
    try:
        answer = _decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidReview(f"could not decode the response: {error}") from None
    response = answer.response
    if response is None:
        raise InvalidReview("webhook response was absent")
    if spoken == "v1":
        _check(answer, response, uid, may_patch=may_patch)
    patch = _patch(response.patch) if may_patch and response.allowed and response.patch else ()
    reasons = msgspec.to_builtins(response.status) if response.status is not None else None
    return Verdict(response.allowed, patch, reasons, tuple(response.warnings or ()), len(body))


def _check(answer: _Review, response: _Response, uid: str, *, may_patch: bool) -> None:
    """What was not asked of the first version of the protocol."""
    if response.uid != uid:
        raise InvalidReview(f'expected response.uid="{uid}", got "{response.uid[:64]}"')
    if (answer.api_version, answer.kind) != (f"{_GROUP}/v1", "AdmissionReview"):
        named = f"{answer.api_version[:64]}, Kind={answer.kind[:64]}"
        raise InvalidReview(f"expected webhook response of {_GROUP}/v1, Kind=AdmissionReview, got {named}")
    if not may_patch:
        if response.patch:
            raise InvalidReview("validating webhook may not return response.patch")
        if response.patch_type is not None:
            raise InvalidReview("validating webhook may not return response.patchType")
        return
    if response.patch and response.patch_type is None:
        raise InvalidReview("webhook returned response.patch but not response.patchType")
    if response.patch_type is not None and not response.patch:
        raise InvalidReview("webhook returned response.patchType but not response.patch")
    if response.patch_type not in (None, "JSONPatch"):
        raise InvalidReview(f'webhook returned invalid response.patchType of "{response.patch_type}"')


_operations: Final = msgspec.json.Decoder(list[dict[str, Any] | None] | None).decode


def _patch(text: str) -> tuple[Any, ...]:
    """The operations; none for `null`, which is how Go writes an empty list, as Knative's webhooks do."""
    try:
        return tuple(_operations(base64.b64decode(text, validate=True)) or ())
    except (binascii.Error, ValueError, msgspec.DecodeError, RecursionError) as error:
        raise UndecodablePatch(str(error)) from None


def denial(webhook: str, reasons: Mapping[str, Any] | None) -> errors.ApiError:
    """The error for the client whose write a webhook refused."""
    result = dict(reasons or {})
    code = result.get("code")
    result["code"] = code if isinstance(code, int) and code >= 400 else 400
    refusal = f'admission webhook "{webhook}" denied the request'
    why = result.get("message") or result.get("reason")
    result["message"] = f"{refusal}: {why}" if why else f"{refusal} without explanation"
    result["status"] = "Failure"
    return status.error_from(result, result["code"])
