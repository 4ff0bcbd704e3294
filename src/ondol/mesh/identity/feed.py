"""The authority out of Secrets, and certificates for whoever needs them now.

An administrator's own authority is the Secret `cacerts` of `istio-system` (`ca-cert.pem`, `ca-key.pem`,
`cert-chain.pem`, `root-cert.pem`); without it the mesh makes a root once, in `istio-ca-secret` there
(`ca-cert.pem`, `ca-key.pem`), when the first identity is needed. Both are Istio's names.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import Final

from ondol.api import objects, resources
from ondol.api.objects import Key, Object
from ondol.base import errors, log
from ondol.base.signal import Signal
from ondol.mesh.identity import authority
from ondol.mesh.identity.authority import Authority, Issued, Unusable
from ondol.mesh.identity.issuer import Issuer
from ondol.mesh.translate.reach import ISTIO_SYSTEM
from ondol.sdk import Manager

CACERTS: Final = Key(ISTIO_SYSTEM, "cacerts")
OWN: Final = Key(ISTIO_SYSTEM, "istio-ca-secret")
_TYPE: Final = "istio.io/ca-root"
_RETRY_S: Final = 0.5
_LOOK_S: Final = 60.0
"""A longest wait: a clock that is set does not wake who sleeps by another."""


class AuthorityFeed:
    """`certificates` at each translation; `run` makes the authority and renews what it issued."""

    def __init__(self, manager: Manager, changed: Callable[[], None]) -> None:
        self._manager = manager
        self._changed = changed
        self._issuer = Issuer()
        self._secrets = manager.informer(resources.SECRET, namespace=ISTIO_SYSTEM)
        self._secrets.add_handler(self._on_secret)
        self._news = Signal()
        self._trust_domain = ""
        """Of the authority to be made, once somebody needs one."""
        self._complaints: set[tuple[Key, str, str]] = set()
        self._log = log.get("mesh.identity")

    def certificates(self, identities: Iterable[str], trust_domain: str) -> Mapping[str, Issued]:
        """Of each; none while there is no authority, which is made then."""
        now = self._manager.clock.now()
        self._read()
        if not self._issuer.is_ready:
            self._trust_domain = trust_domain
            self._news.set()
        issued = self._issuer.certificates(identities, now)
        self._news.set()
        return issued

    def roots(self) -> bytes:
        """What the mesh trusts, PEM; empty without an authority."""
        return self._issuer.roots(self._manager.clock.now())

    def _on_secret(self, old: Object | None, new: Object | None) -> None:
        if any(obj is not None and objects.key(obj) in (CACERTS, OWN) for obj in (old, new)):
            self._changed()

    def _read(self) -> None:
        """Use the given authority, else the mesh's own; what cannot be used leaves the one before."""
        for key in (CACERTS, OWN):
            secret = self._secrets.lister.get(key)
            if secret is None:
                continue
            try:
                self._issuer.use(_authority(secret, self._manager.clock.now()))
            except Unusable as error:
                self._complain(secret, str(error))
                if self._issuer.is_ready:
                    return
                continue
            return

    def _complain(self, secret: Object, why: str) -> None:
        """Once of each state of a Secret."""
        complaint = (objects.key(secret), objects.resource_version(secret), why)
        if complaint not in self._complaints:
            self._complaints.add(complaint)
            self._log.error("authority_unusable", secret=str(complaint[0]), why=why)

    async def run(self) -> None:
        """Make the authority when it is needed first, and have what is issued renewed in time; for ever."""
        clock = self._manager.clock
        while True:
            self._news.clear()
            if self._trust_domain and not self._issuer.is_ready and self._secrets.lister.get(OWN) is None:
                await self._make(self._trust_domain)
            due = self._issuer.next_renewal()
            wait_s = _LOOK_S if due is None else min(max(due - clock.now(), 0.0), _LOOK_S)
            with clock.move_on_after(wait_s):
                await self._news.wait()
            if self._issuer.is_due(clock.now()):
                self._changed()
                await clock.sleep(_RETRY_S)

    async def _make(self, trust_domain: str) -> None:
        """Until it is there: the namespace may not be while the platform starts."""
        clock = self._manager.clock
        root = authority.new_root(trust_domain, clock.now())
        contents = {"ca-cert.pem": root.certificate, "ca-key.pem": root.key, "root-cert.pem": root.roots}
        secret = {
            "apiVersion": "v1",
            "kind": "Secret",
            "type": _TYPE,
            "metadata": {"name": OWN.name, "namespace": OWN.namespace},
            "data": {name: base64.b64encode(content).decode() for name, content in contents.items()},
        }
        while self._secrets.lister.get(OWN) is None and not self._issuer.is_ready:
            try:
                with suppress(errors.AlreadyExists):
                    await self._manager.client.create(resources.SECRET, secret, OWN.namespace)
                    self._log.info("authority_made", trust_domain=trust_domain)
            except errors.ApiError as error:
                self._log.info("authority_waits", why=error.message)
            await clock.sleep(_RETRY_S)
            self._read()
        self._read()
        self._changed()


def _authority(secret: Object, now: float) -> Authority:
    data = secret.get("data") or {}
    try:
        parts = {name: base64.b64decode(text, validate=True) for name, text in data.items()}
    except binascii.Error as error:
        raise Unusable("a value is not base64") from error
    for name in ("ca-cert.pem", "ca-key.pem"):
        if not parts.get(name):
            raise Unusable(f"it has no {name}")
    signer = authority.read(
        parts["ca-cert.pem"],
        parts["ca-key.pem"],
        parts.get("cert-chain.pem", b""),
        parts.get("root-cert.pem", b""),
    )
    if not signer.not_before <= now < signer.not_after:
        raise Unusable("the certificate has ended, or is not valid yet")
    return signer
