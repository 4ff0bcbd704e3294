"""Edge: whom the API server believes as a client, and what it shows of itself."""

from __future__ import annotations

import functools
import ssl
from pathlib import Path
from typing import Final

from ondol.apiserver.ports import Trust

_CONTEXTS_MAX: Final = 64


@functools.lru_cache(_CONTEXTS_MAX)
def trusting(authority: bytes) -> ssl.SSLContext:
    """Trusts one authority, or the system's; kept, so that connections are found again."""
    return _trusting(authority)


def unverified() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def refusal(error: ssl.SSLCertVerificationError) -> str:
    """Why a certificate is not believed."""
    return f"certificate is not valid: {error.verify_message}"


class Showing:
    """Contexts by which this server shows a certificate of its own; one for each trust, and kept likewise."""

    def __init__(self, certificate: Path, key: Path) -> None:
        self._files = certificate, key
        self._contexts: dict[Trust, ssl.SSLContext] = {}

    def context(self, trust: Trust) -> ssl.SSLContext:
        """`OSError` if the authority is none."""
        context = self._contexts.get(trust)
        if context is None:
            context = _trusting(trust.authority) if trust.is_verified else unverified()
            context.load_cert_chain(*self._files)
            while len(self._contexts) >= _CONTEXTS_MAX:
                self._contexts.pop(next(iter(self._contexts)))
            self._contexts[trust] = context
        return context


def _trusting(authority: bytes) -> ssl.SSLContext:
    if not authority:
        return ssl.create_default_context()
    try:
        return ssl.create_default_context(cadata=authority.decode("ascii"))
    except (ssl.SSLError, ValueError) as error:
        raise OSError("caBundle has no certificate in PEM") from error
