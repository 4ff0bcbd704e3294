"""Who is at the other end of a connection, by the certificate that the handshake has verified.

Users have theirs from the server's own authority. Holders of certificates of the authorities of proxies are
no users: they say in headers for whom they ask (`auth.request_headers`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple, Protocol

from cryptography import exceptions, x509

from ondol.apiserver.auth.authenticate import CERTIFICATE, PROXY

_NOBODY: Final[Mapping[str, Any]] = {}


class ProxyAuthority(NamedTuple):
    """Who signs the certificates of proxies: directly, for what came in between could be signed by others."""

    certificates: bytes
    """One or more, in PEM."""
    names: frozenset[str] = frozenset()
    """The common names of proxies that are believed; if empty, all are."""


def are_certificates(text: bytes) -> bool:
    """Whether a text has certificates in PEM."""
    try:
        return bool(x509.load_pem_x509_certificates(text))
    except ValueError:
        return False


class Transport(Protocol):
    def get_extra_info(self, name: str, default: Any = None) -> Any: ...


class Peers:
    """Tells users from proxies."""

    def __init__(self, authority: bytes, proxies: Sequence[ProxyAuthority] = ()) -> None:
        """`authority` signs the certificates of users (PEM)."""
        self._users = x509.load_pem_x509_certificates(authority) if proxies else []
        self._proxies = [(x509.load_pem_x509_certificates(each.certificates), each.names) for each in proxies]

    def scope(self, transport: Transport) -> Mapping[str, Any]:
        """What the scope of each request of a connection says of who asks."""
        certificate = transport.get_extra_info("peercert")
        if not certificate:
            return _NOBODY
        if not self._proxies:
            return _user(certificate)
        # Not by the name of who issued it: one below a proxies' authority can call itself as it likes.
        binary: bytes = transport.get_extra_info("ssl_object").getpeercert(binary_form=True)
        presented = x509.load_der_x509_certificate(binary)
        for authorities, names in self._proxies:
            if _is_issued(presented, authorities):
                return {PROXY: not names or _common_name(certificate) in names}
        return _user(certificate) if _is_issued(presented, self._users) else {PROXY: False}


def _user(certificate: Mapping[str, Any]) -> Mapping[str, Any]:
    user = subject(certificate)
    return {CERTIFICATE: user} if user is not None else _NOBODY


def subject(certificate: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    """Common name and organisations of a verified certificate: user and groups."""
    if not certificate:
        return None
    name = _common_name(certificate)
    if not name:
        return None
    groups = [value for key, value in _pairs(certificate) if key == "organizationName"]
    return {"name": name, "groups": groups}


def _common_name(certificate: Mapping[str, Any]) -> str:
    return next((value for key, value in _pairs(certificate) if key == "commonName"), "")


def _pairs(certificate: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [pair for relative in certificate.get("subject") or () for pair in relative]


def _is_issued(certificate: x509.Certificate, authorities: Iterable[x509.Certificate]) -> bool:
    return any(_is_issued_by(certificate, each) for each in authorities)


def _is_issued_by(certificate: x509.Certificate, authority: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(authority)
    except (ValueError, TypeError, exceptions.InvalidSignature):
        return False
    return True
