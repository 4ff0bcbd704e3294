"""Authentication: the `User` behind an ASGI scope.

The order is Kubernetes' own: an identity set in process, the user whom a proxy names that the edge knows,
the client certificate the edge verified, a bearer token, and else the anonymous user. Bad credentials are
refused, never taken for none.
Impersonation then lets a user who may act as another one.
"""

from __future__ import annotations

import urllib.parse
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from typing import Any, Final, TypeAlias

from ondol.apiserver.auth import identity, rbac, request_headers
from ondol.apiserver.auth.bearers import Bearers
from ondol.apiserver.auth.identity import User
from ondol.apiserver.auth.tokens import InvalidToken
from ondol.base import errors

IDENTITY: Final = "ondol.identity"
"""Scope key an in-process caller names itself by; the network edge never sets it."""
CERTIFICATE: Final = "ondol.certificate"
"""Scope key where the edge puts the user of a verified client certificate, or of the socket of this machine
that the connection came in by: `{"name", "groups"}`."""
PROXY: Final = "ondol.proxy"
"""Scope key where the edge says of a proxy's certificate whether the proxy is believed."""
_IMPERSONATE: Final = b"impersonate-"
_IMPERSONATE_EXTRA: Final = b"impersonate-extra-"

Authorize: TypeAlias = Callable[[User, rbac.Attributes], rbac.Decision]
Headers: TypeAlias = Iterable[tuple[bytes, bytes]]


class Authenticator:
    """Turns a request's credentials into a user; `Unauthorized` when they prove nothing."""

    def __init__(
        self,
        tokens: Bearers,
        *,
        anonymous: bool = True,
        paths: Container[str] | None = None,
        proxied: request_headers.Names = request_headers.STANDARD,
    ) -> None:
        """`anonymous`: whether there are such requests, and to which `paths`; to all if none are named.

        `proxied` are the headers in which proxies name users.
        """
        self._tokens = tokens
        self._anonymous = anonymous
        self._paths = paths
        self._proxied = request_headers.Reader(proxied)

    def authenticate(self, scope: Mapping[str, Any]) -> User:
        if in_process := scope.get(IDENTITY):
            return identity.authenticated(identity.from_document(in_process))
        if certificate := scope.get(CERTIFICATE):
            return identity.of_certificate(certificate)
        if PROXY in scope and (user := self._named(scope)) is not None:
            return identity.authenticated(user)
        authorization = _header(scope.get("headers") or (), b"authorization")
        if authorization:
            return self._bearer(authorization)
        if PROXY in scope:
            raise errors.Unauthorized("Unauthorized")
        if not self._anonymous or (self._paths is not None and scope["path"] not in self._paths):
            raise errors.Unauthorized("Unauthorized")
        return identity.anonymous()

    async def learn(self, scope: Mapping[str, Any]) -> bool:
        """Of a request that was refused: whether it may be asked again, since its token's key was fetched."""
        if scope.get(IDENTITY) or scope.get(CERTIFICATE):
            return False
        scheme, _, token = _header(scope.get("headers") or (), b"authorization").strip().partition(" ")
        return scheme.lower() == "bearer" and await self._tokens.learn(token.strip())

    def _named(self, scope: Mapping[str, Any]) -> User | None:
        """Whom a proxy asks for."""
        return self._proxied.user(scope.get("headers") or ()) if scope[PROXY] else None

    def _bearer(self, authorization: str) -> User:
        scheme, _, token = authorization.strip().partition(" ")
        token = token.strip()
        if scheme.lower() != "bearer" or not token:
            raise errors.Unauthorized("Unauthorized")
        try:
            user, _ = self._tokens.verify(token)
        except InvalidToken as error:
            # The caller learns no more than this; the reason goes to whoever logs the cause.
            raise errors.Unauthorized("Unauthorized") from error
        return user


def impersonated(user: User, headers: Headers, authorize: Authorize) -> User:
    """The user to act as: `user` itself without Impersonate-* headers, else whom they name.

    Each thing asked for (user, groups, uid, extra) needs RBAC's `impersonate` on it.
    """
    if not any(name.startswith(_IMPERSONATE) for name, _ in headers):
        return user
    impersonation = _Impersonation(headers)
    if not impersonation.any:
        return user
    if not impersonation.user:
        raise errors.BadRequest(
            "requested to impersonate groups, a uid or extra without impersonating a user"
        )
    for attributes in impersonation.attributes():
        decision = authorize(user, attributes)
        if not decision.allowed:
            raise rbac.forbidden(user, attributes, decision.reason)
    return impersonation.result()


class _Impersonation:
    """The Impersonate-* headers of one request, read."""

    def __init__(self, headers: Headers) -> None:
        self.user = self.uid = ""
        self.groups: list[str] = []
        self.extra: dict[str, list[str]] = {}
        for name, value in headers:
            if not name.startswith(_IMPERSONATE):
                continue
            text = value.decode("latin-1")
            if name == b"impersonate-user":
                self.user = self.user or text
            elif name == b"impersonate-group":
                self.groups.append(text)
            elif name == b"impersonate-uid":
                self.uid = self.uid or text
            elif name.startswith(_IMPERSONATE_EXTRA):
                key = urllib.parse.unquote(name.removeprefix(_IMPERSONATE_EXTRA).decode("latin-1"))
                self.extra.setdefault(key, []).append(text)

    @property
    def any(self) -> bool:
        return bool(self.user or self.uid or self.groups or self.extra)

    def attributes(self) -> Iterator[rbac.Attributes]:
        """What the caller must be allowed to `impersonate`, one by one."""
        account = identity.split_service_account(self.user)
        if account:
            yield rbac.Attributes(
                "impersonate", resource="serviceaccounts", namespace=account[0], name=account[1]
            )
        else:
            yield rbac.Attributes("impersonate", resource="users", name=self.user)
        for group in self.groups:
            yield rbac.Attributes("impersonate", resource="groups", name=group)
        for key, values in self.extra.items():
            for value in values:
                yield rbac.Attributes(
                    "impersonate",
                    group="authentication.k8s.io",
                    resource="userextras",
                    subresource=key,
                    name=value,
                )
        if self.uid:
            yield rbac.Attributes(
                "impersonate", group="authentication.k8s.io", resource="uids", name=self.uid
            )

    def result(self) -> User:
        account = identity.split_service_account(self.user)
        groups = tuple(self.groups) or (identity.service_account_groups(account[0]) if account else ())
        extra = {key: tuple(values) for key, values in self.extra.items()}
        if self.user == identity.ANONYMOUS:
            without = tuple(group for group in groups if group != identity.UNAUTHENTICATED)
            return User(self.user, (*without, identity.UNAUTHENTICATED), self.uid, extra)
        return identity.authenticated(User(self.user, groups, self.uid, extra))


def _header(headers: Headers, field: bytes) -> str:
    return next((value.decode("latin-1") for name, value in headers if name == field), "")
