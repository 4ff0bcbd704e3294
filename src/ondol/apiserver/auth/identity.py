"""`User`: the outcome of authentication, and the names and groups with a fixed meaning."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

from ondol.api.objects import Object, Resource

ANONYMOUS: Final = "system:anonymous"
AUTHENTICATED: Final = "system:authenticated"
UNAUTHENTICATED: Final = "system:unauthenticated"
MASTERS: Final = "system:masters"
NODES: Final = "system:nodes"
SERVICE_ACCOUNTS: Final = "system:serviceaccounts"
_SERVICE_ACCOUNT_PREFIX: Final = "system:serviceaccount:"

Lookup: TypeAlias = Callable[[Resource, str, str], Object | None]
"""The object of a resource by namespace and name as the server holds it now, or none."""


@dataclass(frozen=True, slots=True)
class User:
    """A caller: name, uid, groups and whatever the authenticator knows besides."""

    name: str
    groups: tuple[str, ...] = ()
    uid: str = ""
    extra: Mapping[str, tuple[str, ...]] = field(default_factory=dict, hash=False)

    @property
    def tenant(self) -> str:
        """On whose account the requests go where bounds are shared out.

        Who may make service accounts in a namespace has as many names as they like: they share one account.
        """
        return _tenant(self.name)

    def document(self) -> Object:
        """`UserInfo`, as reviews and admission webhooks show it."""
        document: Object = {"username": self.name}
        if self.uid:
            document["uid"] = self.uid
        if self.groups:
            document["groups"] = list(self.groups)
        if self.extra:
            document["extra"] = {key: list(values) for key, values in self.extra.items()}
        return document


@functools.lru_cache(maxsize=1024)
def _tenant(name: str) -> str:
    account = split_service_account(name)
    return name if account is None else f"{SERVICE_ACCOUNTS}:{account[0]}"


def anonymous() -> User:
    return User(ANONYMOUS, (UNAUTHENTICATED,))


def authenticated(user: User) -> User:
    """The user with the group every authenticated one belongs to."""
    if AUTHENTICATED in user.groups or UNAUTHENTICATED in user.groups:
        return user
    return dataclasses.replace(user, groups=(*user.groups, AUTHENTICATED))


def service_account_name(namespace: str, name: str) -> str:
    return f"{_SERVICE_ACCOUNT_PREFIX}{namespace}:{name}"


def service_account_groups(namespace: str) -> tuple[str, ...]:
    return (SERVICE_ACCOUNTS, f"{SERVICE_ACCOUNTS}:{namespace}")


def split_service_account(user_name: str) -> tuple[str, str] | None:
    """Namespace and name of a service account's user name, or none for any other user."""
    if not user_name.startswith(_SERVICE_ACCOUNT_PREFIX):
        return None
    namespace, separator, name = user_name.removeprefix(_SERVICE_ACCOUNT_PREFIX).partition(":")
    return (namespace, name) if separator and namespace and name and ":" not in name else None


def of_certificate(subject: Mapping[str, Any]) -> User:
    """The authenticated user of a verified certificate: `{"name", "groups"}`."""
    return _of_certificate(subject["name"], tuple(subject["groups"]))


@functools.lru_cache(maxsize=1024)
def _of_certificate(name: str, groups: tuple[str, ...]) -> User:
    return authenticated(User(name, groups))


def from_document(document: Mapping[str, object]) -> User:
    """A `User` from an identity given in process: `{"name", "groups", "uid", "extra"}`."""
    groups = document.get("groups") or ()
    extra = document.get("extra") or {}
    assert isinstance(groups, Iterable)  # noqa: S101 - the caller is our own code
    assert isinstance(extra, Mapping)  # noqa: S101 - likewise
    return User(
        str(document["name"]),
        tuple(str(group) for group in groups),
        str(document.get("uid") or ""),
        {str(key): tuple(values) for key, values in extra.items()},
    )
