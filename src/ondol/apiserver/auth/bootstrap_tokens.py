"""Bootstrap tokens: Secrets by which a machine signs in before it has a certificate.

Follows `plugin/pkg/auth/authenticator/token/bootstrap`. Removing the Secret takes the token back at once.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import re
from collections.abc import Mapping, Sequence
from typing import Final

from ondol.api import objects, resources
from ondol.api.objects import Object
from ondol.apiserver.auth import bearers
from ondol.apiserver.auth.identity import Lookup, User
from ondol.apiserver.auth.tokens import InvalidToken
from ondol.base import clock as clocks

NAMESPACE: Final = "kube-system"
SECRET_TYPE: Final = "bootstrap.kubernetes.io/token"  # noqa: S105 - the name of a type
GROUP: Final = "system:bootstrappers"
_USER: Final = "system:bootstrap:"
_TOKEN: Final = re.compile(r"([a-z0-9]{6})\.([a-z0-9]{16})")
_EXTRA_GROUP: Final = re.compile(r"system:bootstrappers:[a-z0-9:-]{0,255}[a-z0-9]")


class BootstrapTokens:
    """Implements `Bearer` over the Secrets of the server."""

    def __init__(self, lookup: Lookup, clock: clocks.Clock, audiences: Sequence[str]) -> None:
        self._lookup = lookup
        self._clock = clock
        self._audiences = tuple(audiences)

    def verify(self, token: str, audiences: Sequence[str] = ()) -> tuple[User, tuple[str, ...]] | None:
        match = _TOKEN.fullmatch(token)
        secret = self._lookup(resources.SECRET, NAMESPACE, f"bootstrap-token-{match[1]}") if match else None
        if match is None or secret is None:
            return None
        if reason := refusal(secret, match[1], match[2], self._clock.now()):
            raise InvalidToken(f"bootstrap token {match[1]} {reason}")
        return bearers.for_server(user(secret, match[1]), self._audiences, audiences)


def refusal(secret: Object, token_id: str, token_secret: str, now: float) -> str:
    """Why a Secret does not make a token good; empty if it does."""
    data = _data(secret)
    if objects.is_deleting(secret):
        return "is deleted and awaiting removal"
    if secret.get("type") != SECRET_TYPE:
        return f"has invalid type, expected {SECRET_TYPE}"
    if not hmac.compare_digest(data.get("token-secret", "").encode(), token_secret.encode()):
        return "has invalid value for key token-secret"
    if data.get("token-id") != token_id:
        return "has invalid value for key token-id"
    if _has_expired(data.get("expiration", ""), now):
        return "has expired"
    if data.get("usage-bootstrap-authentication") != "true":
        return "is not marked usage-bootstrap-authentication=true"
    wrong = [group for group in _extra_groups(data) if not _EXTRA_GROUP.fullmatch(group)]
    return f"has an invalid group {wrong[0]!r} for key auth-extra-groups" if wrong else ""


def user(secret: Object, token_id: str) -> User:
    """Who signs in by it."""
    return User(f"{_USER}{token_id}", tuple(sorted({GROUP, *_extra_groups(_data(secret))})))


def _extra_groups(data: Mapping[str, str]) -> list[str]:
    listed = data.get("auth-extra-groups", "")
    return listed.split(",") if listed else []


def _has_expired(expiration: str, now: float) -> bool:
    """A time that cannot be read is past."""
    if not expiration:
        return False
    try:
        return clocks.parse_rfc3339(expiration) <= now
    except ValueError:
        return True


def _data(secret: Object) -> Mapping[str, str]:
    read: dict[str, str] = {}
    for key, value in (secret.get("data") or {}).items():
        try:
            read[key] = base64.b64decode(value).decode()
        except (binascii.Error, UnicodeDecodeError):
            continue
    return read
