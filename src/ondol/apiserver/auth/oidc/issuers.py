"""Tokens of the issuers of a configuration: verified by their keys, mapped by their rules."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import jwt

from ondol.apiserver.auth import bearers
from ondol.apiserver.auth.identity import User
from ondol.apiserver.auth.oidc.configuration import Configuration, Jwt
from ondol.apiserver.auth.oidc.keys import ALGORITHMS, Keys
from ondol.apiserver.auth.oidc.mapping import Mapper
from ondol.apiserver.auth.tokens import InvalidToken
from ondol.apiserver.ports import Getter
from ondol.base.clock import Clock

if TYPE_CHECKING:
    from jwt.types import Options

_CACHED_MAX: Final = 1024
_EARLY_S: Final = 300.0
_BELIEVED_S: Final = 10.0
"""A token is verified anew after so long, as in Kubernetes: its key may have been withdrawn."""
# Times are judged by the server's own clock, audiences by the configuration.
_OPTIONS: Final[Options] = {
    "verify_exp": False,
    "verify_nbf": False,
    "verify_iat": False,
    "verify_aud": False,
    "require": ["exp", "iss", "aud"],
}


class Issuers:
    """Implements `Bearer`."""

    def __init__(
        self, configuration: Configuration, getter: Getter, clock: Clock, audiences: Sequence[str]
    ) -> None:
        """`audiences` are the server's own."""
        self._audiences = tuple(audiences)
        self._clock = clock
        self._by_url = {
            each.issuer.url: _Issuer(each, mapper, Keys(each.issuer, getter, clock))
            for each, mapper in configuration.issuers
        }
        self._strangers: set[str] = set()
        self._verified: dict[str, tuple[Mapping[str, Any], User, float]] = {}
        """With the monotonic time until which each is believed."""

    @property
    def tasks(self) -> list[Callable[[], Coroutine[Any, Any, None]]]:
        return [issuer.keys.run for issuer in self._by_url.values()]

    def verify(self, token: str, audiences: Sequence[str] = ()) -> tuple[User, tuple[str, ...]] | None:
        remembered = self._verified.get(token)
        if remembered is None or self._clock.monotonic() >= remembered[2]:
            self._verified.pop(token, None)
            issuer, key_id = (None, "") if token in self._strangers else self._of(token)
            if issuer is None:
                self._remember_stranger(token)
                return None
            remembered = self._decoded(issuer, token, key_id)
        claims, user, _ = remembered
        now = self._clock.now()
        if now >= float(claims["exp"]):
            self._verified.pop(token, None)
            raise InvalidToken("oidc: verify token: token is expired")
        if now + _EARLY_S < float(claims.get("nbf") or 0):
            raise InvalidToken("oidc: verify token: token is not valid yet")
        return bearers.for_server(user, self._audiences, audiences)

    async def learn(self, token: str) -> bool:
        """Whether asking the issuer has found the key of a token that was not there."""
        issuer, key_id = self._of(token)
        return issuer is not None and not issuer.keys.find(key_id) and await issuer.keys.learn(key_id)

    def _remember_stranger(self, token: str) -> None:
        """Service accounts come again and again with theirs, which need not be read each time."""
        if len(self._strangers) >= _CACHED_MAX:
            self._strangers.clear()
        self._strangers.add(token)

    def _of(self, token: str) -> tuple[_Issuer | None, str]:
        """Whose token it says it is, and by which key; nobody's if it is none."""
        try:
            claims = jwt.decode(token, options={"verify_signature": False})
            key_id = jwt.get_unverified_header(token).get("kid")
        except jwt.InvalidTokenError:
            return None, ""
        url = claims.get("iss")
        return self._by_url.get(url) if isinstance(url, str) else None, str(key_id or "")

    def _decoded(self, issuer: _Issuer, token: str, key_id: str) -> tuple[Mapping[str, Any], User, float]:
        claims = _claims(issuer.keys.find(key_id), token)
        stated = claims["aud"] if isinstance(claims["aud"], list) else [claims["aud"]]
        if not set(stated) & set(issuer.jwt.issuer.audiences):
            raise InvalidToken(f"oidc: expected audience in {list(issuer.jwt.issuer.audiences)} got {stated}")
        user = issuer.mapper.user(claims)
        if len(self._verified) >= _CACHED_MAX:
            self._verified.clear()
        believed = claims, user, self._clock.monotonic() + _BELIEVED_S
        self._verified[token] = believed
        return believed


class _Issuer:
    """One issuer of the configuration."""

    def __init__(self, configured: Jwt, mapper: Mapper, keys: Keys) -> None:
        self.jwt = configured
        self.mapper = mapper
        self.keys = keys


def _claims(keys: Sequence[jwt.PyJWK], token: str) -> Mapping[str, Any]:
    """What is signed by one of the keys."""
    reason = "no key of the issuer fits"
    for key in keys:
        try:
            claims: Mapping[str, Any] = jwt.decode(
                token,
                key.key,
                algorithms=list(ALGORITHMS),
                options=_OPTIONS,
            )
        except jwt.PyJWTError as error:
            reason = str(error)
        else:
            return claims
    raise InvalidToken(f"oidc: verify token: {reason}")
