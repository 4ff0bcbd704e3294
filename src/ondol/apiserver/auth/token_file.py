"""Tokens of a file: `token,user,uid,"group1,group2"`, a line each, as of `--token-auth-file`."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence

from ondol.apiserver.auth import bearers
from ondol.apiserver.auth.identity import User
from ondol.base import errors, log

_LEAST_COLUMNS = 3
_REMEDY = 'write lines as token,user,uid,"group1,group2"'


class FileTokens:
    """Implements `Bearer`. A change of the file takes a restart, as in Kubernetes."""

    def __init__(self, text: str, audiences: Sequence[str]) -> None:
        """`audiences` are the server's own; `HostError` for a text that is no such file."""
        self._users = parse(text)
        self._audiences = tuple(audiences)

    def verify(self, token: str, audiences: Sequence[str] = ()) -> tuple[User, tuple[str, ...]] | None:
        user = self._users.get(token)
        return bearers.for_server(user, self._audiences, audiences) if user is not None else None


def parse(text: str) -> Mapping[str, User]:
    """The users by their tokens; the last of two equal tokens counts, and is told of.

    >>> parse('secret,ann,1,"team,ops"')["secret"].groups
    ('team', 'ops')
    """
    users: dict[str, User] = {}
    try:
        rows = list(csv.reader(text.splitlines(), skipinitialspace=True, strict=True))
    except csv.Error as error:
        raise errors.HostError(f"token_file: {error}", remedy=_REMEDY) from error
    for number, row in enumerate(rows, start=1):
        if not row or row[0].startswith("#"):
            continue
        if len(row) < _LEAST_COLUMNS:
            raise errors.HostError(f"token_file: row {number} has fewer than 3 columns", remedy=_REMEDY)
        token, name, uid = row[:_LEAST_COLUMNS]
        if not token or not name:
            log.get("apiserver").warning("token_file_row_ignored", row=number, reason="no token or no user")
            continue
        if token in users:
            log.get("apiserver").warning("token_file_row_repeated", row=number)
        groups = tuple(group.strip() for group in row[3].split(",") if group.strip()) if len(row) > 3 else ()
        users[token] = User(name, groups, uid)
    return users
