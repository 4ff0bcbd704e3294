"""Certificates out of Secrets of type `kubernetes.io/tls`, only such as the proxy takes. Pure."""

from __future__ import annotations

import base64
import binascii
import hashlib
from dataclasses import dataclass, field
from typing import Any, Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from ondol.api import objects
from ondol.api.objects import Object

TYPE: Final = "kubernetes.io/tls"
_CURVES: Final = ("secp256r1", "secp384r1", "secp521r1")
_RSA_BITS_MIN: Final = 2048


class Unusable(ValueError):
    """A Secret whose certificate cannot be served; says why, and nothing of the key."""


@dataclass(frozen=True, slots=True)
class Certificate:
    """A chain with its key."""

    name: str
    """`namespace/secret`."""
    version: str
    chain: bytes = field(repr=False)
    key: bytes = field(repr=False)


def read(secret: Object) -> Certificate:
    """The certificate of a Secret; `Unusable` where the proxy would not take it."""
    chain, key = (_data(secret, name) for name in ("tls.crt", "tls.key"))
    try:
        certificates = x509.load_pem_x509_certificates(chain)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise Unusable("tls.crt holds no certificate in PEM") from error
    try:
        private: Any = serialization.load_pem_private_key(key, None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise Unusable("tls.key holds no key in PEM without a password") from error
    public = private.public_key() if hasattr(private, "public_key") else None
    if isinstance(public, rsa.RSAPublicKey):
        if public.key_size < _RSA_BITS_MIN:
            raise Unusable(f"tls.key is an RSA key of less than {_RSA_BITS_MIN} bits")
    elif not isinstance(public, ec.EllipticCurvePublicKey) or public.curve.name not in _CURVES:
        raise Unusable("tls.key is neither an RSA key nor one of the curves P-256, P-384 and P-521")
    if _spki(certificates[0].public_key()) != _spki(public):
        raise Unusable("tls.key is not the key of the first certificate in tls.crt")
    name = f"{objects.namespace(secret)}/{objects.name(secret)}"
    return Certificate(name, hashlib.sha256(chain + b"\0" + key).hexdigest()[:16], chain, key)


def _data(secret: Object, name: str) -> bytes:
    text = (secret.get("data") or {}).get(name)
    if not text:
        raise Unusable(f"it has no {name}")
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise Unusable(f"{name} is not base64") from error


def _spki(key: Any) -> bytes:
    encoded: bytes = key.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return encoded
