"""Names: the DNS rules objects obey, and stable names for children."""

from __future__ import annotations

import hashlib
import random
import re
from typing import Final

_DNS1123_LABEL: Final = re.compile(r"[a-z0-9](?:[-a-z0-9]*[a-z0-9])?")
_DNS1123_SUBDOMAIN: Final = re.compile(
    r"[a-z0-9](?:[-a-z0-9]*[a-z0-9])?(?:\.[a-z0-9](?:[-a-z0-9]*[a-z0-9])?)*"
)
_DNS1035_LABEL: Final = re.compile(r"[a-z](?:[-a-z0-9]*[a-z0-9])?")
# No vowels and no look-alike digits, so that no word and no doubt can arise.
_SUFFIX_ALPHABET: Final = "bcdfghjklmnpqrstvwxz2456789"
_GENERATED_PREFIX_MAX: Final = 58
_CHILD_NAME_MAX: Final = 63
_HASH_LENGTH: Final = 32


def is_dns1123_label(name: str) -> bool:
    """RFC 1123 label: at most 63 lower-case alphanumerics or `-`."""
    return len(name) <= 63 and _DNS1123_LABEL.fullmatch(name) is not None


def is_dns1123_subdomain(name: str) -> bool:
    """RFC 1123 subdomain: labels joined by dots, at most 253 characters."""
    return len(name) <= 253 and _DNS1123_SUBDOMAIN.fullmatch(name) is not None


def is_dns1035_label(name: str) -> bool:
    """RFC 1035 label: as RFC 1123, but it starts with a letter."""
    return len(name) <= 63 and _DNS1035_LABEL.fullmatch(name) is not None


def generate(prefix: str, rng: random.Random) -> str:
    """A name for `metadata.generateName`: the prefix, cut to 58, and five random characters."""
    return prefix[:_GENERATED_PREFIX_MAX] + random_suffix(rng, 5)


def random_suffix(rng: random.Random, length: int) -> str:
    return "".join(rng.choice(_SUFFIX_ALPHABET) for _ in range(length))


def safe_encode(number: int) -> str:
    """Spell a number in the suffix alphabet, as Kubernetes does for pod template hashes."""
    return "".join(_SUFFIX_ALPHABET[ord(c) % len(_SUFFIX_ALPHABET)] for c in str(number))


def stable_hash(data: bytes, length: int = 10) -> str:
    """A short hash in the suffix alphabet, equal for equal input on every machine."""
    digest = int.from_bytes(hashlib.sha256(data).digest()[:8])
    return safe_encode(digest)[:length]


def child_name(parent: str, suffix: str) -> str:
    """`parent + suffix`; when over 63 characters the parent is cut and hashed (knative `kmeta.ChildName`).

    A suffix too long to stand beside the hash is hashed with the parent, and as much of it as fits
    follows.
    """
    if len(parent) + len(suffix) <= _CHILD_NAME_MAX:
        return parent + suffix
    room = _CHILD_NAME_MAX - _HASH_LENGTH
    if len(suffix) < room:
        return parent[: room - len(suffix)] + _md5(parent) + suffix
    name = (parent[:room] + _md5(parent + suffix) + suffix)[:_CHILD_NAME_MAX]
    return re.sub(r"[^A-Za-z0-9]+\Z", "", name)


def _md5(text: str) -> str:
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()
