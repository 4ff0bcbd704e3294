"""The accounts of an image of a package: the distribution's fixed ones, and the one its service runs as."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from ondol.build.archive import Tree
from ondol.build.debian.scripts import Accounts
from ondol.build.debian.units import Service

_FIXED: Final = {
    "root": 0,
    "daemon": 1,
    "bin": 2,
    "sys": 3,
    "games": 5,
    "man": 6,
    "lp": 7,
    "mail": 8,
    "news": 9,
    "uucp": 10,
    "proxy": 13,
    "www-data": 33,
    "backup": 34,
    "list": 38,
}
"""Accounts whose numbers are the same on every Debian. Source: base-passwd."""
_GROUPS: Final = {"adm": 4, "tty": 5, "disk": 6, "staff": 50, "users": 100}
_NOBODY: Final = 65534
_HOMELESS: Final = "/nonexistent"
_FIRST: Final = 101
"""The number of a service's own account: the first that a Debian gives by itself."""


@dataclass(frozen=True, slots=True)
class Account:
    uid: int
    gid: int
    home: str

    @property
    def folder(self) -> str:
        """Where its processes begin: at home, if it has one."""
        return self.home if self.uid and self.home != _HOMELESS else "/"


def add(
    content: Tree, service: Service, data_folders: Iterable[str], others: Accounts | None = None
) -> Account:
    """Write `/etc/passwd` and `/etc/group` and give accounts their folders; the account it runs as.

    `others` are those that a program may become by itself.
    """
    others = others or Accounts()
    users = {**_FIXED, "nobody": _NOBODY}
    groups = {**_FIXED, **_GROUPS, "nogroup": _NOBODY}
    if service.user and not service.user.isdigit():
        groups.setdefault(service.group, _FIRST)
        users.setdefault(service.user, _FIRST)
    for number, name in enumerate(sorted(others.names - users.keys()), start=_FIRST + 1):
        users[name] = number
        groups.setdefault(name, number)
    uid = int(service.user) if service.user.isdigit() else users[service.user or "root"]
    gid = int(service.group) if service.group.isdigit() else groups[service.group or "root"]
    own = [folder for folder, name in others.folders.items() if name == service.user]
    folders = sorted({*service.folders, *data_folders, *own})
    for folder in folders if uid else ():
        content.folder(folder, mode=0o750, owner=uid)
    for folder, name in sorted(others.folders.items()):
        if name in users and not (uid and folder in folders):
            content.folder(folder, mode=0o750, owner=users[name])
    home = _home(service, folders, uid)
    lines = [_line(name, number, service, gid, home) for name, number in users.items()]
    content.text("/etc/passwd", "".join(lines))
    content.text("/etc/group", "".join(f"{name}:x:{number}:\n" for name, number in groups.items()))
    return Account(uid, gid, home)


def _home(service: Service, folders: Iterable[str], uid: int) -> str:
    if not uid:
        return "/root"
    kept = [folder for folder in folders if folder.startswith("/var/lib/")]
    return kept[0] if kept else service.working_dir or _HOMELESS


def _line(name: str, number: int, service: Service, gid: int, home: str) -> str:
    if name == "root":
        return "root:x:0:0:root:/root:/bin/sh\n"
    if name == service.user:
        return f"{name}:x:{number}:{gid}:{name}:{home}:/usr/sbin/nologin\n"
    group = _NOBODY if name == "nobody" else number
    return f"{name}:x:{number}:{group}:{name}:{_HOMELESS}:/usr/sbin/nologin\n"
