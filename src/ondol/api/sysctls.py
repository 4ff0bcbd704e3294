"""Names of kernel parameters as pods write them: their form, and the namespace the kernel keeps each in.

As in Kubernetes (component-helpers `node/util/sysctl`) and sysctl.d(5): parts are parted by dots or by
slashes, and whichever comes first parts them all; the other one belongs to a part (`net.ipv4.conf.eth0/100`).
"""

from __future__ import annotations

import re
from typing import Final, Literal, TypeAlias

Namespace: TypeAlias = Literal["net", "ipc"]

MAX_LENGTH: Final = 253
FORM: Final = r"([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?"
_NAME: Final = re.compile(FORM)
_PREFIXES: Final[tuple[tuple[str, Namespace], ...]] = (
    ("kernel.shm", "ipc"),
    ("kernel.msg", "ipc"),
    ("fs.mqueue.", "ipc"),
    ("net.", "net"),
)
_SWAPPED: Final = str.maketrans("./", "/.")


def is_valid(name: str) -> bool:
    return len(name) <= MAX_LENGTH and bool(_NAME.fullmatch(name))


def dotted(name: str) -> str:
    """The name parted by dots."""
    first = next((sign for sign in name if sign in "./"), ".")
    return name if first == "." else name.translate(_SWAPPED)


def path(name: str) -> str:
    """Where the kernel has a valid name below `/proc/sys`; it never leads out of there."""
    return dotted(name).translate(_SWAPPED)


def namespace(name: str) -> Namespace | None:
    """The namespace a name, or the beginning of one, is kept in; None when one value serves the machine."""
    plain = dotted(name)
    if plain == "kernel.sem":
        return "ipc"
    return next((kind for prefix, kind in _PREFIXES if plain.startswith(prefix)), None)


def is_pattern(text: str) -> bool:
    """Whether it is a name, or a beginning and `*`, of what the kernel keeps per namespace."""
    beginning = text.removesuffix("*")
    example = beginning + "x" if beginning != text else text
    return is_valid(example) and namespace(beginning) is not None
