"""Image references as users write them, made full: `shop/cart` is `ondol.local/shop/cart:latest`.

A reference without a registry host names an image of this machine, so it is given the host
`ondol.local`; one without a tag is given `latest`. The full form is what the store keeps and what
a Pod's `image` names.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from ondol.build.errors import BuildError

LOCAL_HOST: Final = "ondol.local"
DOCKER_HUB: Final = "docker.io"
_HOST: Final = re.compile(r"(?:localhost|[a-z0-9-]+(?:\.[a-z0-9-]+)+)(?::\d+)?|[a-z0-9-]+:\d+", re.IGNORECASE)
_PART: Final = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_PATH: Final = re.compile(rf"{_PART}(?:/{_PART})*")
_TAG: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}")
_LENGTH_MAX: Final = 255


@dataclass(frozen=True, slots=True)
class Reference:
    """An image of a registry: by its tag or, when there is one, by its digest alone."""

    host: str
    path: str
    tag: str
    digest: str = ""

    @property
    def name(self) -> str:
        return f"{self.host}/{self.path}"

    @property
    def target(self) -> str:
        """What a registry is asked for."""
        return self.digest or self.tag

    def __str__(self) -> str:
        return f"{self.name}@{self.digest}" if self.digest else f"{self.name}:{self.tag}"


def full(text: str) -> str:
    """The full reference; `BuildError` if the text is none (digests name no image to be made)."""
    host, path = _split_host(text.strip())
    path, _, tag = path.partition(":")
    tag = tag or "latest"
    if "@" in text or not _PATH.fullmatch(path) or not _TAG.fullmatch(tag) or len(path) > _LENGTH_MAX:
        raise BuildError(
            f"{text!r} is not an image reference",
            remedy="use lower-case words with an optional tag, as in shop/cart:v1",
        )
    return f"{host}/{path}:{tag}"


def of_docker(text: str) -> str:
    """The full reference of a name from Docker's world, where one without a host is of Docker Hub."""
    first, slash, _ = text.partition("/")
    if not slash:
        return full(f"{DOCKER_HUB}/library/{text}")
    return full(text if _HOST.fullmatch(first) else f"{DOCKER_HUB}/{text}")


def remote(text: str) -> Reference:
    """What a name from Docker's world leads to, perhaps by digest; `BuildError` if it is none."""
    named, at, digest = text.strip().partition("@")
    if at and not _DIGEST.fullmatch(digest):
        raise BuildError(f"{text!r} is not an image reference", remedy="digests are sha256: and 64 digits")
    host, _, rest = of_docker(named).partition("/")
    path, _, tag = rest.partition(":")
    return Reference(host, path, tag, digest)


def stored(text: str) -> str:
    """The name under which the store keeps an image: full, or with the digest that it was pulled by."""
    named, at, digest = text.partition("@")
    if not at:
        return full(text)
    if not _DIGEST.fullmatch(digest):
        raise BuildError(f"{text!r} is not an image reference", remedy="digests are sha256: and 64 digits")
    return f"{full(named).rpartition(':')[0]}@{digest}"


def _split_host(text: str) -> tuple[str, str]:
    first, slash, rest = text.partition("/")
    if slash and _HOST.fullmatch(first):
        return first.lower(), rest
    return LOCAL_HOST, text
