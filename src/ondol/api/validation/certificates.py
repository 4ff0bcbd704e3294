"""Rules of CertificateSigningRequests, but for what is in the request and the certificate themselves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from ondol.api import objects
from ondol.api.schema import causes
from ondol.api.validation import fields
from ondol.base import names
from ondol.base.errors import Cause

LEGACY_SIGNER: Final = "kubernetes.io/legacy-unknown"
APPROVALS: Final = ("Approved", "Denied")
"""Conditions that only the subresource for approvals sets."""
_LASTING: Final = (*APPROVALS, "Failed")
_USAGES: Final = (
    "any",
    "cert sign",
    "client auth",
    "code signing",
    "content commitment",
    "crl sign",
    "data encipherment",
    "decipher only",
    "digital signature",
    "email protection",
    "encipher only",
    "ipsec end system",
    "ipsec tunnel",
    "ipsec user",
    "key agreement",
    "key encipherment",
    "microsoft sgc",
    "netscape sgc",
    "ocsp signing",
    "s/mime",
    "server auth",
    "signing",
    "timestamping",
)
_LIFE_MIN_S: Final = 600
_CONDITIONS: Final = "status.conditions"
_BOTH: Final = "Approved and Denied conditions are mutually exclusive"


def any_name(path: str, value: str) -> Iterator[Cause]:
    """Requests may be called anything."""
    del path, value
    yield from ()


def request(obj: Mapping[str, Any]) -> Iterator[Cause]:
    spec = objects.spec(obj)
    usages, seconds, signer = (
        spec.get("usages") or (),
        spec.get("expirationSeconds"),
        spec.get("signerName") or "",
    )
    if not usages:
        yield causes.required("spec.usages")
    for index, usage in enumerate(usages):
        if usage not in _USAGES:
            yield causes.not_supported(f"spec.usages[{index}]", usage, _USAGES)
    yield from fields.unique("spec.usages", enumerate(usages))
    if signer == LEGACY_SIGNER:
        detail = "the legacy signerName is not allowed via this API version"
        yield causes.invalid("spec.signerName", signer, detail)
    else:
        yield from _signer_name("spec.signerName", signer)
    if seconds is not None and seconds < _LIFE_MIN_S:
        detail = f"may not specify a duration less than {_LIFE_MIN_S} seconds (10 minutes)"
        yield causes.invalid("spec.expirationSeconds", seconds, detail)


def _signer_name(path: str, name: str) -> Iterator[Cause]:
    """A domain with two parts at least, and a path in it."""
    if not name:
        yield causes.required(path)
        return
    if name.count("/") != 1:
        detail = "must be a fully qualified domain and path of the form 'example.com/signer-name'"
        yield causes.invalid(path, name, detail)
        return
    domain, _, signer = name.partition("/")
    if len(domain) > 253:
        yield causes.too_long(path, 253)
    yield from _labels(path, domain)
    if "." not in domain:
        detail = "should be a domain with at least two segments separated by dots"
        yield causes.invalid(path, domain, detail)
    yield from _labels(path, signer)


def _labels(path: str, text: str) -> Iterator[Cause]:
    wrong = next((label for label in text.split(".") if not names.is_dns1123_label(label)), None)
    if wrong is not None:
        yield causes.invalid(path, text, f'validating label "{wrong}": {fields.LABEL}')


def conditions(obj: Mapping[str, Any]) -> Iterator[Cause]:
    """Of the status, whoever writes it."""
    listed = objects.status(obj).get("conditions") or ()
    for index, condition in enumerate(listed):
        kind, path = condition.get("type") or "", f"{_CONDITIONS}[{index}]"
        allowed = ("True",) if kind in _LASTING else ("False", "True", "Unknown")
        if not kind:
            yield causes.required(f"{path}.type")
        yield from fields.one_of(f"{path}.status", condition.get("status"), allowed, required=True)
    types = [condition.get("type") or "" for condition in listed]
    if set(APPROVALS) <= set(types):
        yield causes.invalid(_CONDITIONS, max(APPROVALS, key=types.index), _BOTH)
    yield from fields.unique(_CONDITIONS, enumerate(types), "type")


def lasting(new: Mapping[str, Any], old: Mapping[str, Any]) -> Iterator[Cause]:
    """What was decided is not taken back."""
    for kind in _LASTING:
        if len(of_type(new, kind)) < len(of_type(old, kind)):
            detail = f'updates may not remove a condition of type "{kind}"'
            yield causes.forbidden(_CONDITIONS, detail)
    certificate, was = objects.status(new).get("certificate"), objects.status(old).get("certificate")
    if was and certificate != was:
        detail = "updates may not modify existing certificate content"
        yield causes.forbidden("status.certificate", detail)


def approvals_unchanged(new: Mapping[str, Any], old: Mapping[str, Any]) -> Iterator[Cause]:
    """Who writes the status approves nothing by it."""
    for kind in APPROVALS:
        if len(of_type(new, kind)) > len(of_type(old, kind)):
            yield causes.forbidden(_CONDITIONS, f'updates may not add a condition of type "{kind}"')


def of_type(obj: Mapping[str, Any], kind: str) -> Sequence[Mapping[str, Any]]:
    return [each for each in objects.status(obj).get("conditions") or () if each.get("type") == kind]
