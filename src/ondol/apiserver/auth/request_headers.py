"""Callers named in headers: by an authenticating proxy to this server, and by this server to others.

Whoever sends them must be believed for who they are; that is told by their certificate (`peers`). Sources:
apiserver's `authentication/request/headerrequest`, client-go's `transport.SetAuthProxyHeaders`.
"""

from __future__ import annotations

import re
import urllib.parse
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from ondol.apiserver.auth.identity import User
from ondol.base import errors

_NAME_SAFE: Final = "!#$&'*+-.^_`|~"
"""What may stand in a header's name beside letters and digits; `%` itself is written as any other."""
_CONTROL: Final = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")

Pairs = Iterable[tuple[bytes, bytes]]


@dataclass(frozen=True, slots=True)
class Names:
    """Which headers name the caller."""

    user: tuple[str, ...] = ("X-Remote-User",)
    uid: tuple[str, ...] = ("X-Remote-Uid",)
    group: tuple[str, ...] = ("X-Remote-Group",)
    extra_prefix: tuple[str, ...] = ("X-Remote-Extra-",)


STANDARD: Final = Names()


class Reader:
    """Reads callers out of headers."""

    def __init__(self, names: Names = STANDARD) -> None:
        self._user, self._uid, self._group, self._extra = (
            [name.lower().encode("latin-1") for name in listed]
            for listed in (names.user, names.uid, names.group, names.extra_prefix)
        )

    def user(self, headers: Pairs) -> User | None:
        """The caller; None if no header names one, `Unauthorized` if one is no text."""
        listed = list(headers)
        name = _first(listed, self._user)
        if not name:
            return None
        groups = tuple(_text(v) for each in self._group for n, v in listed if n == each)
        return User(name, groups, _first(listed, self._uid), self._extras(listed))

    def _extras(self, headers: Pairs) -> dict[str, tuple[str, ...]]:
        extra: dict[str, tuple[str, ...]] = {}
        for name, value in headers:
            prefix = next((each for each in self._extra if name.startswith(each)), None)
            if prefix is not None:
                key = urllib.parse.unquote(name.removeprefix(prefix).decode("latin-1")).lower()
                extra[key] = (*extra.get(key, ()), _text(value))
        return extra


def _first(headers: Pairs, names: Iterable[bytes]) -> str:
    values = (value for each in names for name, value in headers if name == each and value)
    return _text(next(values, b""))


def _text(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise errors.Unauthorized("Unauthorized") from None


def of(user: User) -> list[tuple[bytes, bytes]]:
    """The headers that name a user to another server; `BadRequest` if a name cannot stand in one."""
    pairs = list(_named(user))
    if any(_CONTROL.search(value) for _, value in pairs):
        raise errors.BadRequest("the user's names have characters that no header can carry")
    return pairs


def _named(user: User) -> Iterator[tuple[bytes, bytes]]:
    yield b"x-remote-user", user.name.encode()
    if user.uid:
        yield b"x-remote-uid", user.uid.encode()
    for group in user.groups:
        yield b"x-remote-group", group.encode()
    for key, values in user.extra.items():
        name = b"x-remote-extra-" + urllib.parse.quote(key, safe=_NAME_SAFE).encode()
        for value in values:
            yield name, value.encode()
