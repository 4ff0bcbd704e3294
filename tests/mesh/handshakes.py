"""An authority that certifies servers and clients, and TLS clients of the ingress."""

from __future__ import annotations

import base64
import datetime as dt
import http.client
import socket
import ssl
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

from ondol.api.objects import Object


def _pem(key: Any) -> bytes:
    encoded: bytes = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return encoded


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


@dataclass(frozen=True)
class Pair:
    """A certificate with its key, in PEM."""

    chain: bytes
    key: bytes

    @property
    def serial(self) -> int:
        return x509.load_pem_x509_certificate(self.chain).serial_number


class Authority:
    """Signs certificates, and says which of them are revoked."""

    def __init__(self, name: str = "root") -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._subject = _name(name)
        self.pem = self._sign(self._subject, self._key.public_key(), (), is_authority=True)

    def _sign(
        self, subject: x509.Name, key: Any, names: tuple[str, ...], *, is_authority: bool = False
    ) -> bytes:
        now = dt.datetime.now(dt.UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._subject)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(hours=1))
            .not_valid_after(now + dt.timedelta(hours=1))
            .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
        )
        if names:
            alternatives = x509.SubjectAlternativeName([x509.DNSName(name) for name in names])
            builder = builder.add_extension(alternatives, critical=False)
        certificate = builder.sign(self._key, hashes.SHA256())
        return certificate.public_bytes(serialization.Encoding.PEM)

    def certify(self, *names: str, kind: str = "ecdsa") -> Pair:
        key: Any = (
            rsa.generate_private_key(65537, 2048)
            if kind == "rsa"
            else ec.generate_private_key(ec.SECP256R1())
        )
        return Pair(self._sign(_name(names[0]), key.public_key(), names), _pem(key))

    def revoked(self, *pairs: Pair) -> bytes:
        now = dt.datetime.now(dt.UTC)
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self._subject)
            .last_update(now - dt.timedelta(hours=1))
            .next_update(now + dt.timedelta(hours=1))
        )
        for pair in pairs:
            entry = x509.RevokedCertificateBuilder().serial_number(pair.serial).revocation_date(now).build()
            builder = builder.add_revoked_certificate(entry)
        return builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def secret(name: str, namespace: str, /, *, of: str = "kubernetes.io/tls", **data: bytes) -> Object:
    """A Secret; underscores in the names of its data stand for dots."""
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "namespace": namespace},
        "type": of,
        "data": {key.replace("_", "."): base64.b64encode(value).decode() for key, value in data.items()},
    }


def tls_secret(name: str, namespace: str, pair: Pair, *, trusted: bytes = b"") -> Object:
    return secret(name, namespace, tls_crt=pair.chain, tls_key=pair.key, ca_crt=trusted)


def client_context(authority: Authority, pair: Pair | None = None) -> ssl.SSLContext:
    context = ssl.create_default_context(cadata=authority.pem.decode())
    if pair is not None:
        with tempfile.NamedTemporaryFile(suffix=".pem") as both:
            Path(both.name).write_bytes(pair.chain + pair.key)
            context.load_cert_chain(both.name)
    return context


def connected(port: int, name: str, context: ssl.SSLContext) -> ssl.SSLSocket:
    """A connection to the ingress of this machine whose handshake is done; `OSError` where it is not."""
    raw = socket.create_connection(("127.0.0.1", port), timeout=5)
    try:
        return context.wrap_socket(raw, server_hostname=name)
    except BaseException:
        raw.close()
        raise


def ask(secure: ssl.SSLSocket, host: str, path: str = "/") -> tuple[int, bytes]:
    """A request on a connection, which stays open."""
    secure.sendall(f"GET {path} HTTP/1.1\r\nhost: {host}\r\n\r\n".encode())
    response = http.client.HTTPResponse(secure)
    response.begin()
    return response.status, response.read()


def status(port: int, name: str, context: ssl.SSLContext, host: str = "") -> int:
    """What a request for a host is answered in a connection for a name; 0 where there is no connection."""
    try:
        with connected(port, name, context) as secure:
            return ask(secure, host or name)[0]
    except OSError:
        return 0


def cipher_kind(port: int, name: str, context: ssl.SSLContext) -> str:
    """Of which kind the key is that the server shows."""
    with connected(port, name, context) as secure:
        certificate = x509.load_der_x509_certificate(secure.getpeercert(binary_form=True) or b"")
        return "rsa" if isinstance(certificate.public_key(), rsa.RSAPublicKey) else "ecdsa"
