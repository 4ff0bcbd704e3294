"""The certificate authority on disk: who the API server is and who its clients are.

`ensure` is called at every start and is idempotent: it creates what is missing, renews what is near
its end, begins only in the future (the clock was set back) or no longer fits, and leaves the rest.
Every file is written whole (temporary file, fsync, rename) with mode 0600. The API server reads the
serving certificate and the service-account key from here; compose puts the client certificates into
kubeconfig files.
"""

from __future__ import annotations

import base64
import datetime as dt
import ipaddress
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from cryptography import exceptions, x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from ondol.api.objects import Object
from ondol.base import clock as clocks
from ondol.base import errors, files, log

_log = log.get("pki")

CA_LIFETIME_S: Final = 10 * 365 * 86_400
LEAF_LIFETIME_S: Final = 365 * 86_400
RENEW_BEFORE_S: Final = 60 * 86_400
# Clocks of one machine and its containers may differ a little; a certificate starts in the past.
_SKEW_S: Final = 300
_COMMON_NAME_MAX: Final = 64
FRONT_PROXY: Final = "front-proxy-client"
"""The name by which the server shows itself to the API servers that it passes requests on to."""
_FILE_NAME: Final = re.compile(r"[A-Za-z0-9_.-]+")
SERVER_NAMES: Final = (
    "localhost",
    "kubernetes",
    "kubernetes.default",
    "kubernetes.default.svc",
    "kubernetes.default.svc.cluster.local",
)


@dataclass(frozen=True, slots=True)
class Client:
    """A client to be certified: `file_name` is where, `user` and `groups` are who."""

    file_name: str
    user: str
    groups: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Credential:
    """A certificate and its private key, both PEM."""

    certificate: bytes
    key: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Pki:
    """Where everything lies; the files exist once `ensure` has returned this."""

    directory: Path

    @property
    def ca_file(self) -> Path:
        return self.directory / "ca.crt"

    @property
    def ca_key_file(self) -> Path:
        return self.directory / "ca.key"

    @property
    def server_certificate_file(self) -> Path:
        return self.directory / "apiserver.crt"

    @property
    def server_key_file(self) -> Path:
        return self.directory / "apiserver.key"

    @property
    def front_proxy_ca_file(self) -> Path:
        """An authority of its own: who has a certificate of it may ask for anybody."""
        return self.directory / "front-proxy-ca.crt"

    @property
    def front_proxy_files(self) -> tuple[Path, Path]:
        """The certificate and key that the server shows to other API servers."""
        return self.directory / f"{FRONT_PROXY}.crt", self.directory / f"{FRONT_PROXY}.key"

    @property
    def service_account_key_file(self) -> Path:
        return self.directory / "sa.key"

    def client_files(self, file_name: str) -> tuple[Path, Path]:
        """The certificate and key files of a client."""
        return (
            self.directory / "clients" / f"{file_name}.crt",
            self.directory / "clients" / f"{file_name}.key",
        )

    def client(self, file_name: str) -> Credential:
        certificate, key = self.client_files(file_name)
        return Credential(certificate.read_bytes(), key.read_bytes())


def ensure(
    directory: Path,
    *,
    clock: clocks.Clock,
    names: Iterable[str] = (),
    addresses: Iterable[str] = (),
    clients: Iterable[Client] = (),
) -> Pki:
    """Make the directory hold a valid authority, serving certificate, signing key and clients.

    `names` and `addresses` are added to the serving certificate's own (`SERVER_NAMES`, 127.0.0.1).
    """
    pki = Pki(directory)
    now = clock.now()
    _private_directory(directory)
    _private_directory(directory / "clients")
    authority = _ensure_authority(pki.ca_file, pki.ca_key_file, "ondol-ca", now)
    _ensure_signing_key(pki.service_account_key_file)
    identity = _server_identity({*SERVER_NAMES, *names}, {"127.0.0.1", *addresses})
    _ensure_leaf(authority, pki.server_certificate_file, pki.server_key_file, identity, now)
    front_proxy_key = directory / "front-proxy-ca.key"
    front_proxy = _ensure_authority(pki.front_proxy_ca_file, front_proxy_key, "ondol-front-proxy-ca", now)
    _ensure_leaf(front_proxy, *pki.front_proxy_files, _client_identity(Client(FRONT_PROXY, FRONT_PROXY)), now)
    for client in clients:
        if not _FILE_NAME.fullmatch(client.file_name):
            raise ValueError(f"client file name {client.file_name!r} is not a plain file name")
        _ensure_leaf(authority, *pki.client_files(client.file_name), _client_identity(client), now)
    return pki


def ensure_server(
    directory: Path, name: str, hosts: Iterable[str], *, clock: clocks.Clock
) -> tuple[Path, Path]:
    """Certificate and key files of another server of the platform, for clients that trust its authority.

    `ensure` has been called. Renewed like the others when it is near its end; else nothing is written.
    """
    pki = Pki(directory)
    now = clock.now()
    servers = directory / "servers"
    _private_directory(servers)
    authority = _ensure_authority(pki.ca_file, pki.ca_key_file, "ondol-ca", now)
    certificate, key = servers / f"{name}.crt", servers / f"{name}.key"
    _ensure_leaf(authority, certificate, key, _server_identity(hosts, (), name), now)
    return certificate, key


@dataclass(frozen=True, slots=True)
class _Identity:
    """What a leaf certificate must say; anything else in its place is issued anew."""

    subject: x509.Name
    usage: x509.ObjectIdentifier
    alternative_names: tuple[x509.GeneralName, ...] = ()

    def fits(self, certificate: x509.Certificate) -> bool:
        return certificate.subject == self.subject and set(self.alternative_names) <= set(
            _alternative_names(certificate)
        )


@dataclass(frozen=True, slots=True)
class _Authority:
    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    def issue(self, identity: _Identity, public: ec.EllipticCurvePublicKey, now: float) -> bytes:
        builder = (
            _builder(identity.subject, self.certificate.subject, public, now, LEAF_LIFETIME_S)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(signs_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([identity.usage]), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), False)
        )
        if identity.alternative_names:
            names = x509.SubjectAlternativeName(identity.alternative_names)
            builder = builder.add_extension(names, critical=False)
        return _pem(builder.sign(self.key, hashes.SHA256()))

    def issued(self, certificate: x509.Certificate) -> bool:
        try:
            certificate.verify_directly_issued_by(self.certificate)
        except (ValueError, TypeError, exceptions.InvalidSignature):
            return False
        return True


def _ensure_authority(file: Path, key_file: Path, name: str, now: float) -> _Authority:
    """An authority on disk; near its end it is renewed with the same key, so leaves stay valid."""
    if file.exists() and not key_file.exists():
        raise errors.HostError(
            f"{key_file} is missing, so no certificate of {file} can be renewed",
            remedy=f"restore that file from a backup, or remove {file.parent} to start anew",
        )
    key = _ensure_key(key_file)
    certificate = _load_certificate(file)
    if certificate is None or _is_out_of_time(file, certificate, now, 2 * LEAF_LIFETIME_S):
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        usable = (
            _builder(subject, subject, key.public_key(), now, CA_LIFETIME_S)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_key_usage(signs_certificates=True), critical=True)
        )
        files.replace(file, _pem(usable.sign(key, hashes.SHA256())))
        certificate = _load_certificate(file)
    if certificate is None or not _belongs(certificate, key):
        raise errors.HostError(
            f"{file} was not made with {key_file}",
            remedy=f"restore both files from one backup, or remove {file.parent} to start anew",
        )
    return _Authority(certificate, key)


def _ensure_leaf(
    authority: _Authority, certificate_file: Path, key_file: Path, identity: _Identity, now: float
) -> None:
    key = _ensure_key(key_file)
    certificate = _load_certificate(certificate_file)
    usable = (
        certificate is not None
        and not _is_out_of_time(certificate_file, certificate, now, RENEW_BEFORE_S)
        and identity.fits(certificate)
        and _belongs(certificate, key)
        and authority.issued(certificate)
    )
    if not usable:
        files.replace(certificate_file, authority.issue(identity, key.public_key(), now))


def _ensure_signing_key(path: Path) -> None:
    _ensure_key(path)


def _ensure_key(path: Path) -> ec.EllipticCurvePrivateKey:
    if path.exists():
        path.chmod(0o600)
        try:
            loaded = serialization.load_pem_private_key(path.read_bytes(), password=None)
        except ValueError as error:
            raise errors.HostError(
                f"{path} is not a private key: {error}",
                remedy=f"restore {path} from a backup, or remove it to have a new one made",
            ) from error
        if not isinstance(loaded, ec.EllipticCurvePrivateKey):
            raise errors.HostError(f"{path} is not an elliptic-curve key", remedy=f"remove {path}")
        return loaded
    key = ec.generate_private_key(ec.SECP256R1())
    files.replace(
        path,
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ),
    )
    return key


def _server_identity(
    names: Iterable[str], addresses: Iterable[str], common_name: str = "kube-apiserver"
) -> _Identity:
    general: list[x509.GeneralName] = [x509.DNSName(name) for name in sorted(set(names)) if name]
    parsed = {ipaddress.ip_address(address) for address in addresses if address}
    general += [x509.IPAddress(address) for address in sorted(parsed, key=str)]
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    return _Identity(subject, ExtendedKeyUsageOID.SERVER_AUTH, tuple(general))


def _client_identity(client: Client) -> _Identity:
    if not 0 < len(client.user) <= _COMMON_NAME_MAX:
        raise ValueError(f"user name {client.user!r} must have 1 to {_COMMON_NAME_MAX} characters")
    attributes = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, group) for group in client.groups]
    subject = x509.Name([*attributes, x509.NameAttribute(NameOID.COMMON_NAME, client.user)])
    return _Identity(subject, ExtendedKeyUsageOID.CLIENT_AUTH)


def _alternative_names(certificate: x509.Certificate) -> Sequence[x509.GeneralName]:
    try:
        return tuple(certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value)
    except x509.ExtensionNotFound:
        return ()


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    public: ec.EllipticCurvePublicKey,
    now: float,
    lifetime_s: float,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(_moment(now - _SKEW_S))
        .not_valid_after(_moment(now + lifetime_s))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
    )


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _moment(timestamp: float) -> dt.datetime:
    return dt.datetime.fromtimestamp(int(timestamp), dt.UTC)


def _is_out_of_time(file: Path, certificate: x509.Certificate, now: float, left_s: float) -> bool:
    """Whether it has less time left than that, or its time has not come; the reason goes to the log.

    One from the future was made before the clock was set back. Nobody would believe it until then.
    """
    begins, ends = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if begins.timestamp() > now:
        _log.warning("certificate_from_the_future", file=str(file), begins=begins.isoformat())
        return True
    if ends.timestamp() - now < left_s:
        _log.info("certificate_near_its_end", file=str(file), ends=ends.isoformat())
        return True
    return False


def _belongs(certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> bool:
    """Whether certificate and key are a pair: a crash between two writes can leave them strangers."""
    return certificate.public_key() == key.public_key()


def _load_certificate(path: Path) -> x509.Certificate | None:
    """The certificate, or none when it is missing or unreadable and so must be issued anew."""
    if not path.exists():
        return None
    path.chmod(0o600)
    try:
        return x509.load_pem_x509_certificate(path.read_bytes())
    except ValueError:
        return None


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _private_directory(path: Path) -> None:
    path.mkdir(mode=0o700, parents=True, exist_ok=True)


def write_kubeconfig(path: Path, document: bytes) -> None:
    """Write a kubeconfig (or any secret document) atomically, readable by its owner alone.

    One that says the same already is left alone, so that a server starts again on a full disk.
    """
    if not path.exists() or path.read_bytes() != document:
        files.replace(path, document)


def kubeconfig(
    server: str, ca: bytes, credential: Credential, *, name: str = "ondol", namespace: str = "default"
) -> Object:
    """A kubeconfig document with everything embedded, so that it can be copied as one file."""
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {"name": name, "cluster": {"server": server, "certificate-authority-data": _base64(ca)}}
        ],
        "users": [
            {
                "name": name,
                "user": {
                    "client-certificate-data": _base64(credential.certificate),
                    "client-key-data": _base64(credential.key),
                },
            }
        ],
        "contexts": [{"name": name, "context": {"cluster": name, "user": name, "namespace": namespace}}],
        "current-context": name,
        "preferences": {},
    }


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode("ascii")
