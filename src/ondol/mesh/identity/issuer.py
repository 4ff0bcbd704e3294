"""What the authority has issued to whom, renewed in time. Keys of workloads are in memory alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from ondol.base import log
from ondol.mesh.identity import authority
from ondol.mesh.identity.authority import Authority, Issued

LIFETIME_S: Final = 24 * 3600.0
"""Istio's default for a workload's certificate."""
_BACK_S: Final = 60.0
"""So much before they were issued certificates are good; a clock set back further needs others."""
_RENEWED_AT: Final = 0.5
"""Of the lifetime: a new one is issued when so much of it is over."""

_log = log.get("mesh.identity")


class Issuer:
    """Gives every identity that is asked for its certificate: the same until it is time for another."""

    def __init__(self, *, lifetime_s: float = LIFETIME_S) -> None:
        self._lifetime_s = lifetime_s
        self._authority: Authority | None = None
        self._end = 0.0
        """Of the authority, in seconds since the epoch: nothing is issued from then on."""
        self._roots: dict[bytes, float] = {}
        """Every root that was trusted since this process began, with its end: peers change one by one."""
        self._issued: dict[str, Issued] = {}

    @property
    def is_ready(self) -> bool:
        """Whether there is an authority."""
        return self._authority is not None

    def use(self, signer: Authority) -> None:
        """Issue by this authority from now on, and everything anew if it is another than before."""
        if signer == self._authority:
            return
        if self._authority is not None:
            _log.info("authority_changed", until=signer.not_after)
        self._authority = signer
        self._end = signer.not_after
        self._issued.clear()
        for root in x509.load_pem_x509_certificates(signer.roots):
            pem = root.public_bytes(serialization.Encoding.PEM)
            self._roots[pem] = root.not_valid_after_utc.timestamp()

    def roots(self, now: float) -> bytes:
        """What is trusted: roots that are valid, also those of authorities before this one. PEM."""
        return b"".join(sorted(pem for pem, end in self._roots.items() if end > now))

    def certificates(self, identities: Iterable[str], now: float) -> Mapping[str, Issued]:
        """The certificate of each; who is not asked for any more is forgotten. None without an authority."""
        signer = self._authority
        if signer is None:
            return {}
        issued = self._issued
        self._issued = {}
        has_ended = now >= self._end
        for identity in dict.fromkeys(identities):
            current = issued.get(identity)
            if not has_ended and (current is None or self._is_due(current, now)):
                current = authority.issue(signer, identity, now, self._lifetime_s)
            if current is not None:
                self._issued[identity] = current
        return self._issued

    def next_renewal(self) -> float | None:
        """When the first of them is to be renewed, in seconds since the epoch; None for none."""
        return min((_due(each) for each in self._issued.values() if each.not_after < self._end), default=None)

    def is_due(self, now: float) -> bool:
        """Whether one of them is to be renewed."""
        return now < self._end and any(self._is_due(each, now) for each in self._issued.values())

    def _is_due(self, issued: Issued, now: float) -> bool:
        """By its age, unless it lives as long as its authority; or as the clock was set back before it."""
        return now < issued.not_before - _BACK_S or (now >= _due(issued) and issued.not_after < self._end)


def _due(issued: Issued) -> float:
    return issued.not_before + _RENEWED_AT * (issued.not_after - issued.not_before)
