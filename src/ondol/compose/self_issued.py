"""Servers whose certificate bears the name of its issuer: OpenSSL is shown whom it may trust (`issuance`).

Their certificate is fetched, held against the target's authority, and then trusted in its place, so that all
else about it, its time, its names and its use, is OpenSSL's to judge as ever. (Beside it does not do: of two
that have the name OpenSSL takes the first.) `https_poster` asks here when a connection has failed.
"""

from __future__ import annotations

import datetime as dt
import ssl
from collections.abc import Callable
from typing import Final
from urllib.parse import urlsplit

import anyio
from anyio.streams.tls import TLSAttribute

from ondol.apiserver import issuance
from ondol.apiserver.ports import HttpsTarget

_SELF_SIGNED: Final = 18
"""`X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT`."""
_HTTPS_PORT: Final = 443
_KEPT_MAX: Final = 64


def may_explain(error: OSError | None, *, is_kept: bool) -> bool:
    """Whether a failure may come of this: a certificate is taken for self-signed, or is not the known one."""
    return isinstance(error, ssl.SSLCertVerificationError) and (is_kept or error.verify_code == _SELF_SIGNED)


class SelfIssued:
    """Certificates that their targets' authorities have issued; kept until they are presented no more."""

    def __init__(self, now: Callable[[], dt.datetime] = lambda: dt.datetime.now(dt.UTC)) -> None:
        self._now = now
        self._kept: dict[tuple[bytes, str], tuple[bytes, dt.datetime]] = {}

    def trusting(self, target: HttpsTarget) -> HttpsTarget:
        """The target, with the certificate that it is known to present in the place of its authority."""
        pem, until = self._kept.get(_key(target), (b"", self._now()))
        if not pem or self._now() > until:
            return target
        return target._replace(authority=pem)

    async def learn(self, target: HttpsTarget) -> None:
        """Keep what a target presents if it is of its authority; `OSError` if the target is not there."""
        self._kept.pop(_key(target), None)
        certificate = await _presented(target)
        until = issuance.issued_until(certificate, target.authority, self._now())
        if until is None:
            return
        while len(self._kept) >= _KEPT_MAX:
            self._kept.pop(next(iter(self._kept)))
        self._kept[_key(target)] = (issuance.pem(certificate), until)


def _key(target: HttpsTarget) -> tuple[bytes, str]:
    return target.authority, _name(target)


def _name(target: HttpsTarget) -> str:
    return target.server_name or urlsplit(target.url).hostname or ""


async def _presented(target: HttpsTarget) -> bytes:
    """The certificate (DER) that is there now; nothing is sent to whoever has it."""
    place = urlsplit(target.url)
    host, port = target.address or (place.hostname or "", place.port or _HTTPS_PORT)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    async with await anyio.connect_tcp(
        host, port, ssl_context=context, tls_hostname=_name(target), tls_standard_compatible=False
    ) as stream:
        certificate = stream.extra(TLSAttribute.peer_certificate_binary)  # noqa: S610 - no Django
    if certificate is None:
        raise OSError("the server has no certificate")
    return certificate
