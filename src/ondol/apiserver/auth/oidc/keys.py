"""The keys of one issuer: discovered, kept, and asked for again when a token names another.

While an issuer does not answer, its tokens are refused and nobody else waits.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import anyio
import jwt
import msgspec

from ondol.apiserver.auth.oidc.configuration import Issuer
from ondol.apiserver.ports import Getter, HttpsTarget
from ondol.base import log
from ondol.base.clock import Clock

ALGORITHMS: Final = ("RS256", "RS384", "RS512", "ES256", "ES384", "ES512", "PS256", "PS384", "PS512")
_DISCOVERY: Final = "/.well-known/openid-configuration"
_LIMIT_S: Final = 10.0
_PAUSE_S: Final = 10.0
_RENEW_S: Final = 3600.0
_OK: Final = 200


class Keys:
    """Of one issuer."""

    def __init__(self, issuer: Issuer, getter: Getter, clock: Clock) -> None:
        self._issuer = issuer
        self._getter = getter
        self._clock = clock
        self._by_id: dict[str, jwt.PyJWK] = {}
        self._asked_at = -_PAUSE_S
        self._asking = anyio.Lock()

    def find(self, key_id: str) -> list[jwt.PyJWK]:
        """The key of that name; all of them for a token that names none."""
        if not key_id:
            return list(self._by_id.values())
        return [self._by_id[key_id]] if key_id in self._by_id else []

    async def learn(self, key_id: str) -> bool:
        """Ask for the keys, at most once in ten seconds; whether that key is there then."""
        async with self._asking:
            if not self.find(key_id) and self._clock.monotonic() >= self._asked_at + _PAUSE_S:
                await self.refresh()
        return bool(self.find(key_id))

    async def run(self) -> None:
        """Have them before the first token, and forget those that were withdrawn, for ever."""
        while True:
            async with self._asking:
                await self.refresh()
            await self._clock.sleep(_RENEW_S if self._by_id else _PAUSE_S)

    async def refresh(self) -> None:
        self._asked_at = self._clock.monotonic()
        try:
            with self._clock.fail_after(_LIMIT_S):
                document = await self._get(
                    self._issuer.discovery_url or self._issuer.url.rstrip("/") + _DISCOVERY
                )
                self._by_id = _keys(await self._get(self._place(document)))
        except (OSError, ValueError, msgspec.DecodeError) as error:  # TimeoutError is an OSError
            _log = log.get("apiserver")
            _log.warning("issuer_not_reached", issuer=self._issuer.url, error=str(error) or "timed out")

    def _place(self, document: Mapping[str, Any]) -> str:
        """Where the keys are, if the issuer is who it should be."""
        if document.get("issuer") != self._issuer.url:
            raise ValueError(f"issuer did not match: it says {document.get('issuer')!r}")
        place = document.get("jwks_uri")
        if not isinstance(place, str) or not place.startswith("https://"):
            raise ValueError("jwks_uri is no https URL")
        return place

    async def _get(self, url: str) -> Mapping[str, Any]:
        target = HttpsTarget(url, self._issuer.certificate_authority.encode())
        status, body = await self._getter.get(target)
        document = msgspec.json.decode(body) if status == _OK else None
        if not isinstance(document, dict):
            raise OSError(f"{url} answered {status}")
        return document


def _keys(document: Mapping[str, Any]) -> dict[str, jwt.PyJWK]:
    """By their names; what is no key to verify with is passed over, as other kinds are added over time."""
    keys: dict[str, jwt.PyJWK] = {}
    for each in document.get("keys") or ():
        if each.get("use", "sig") == "sig" and each.get("kty") in ("RSA", "EC"):
            try:
                keys[str(each.get("kid") or len(keys))] = jwt.PyJWK(each)
            except jwt.PyJWTError as error:
                log.get("apiserver").warning("issuer_key_not_read", error=str(error))
    if not keys:
        raise ValueError("it has no keys")
    return keys
