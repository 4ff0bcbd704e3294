"""The authority that signs what was approved: subject and names of the request, usages and times of its own.

Follows `pkg/controller/certificates/authority`: no other extension of the request comes into the certificate.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Mapping
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

from ondol.apiserver.signing import signers
from ondol.base import errors

LIFETIME_S: Final = 365 * 86_400
"""The longest a certificate lasts, and how long one does that does not say."""
_LIFETIME_MIN_S: Final = 600
_BACKDATE_S: Final = 300
_SHORT_S: Final = 8 * 3600
"""Shorter ones lose nothing at their end for being valid before they were made."""
_BITS: Final[Mapping[str, str]] = {
    "signing": "digital_signature",
    "digital signature": "digital_signature",
    "content commitment": "content_commitment",
    "key encipherment": "key_encipherment",
    "key agreement": "key_agreement",
    "data encipherment": "data_encipherment",
    "cert sign": "key_cert_sign",
    "crl sign": "crl_sign",
    "encipher only": "encipher_only",
    "decipher only": "decipher_only",
}
_EVERY_BIT: Final = frozenset(_BITS.values())
_PURPOSES: Final[Mapping[str, x509.ObjectIdentifier]] = {
    "any": ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE,
    "server auth": ExtendedKeyUsageOID.SERVER_AUTH,
    "client auth": ExtendedKeyUsageOID.CLIENT_AUTH,
    "code signing": ExtendedKeyUsageOID.CODE_SIGNING,
    "email protection": ExtendedKeyUsageOID.EMAIL_PROTECTION,
    "s/mime": ExtendedKeyUsageOID.EMAIL_PROTECTION,
    "ipsec end system": x509.ObjectIdentifier("1.3.6.1.5.5.7.3.5"),
    "ipsec tunnel": x509.ObjectIdentifier("1.3.6.1.5.5.7.3.6"),
    "ipsec user": x509.ObjectIdentifier("1.3.6.1.5.5.7.3.7"),
    "timestamping": ExtendedKeyUsageOID.TIME_STAMPING,
    "ocsp signing": ExtendedKeyUsageOID.OCSP_SIGNING,
    "microsoft sgc": x509.ObjectIdentifier("1.3.6.1.4.1.311.10.3.3"),
    "netscape sgc": x509.ObjectIdentifier("2.16.840.1.113730.4.1"),
}


class Authority:
    """The certificate and the key (PEM) that requests are signed with."""

    def __init__(self, certificate: bytes, key: bytes) -> None:
        loaded = serialization.load_pem_private_key(key, password=None)
        if not isinstance(loaded, ec.EllipticCurvePrivateKey):
            raise errors.HostError("the authority's key is not an elliptic-curve key")
        self._certificate = x509.load_pem_x509_certificate(certificate)
        self._key = loaded

    def sign(
        self,
        request: x509.CertificateSigningRequest,
        usages: Collection[str],
        expiration_s: int | None,
        now: float,
    ) -> bytes:
        """A certificate (PEM); `ValueError` if it cannot be made, as of an authority whose time is over."""
        begins, ends = _times(expiration_s, dt.datetime.fromtimestamp(int(now), dt.UTC))
        last = self._certificate.not_valid_after_utc
        if dt.datetime.fromtimestamp(now, dt.UTC) >= last:
            raise ValueError(f"the signer has expired: NotAfter={last.isoformat()}")
        builder = (
            x509.CertificateBuilder()
            .subject_name(request.subject)
            .issuer_name(self._certificate.subject)
            .public_key(request.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(begins)
            .not_valid_after(min(ends, last))
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), False)
        )
        for extension, is_critical in _extensions(request, usages):
            builder = builder.add_extension(extension, critical=is_critical)
        return builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def _times(expiration_s: int | None, now: dt.datetime) -> tuple[dt.datetime, dt.datetime]:
    asked_s = LIFETIME_S if expiration_s is None else expiration_s
    lifetime_s = min(max(asked_s, _LIFETIME_MIN_S), LIFETIME_S)
    backdate = dt.timedelta(seconds=_BACKDATE_S)
    ends = now + dt.timedelta(seconds=lifetime_s)
    return now - backdate, ends if lifetime_s < _SHORT_S else ends - backdate


def _extensions(
    request: x509.CertificateSigningRequest, usages: Collection[str]
) -> list[tuple[x509.ExtensionType, bool]]:
    """Each with whether it is critical."""
    extensions: list[tuple[x509.ExtensionType, bool]] = []
    bits = {_BITS[usage] for usage in usages if usage in _BITS}
    if bits:
        extensions.append((x509.KeyUsage(**{bit: bit in bits for bit in _EVERY_BIT}), True))
    purposes = {_PURPOSES[usage] for usage in usages if usage in _PURPOSES}
    if purposes:
        ordered = sorted(purposes, key=lambda purpose: purpose.dotted_string)
        extensions.append((x509.ExtendedKeyUsage(ordered), False))
    if names := signers.alternative_names(request):
        extensions.append((x509.SubjectAlternativeName(names), not list(request.subject)))
    return extensions
