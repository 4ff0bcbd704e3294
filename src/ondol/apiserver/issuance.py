"""Whether a server's certificate was issued by an authority, where OpenSSL refuses to look.

A certificate whose issuer has the subject's own name, and which no key identifiers tell apart, is taken for
self-signed by OpenSSL (`EXFLAG_SS`, crypto/x509/v3_purp.c) and refused before its signature is read, although
an authority of that name signed it with another key. RFC 5280 calls no such certificate wrong, Go accepts it,
and Knative's webhooks have them (knative.dev/pkg/webhook/certificates/resources/certs.go).
"""

from __future__ import annotations

import datetime as dt

from cryptography import exceptions, x509
from cryptography.hazmat.primitives import serialization


def issued_until(certificate: bytes, authorities: bytes, now: dt.datetime) -> dt.datetime | None:
    """Until when an authority (PEM, one or more) stands for a certificate (DER) that it has signed itself.

    None if none has, or none that may and is valid `now`. Nothing is looked at but the issuer: not the
    certificate's own time, names or use.
    """
    try:
        leaf = x509.load_der_x509_certificate(certificate)
        issuers = x509.load_pem_x509_certificates(authorities)
    except ValueError:
        return None
    ends = [
        issuer.not_valid_after_utc for issuer in issuers if _may_issue(issuer, now) and _signed(issuer, leaf)
    ]
    return max(ends, default=None)


def pem(certificate: bytes) -> bytes:
    """A certificate (DER) as PEM."""
    return x509.load_der_x509_certificate(certificate).public_bytes(serialization.Encoding.PEM)


def _signed(issuer: x509.Certificate, leaf: x509.Certificate) -> bool:
    try:
        leaf.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, exceptions.InvalidSignature):
        return False
    return True


def _may_issue(issuer: x509.Certificate, now: dt.datetime) -> bool:
    """An authority in its time; one whose names are bounded is left to OpenSSL, which knows the bounds."""
    try:
        extensions = issuer.extensions
    except ValueError:
        return False
    return (
        issuer.not_valid_before_utc <= now <= issuer.not_valid_after_utc
        and _is_authority(extensions)
        and not any(isinstance(each.value, x509.NameConstraints) for each in extensions)
    )


def _is_authority(extensions: x509.Extensions) -> bool:
    values = [each.value for each in extensions]
    usages = [value.key_cert_sign for value in values if isinstance(value, x509.KeyUsage)]
    return any(isinstance(value, x509.BasicConstraints) and value.ca for value in values) and all(usages)
