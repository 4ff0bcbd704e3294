"""Which login a registry is shown: Docker's configuration documents, matched as the kubelet does. Pure.

Source: Kubernetes' `pkg/credentialprovider` (keyring and `config.json`), and the kinds of Secret
`kubernetes.io/dockerconfigjson` and `kubernetes.io/dockercfg`.
"""

from __future__ import annotations

import base64
import binascii
import fnmatch
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from ondol.build.reference import DOCKER_HUB

CONFIG_JSON: Final = ".dockerconfigjson"
CONFIG: Final = ".dockercfg"
_DEFAULT_KEY: Final = "index.docker.io"
_SCHEME: Final = re.compile(r"^https?://")


@dataclass(frozen=True, slots=True)
class Login:
    """One way to sign in: name and password, or a token that was given in their place."""

    username: str = ""
    password: str = field(default="", repr=False)
    identity_token: str = field(default="", repr=False)
    """Is exchanged for tokens of a scope."""

    @property
    def basic(self) -> str:
        """The header `Authorization` of name and password."""
        return "Basic " + base64.b64encode(f"{self.username}:{self.password}".encode()).decode()


Keyring = Sequence[tuple[str, Login]]
"""Logins by registry and path, the most particular first."""


def keyring(documents: Iterable[Mapping[str, Any]]) -> Keyring:
    """The logins of configuration documents, each `{"auths": {registry: entry}}` or bare entries."""
    logins = [
        (_key(str(place)), login)
        for document in documents
        for place, entry in _entries(document).items()
        if isinstance(entry, Mapping) and (login := _login(entry)) is not None
    ]
    return sorted(logins, key=lambda each: each[0], reverse=True)


def document(text: bytes, key: str) -> Mapping[str, Any]:
    """The configuration in a Secret's value; `ValueError` if it is none. `key` is its key in the Secret."""
    content = json.loads(text)
    if not isinstance(content, dict):
        raise ValueError("it is not a JSON object")  # noqa: TRY004 - as JSON that cannot be read
    return content if key == CONFIG_JSON else {"auths": content}


def lookup(logins: Keyring, name: str) -> list[Login]:
    """Those for an image's name (`host/path`), in the order in which they are tried."""
    matching = [login for key, login in logins if _is_match(key, name)]
    if not matching and name.partition("/")[0] in (DOCKER_HUB, _DEFAULT_KEY):
        matching = [login for key, login in logins if key.partition("/")[0] == _DEFAULT_KEY]
    return list(dict.fromkeys(matching))


def _entries(document: Mapping[str, Any]) -> Mapping[str, Any]:
    auths = document.get("auths")
    return auths if isinstance(auths, Mapping) else {}


def _login(entry: Mapping[str, Any]) -> Login | None:
    username, password = str(entry.get("username") or ""), str(entry.get("password") or "")
    if entry.get("auth"):
        try:
            pair = base64.b64decode(str(entry["auth"])).decode()
        except (binascii.Error, UnicodeDecodeError):
            return None
        username, _, password = pair.partition(":")
    identity_token = str(entry.get("identitytoken") or "")
    is_empty = not (username or password or identity_token)
    return None if is_empty else Login(username, password.rstrip("\0"), identity_token)


def _key(place: str) -> str:
    """`https://index.docker.io/v1/` is `index.docker.io`, `quay.io/org` itself."""
    host, slash, path = _SCHEME.sub("", place).partition("/")
    path = f"{slash}{path}"
    if path.startswith(("/v1/", "/v2/")):
        path = path[3:]
    return f"{host.lower()}{path}" if path != "/" else host.lower()


def _is_match(key: str, name: str) -> bool:
    """Parts of the host one by one, perhaps by pattern; the same port; the path from its beginning."""
    key_host, _, key_path = key.partition("/")
    host, _, path = name.partition("/")
    (key_domain, _, key_port), (domain, _, port) = key_host.partition(":"), host.partition(":")
    patterns, parts = key_domain.split("."), domain.split(".")
    return (
        key_port == port
        and len(patterns) == len(parts)
        and path.startswith(key_path)
        and all(fnmatch.fnmatchcase(part, pattern) for part, pattern in zip(parts, patterns, strict=True))
    )
