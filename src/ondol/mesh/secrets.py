"""Certificates and authorities out of Secrets, only such as the proxy takes. Pure.

Of type `kubernetes.io/tls` with Kubernetes' keys, or with those of Istio's tasks (`cert`, `key`, `cacert`).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Iterable
from typing import Any, Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from ondol.api import objects
from ondol.api.objects import Object
from ondol.mesh.translate import reach
from ondol.mesh.translate.credentials import Authorities, Certificate, Content

TLS_TYPE: Final = "kubernetes.io/tls"
ANY_TYPE: Final = "Opaque"
"""Of the Secrets that are looked at."""
GATEWAYS_FROM: Final = "mesh.ondol.dev/gateways-from"
"""Annotation of a Secret of istio-system: namespaces whose Gateways may use it; without it all may."""
_GENERIC: Final = ("cert", "key")
_TLS: Final = ("tls.crt", "tls.key")
_TRUSTED: Final = ("cacert", "ca.crt")
_REVOKED: Final = ("crl", "ca.crl")
_NAMES: Final = frozenset({*_GENERIC, *_TLS, *_TRUSTED, *_REVOKED})
NOTHING: Final = Content()
_CURVES: Final = ("secp256r1", "secp384r1", "secp521r1")
_RSA_BITS_MIN: Final = 2048


class Unusable(ValueError):
    """A Secret whose certificate cannot be served; says why, and nothing of the key."""


class Absent(Unusable):
    """It does not even claim to hold what is asked for."""


def read(secret: Object) -> Certificate:
    """The certificate of a Secret; `Unusable` where the proxy would not take it."""
    is_generic = all((secret.get("data") or {}).get(name) for name in _GENERIC)
    of_chain, of_key = _GENERIC if is_generic else _TLS
    chain, key = _data(secret, of_chain), _data(secret, of_key)
    try:
        certificates = x509.load_pem_x509_certificates(chain)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise Unusable(f"{of_chain} holds no certificate in PEM") from error
    try:
        private: Any = serialization.load_pem_private_key(key, None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise Unusable(f"{of_key} holds no key in PEM without a password") from error
    public = private.public_key() if hasattr(private, "public_key") else None
    if isinstance(public, rsa.RSAPublicKey):
        if public.key_size < _RSA_BITS_MIN:
            raise Unusable(f"{of_key} is an RSA key of less than {_RSA_BITS_MIN} bits")
    elif not isinstance(public, ec.EllipticCurvePublicKey) or public.curve.name not in _CURVES:
        raise Unusable(f"{of_key} is neither an RSA key nor one of the curves P-256, P-384 and P-521")
    if _spki(certificates[0].public_key()) != _spki(public):
        raise Unusable(f"{of_key} is not the key of the first certificate in {of_chain}")
    return Certificate(_name(secret), _version(chain, key), chain, key)


def validity(certificate: Certificate) -> tuple[float, float]:
    """From when until when, in seconds since 1970, the certificate itself may be believed."""
    first = x509.load_pem_x509_certificates(certificate.chain)[0]
    return first.not_valid_before_utc.timestamp(), first.not_valid_after_utc.timestamp()


def authorities(secret: Object) -> Authorities:
    """Whom a Secret has clients trusted by; `Absent` where it says nothing of it, else `Unusable`."""
    trusted = _first(secret, _TRUSTED)
    if trusted is None:
        raise Absent(f"it has neither {' nor '.join(_TRUSTED)}")
    try:
        x509.load_pem_x509_certificates(trusted)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise Unusable("the certificates of its authorities are not PEM") from error
    revoked = _first(secret, _REVOKED) or b""
    if revoked:
        try:
            x509.load_pem_x509_crl(revoked)
        except (ValueError, UnsupportedAlgorithm) as error:
            raise Unusable("its list of what is revoked is not PEM") from error
    return Authorities(_name(secret), _version(trusted, revoked), trusted, revoked)


def content(secret: Object, before: Content = NOTHING) -> Content:
    """All that a Secret holds; what it held `before` goes on serving for what is unusable."""
    certificate, no_certificate = before.certificate, ""
    try:
        certificate = read(secret)
    except Unusable as error:
        no_certificate = str(error)
    trusted, no_authorities, names_authorities = before.authorities, "", True
    try:
        trusted = authorities(secret)
    except Absent as error:
        trusted, no_authorities, names_authorities = None, str(error), False
    except Unusable as error:
        no_authorities = str(error)
    text = objects.annotations(secret).get(GATEWAYS_FROM)
    users = None if text is None else reach.guests(text)
    if users is not None and "*" in users:
        users = None
    return Content(certificate, no_certificate, trusted, no_authorities, names_authorities, users)


def relevant(secret: Object) -> Object:
    """What of a Secret is kept in memory: none of what is not for TLS."""
    data = {name: value for name, value in (secret.get("data") or {}).items() if name in _NAMES}
    kept = ("namespace", "name", "uid", "resourceVersion")
    metadata = {name: value for name, value in objects.metadata(secret).items() if name in kept}
    users = objects.annotations(secret).get(GATEWAYS_FROM)
    if users is not None:
        metadata["annotations"] = {GATEWAYS_FROM: users}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": data}


def _name(secret: Object) -> str:
    return f"{objects.namespace(secret)}/{objects.name(secret)}"


def _version(*parts: bytes) -> str:
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:16]


def _first(secret: Object, names: Iterable[str]) -> bytes | None:
    data = secret.get("data") or {}
    return next((_data(secret, name) for name in names if data.get(name)), None)


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
