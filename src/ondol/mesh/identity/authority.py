"""The certificate authority of the mesh: its own root or one that was given to it, and what it signs.

Pure but for the keys that are drawn. Keys are P-256. Sources: the X.509-SVID standard (section 4: one URI,
critical where there is no subject; no CA; digital signature), RFC 5280.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_ROOT_DAYS: Final = 3650
_EARLY: Final = dt.timedelta(minutes=2)
"""Certificates are valid from so long before they are made: other machines' clocks may be behind."""


class Unusable(ValueError):
    """What is no authority that certificates can be issued by; says why, and nothing of the key."""


@dataclass(frozen=True, slots=True)
class Authority:
    """A key that signs, its certificate, and what others trust it by. All PEM."""

    certificate: bytes
    key: bytes = field(repr=False)
    chain: bytes = b""
    """From its certificate up to the root, which is left out; empty for a root."""
    roots: bytes = b""
    """What is trusted; one certificate or several."""

    @property
    def not_before(self) -> float:
        """From when its certificate is valid, in seconds since the epoch."""
        return x509.load_pem_x509_certificate(self.certificate).not_valid_before_utc.timestamp()

    @property
    def not_after(self) -> float:
        """When its certificate ends, in seconds since the epoch."""
        return x509.load_pem_x509_certificate(self.certificate).not_valid_after_utc.timestamp()


@dataclass(frozen=True, slots=True)
class Issued:
    """A certificate of a workload with its key, PEM."""

    identity: str
    chain: bytes
    key: bytes = field(repr=False)
    version: str
    """Differs from that of every other certificate."""
    not_before: float
    not_after: float


def new_root(trust_domain: str, now: float) -> Authority:
    """A root that signs itself, for ten years."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, trust_domain)])
    at = dt.datetime.fromtimestamp(now, dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(at - _EARLY)
        .not_valid_after(at + dt.timedelta(days=_ROOT_DAYS))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = certificate.public_bytes(serialization.Encoding.PEM)
    return Authority(pem, _pem(key), b"", pem)


def read(certificate: bytes, key: bytes, chain: bytes = b"", roots: bytes = b"") -> Authority:
    """An authority out of PEM; `Unusable` if it cannot issue."""
    try:
        own = x509.load_pem_x509_certificate(certificate)
        private: Any = serialization.load_pem_private_key(key, None)
        trusted = x509.load_pem_x509_certificates(roots or certificate)
        above = x509.load_pem_x509_certificates(chain or certificate)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise Unusable("certificate, key, chain or root is not PEM without a password") from error
    spki = (serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    if own.public_key().public_bytes(*spki) != private.public_key().public_bytes(*spki):
        raise Unusable("the key is not the key of the certificate")
    try:
        constraints = own.extensions.get_extension_for_class(x509.BasicConstraints).value
    except x509.ExtensionNotFound:
        constraints = None
    if constraints is None or not constraints.ca:
        raise Unusable("the certificate is not that of an authority (basicConstraints CA is not true)")
    if not isinstance(private, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey):
        raise Unusable("the key is neither RSA nor of an elliptic curve that signs with ECDSA")
    if not _leads_to(own, above, trusted):
        raise Unusable("the certificate does not lead to a root, by the chain it comes with")
    is_root = own in trusted
    return Authority(certificate, key, b"" if is_root else chain or certificate, roots or certificate)


def _leads_to(
    own: x509.Certificate, above: Iterable[x509.Certificate], trusted: Sequence[x509.Certificate]
) -> bool:
    """Whether a chain of signatures goes from the certificate to one that is trusted."""
    certificate, left = own, list(above)
    while certificate not in trusted:
        if any(_is_signed(certificate, root) for root in trusted):
            return True
        signer = next((each for each in left if each != certificate and _is_signed(certificate, each)), None)
        if signer is None:
            return False
        left.remove(signer)
        certificate = signer
    return True


def _is_signed(certificate: x509.Certificate, signer: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(signer)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def issue(authority: Authority, identity: str, now: float, lifetime_s: float) -> Issued:
    """A certificate that says who a workload is, no longer valid than its authority's; that has not ended."""
    key = ec.generate_private_key(ec.SECP256R1())
    own = x509.load_pem_x509_certificate(authority.certificate)
    signer: Any = serialization.load_pem_private_key(authority.key, None)
    at = dt.datetime.fromtimestamp(now, dt.UTC)
    end = min(at + dt.timedelta(seconds=lifetime_s), own.not_valid_after_utc)
    serial = x509.random_serial_number()
    certificate = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([]))
        .issuer_name(own.subject)
        .public_key(key.public_key())
        .serial_number(serial)
        .not_valid_before(at - _EARLY)
        .not_valid_after(end)
        .add_extension(x509.SubjectAlternativeName([x509.UniformResourceIdentifier(identity)]), critical=True)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]),
            critical=False,
        )
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False
        )
        .sign(signer, hashes.SHA256())
    )
    chain = certificate.public_bytes(serialization.Encoding.PEM) + authority.chain
    return Issued(identity, chain, _pem(key), f"{serial:x}", now, end.timestamp())


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
