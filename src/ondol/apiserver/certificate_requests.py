"""What is in a certificate signing request and in a certificate: read, and told what is wrong with it."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from typing import Any, Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.x509.oid import NameOID

from ondol.api import objects

UNREADABLE: Final = (
    ValueError,
    InvalidSignature,
    UnsupportedAlgorithm,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
)
"""What reading a request may raise."""
_BLOCK: Final = re.compile(rb"-----BEGIN ([A-Z0-9 ]+)-----\r?\n(.*?)-----END \1-----", re.DOTALL)


def problem(obj: Mapping[str, Any]) -> str:
    """Why the request of an object is none; empty if it is one, signed by its own key."""
    try:
        request = parsed(obj)
        if not request.is_signature_valid:
            return "x509: signature does not fit the public key"
        tuple(request.extensions)
    except UNREADABLE as error:
        return str(error) or "x509: the request cannot be read"
    return ""


def organizations(obj: Mapping[str, Any]) -> list[str]:
    """The groups that the subject of a valid request asks for."""
    attributes = parsed(obj).subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)
    return [str(attribute.value) for attribute in attributes]


def parsed(obj: Mapping[str, Any]) -> x509.CertificateSigningRequest:
    """The request of an object; `ValueError` if it is none."""
    pem = base64.b64decode(objects.spec(obj).get("request") or "")
    block = _BLOCK.search(pem)
    if block is None or block[1] != b"CERTIFICATE REQUEST":
        raise ValueError("PEM block type must be CERTIFICATE REQUEST")
    return x509.load_pem_x509_csr(block[0])


def certificate_problem(obj: Mapping[str, Any]) -> str:
    """Why what stands as the certificate of an object is none; empty if it is one, or there is none."""
    pem = base64.b64decode(objects.status(obj).get("certificate") or "")
    blocks = list(_BLOCK.finditer(pem))
    if pem and not blocks:
        return "must contain at least one CERTIFICATE PEM block"
    for block in blocks:
        if block[1] != b"CERTIFICATE":
            return f'only CERTIFICATE PEM blocks are allowed, found "{block[1].decode()}"'
        if b":" in block[2]:
            return "no PEM block headers are permitted"
        try:
            x509.load_pem_x509_certificate(block[0])
        except ValueError as error:
            return str(error)
    return ""
