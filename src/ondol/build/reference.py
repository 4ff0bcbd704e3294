"""Image references as users write them, made full: `shop/cart` is `ondol.local/shop/cart:latest`.

A reference without a registry host names an image of this machine, so it is given the host
`ondol.local`; one without a tag is given `latest`. The full form is what the store keeps and what
a Pod's `image` names.
"""

from __future__ import annotations

import re
from typing import Final

from ondol.build.errors import BuildError

LOCAL_HOST: Final = "ondol.local"
DOCKER_HUB: Final = "docker.io"
_HOST: Final = re.compile(r"(?:localhost|[a-z0-9-]+(?:\.[a-z0-9-]+)+)(?::\d+)?|[a-z0-9-]+:\d+", re.IGNORECASE)
_PART: Final = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_PATH: Final = re.compile(rf"{_PART}(?:/{_PART})*")
_TAG: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_LENGTH_MAX: Final = 255


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


def _split_host(text: str) -> tuple[str, str]:
    first, slash, rest = text.partition("/")
    if slash and _HOST.fullmatch(first):
        return first.lower(), rest
    return LOCAL_HOST, text
