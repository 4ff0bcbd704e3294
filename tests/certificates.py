"""Certificates for servers of tests."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


def certify_in_own_name(
    folder: Path,
    name: str,
    *,
    signs: bool = True,
    is_authority: bool = True,
    hours: tuple[int, int] = (1, 1),
    leaf_ends: int = 1,
    bounds: x509.NameConstraints | None = None,
) -> bytes:
    """As Knative makes them: issuer and server have one name and two keys. The first, as PEM.

    `signs`: whether the issuer's key, not a third one, has signed the server's; `hours`: since and until when
    the issuer is valid, from now, and `leaf_ends` until when the server's is.
    """
    keys = [ec.generate_private_key(ec.SECP256R1()) for _ in range(3)]
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = dt.datetime.now(dt.UTC)
    pems = []
    for number, (key, signer, since, until) in enumerate(
        ((keys[0], keys[0], *hours), (keys[1], keys[0 if signs else 2], 1, leaf_ends))
    ):
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(subject)
            .public_key(key.public_key())
            .serial_number(number + 1)
            .not_valid_before(now - dt.timedelta(hours=since, minutes=1))
            .not_valid_after(now + dt.timedelta(hours=until))
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
            .add_extension(x509.BasicConstraints(is_authority and number == 0, None), critical=True)
        )
        if bounds is not None and number == 0:
            builder = builder.add_extension(bounds, critical=True)
        pems.append(builder.sign(signer, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    private = keys[1].private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (folder / "both.pem").write_bytes(pems[1] + private)
    return pems[0]


def certify(folder: Path, name: str) -> bytes:
    """A certificate for a name with its key, in `both.pem` for a server; it is its own authority, as PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = certificate.public_bytes(serialization.Encoding.PEM)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (folder / "both.pem").write_bytes(pem + private)
    return pem
