"""Values that stand for others: `{{ env:X }}`, `{{ secret:s:k }}`, `{{ configMap:c:k }}`. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from ondol.base import errors

_NAME: Final = r"(?:\w|['-]\w)+"
_LOCAL: Final = re.compile(r"\{\{\s*env:(\w+)\s*\}\}")
_KEYED: Final = re.compile(rf"\{{\{{\s*(secret|configMap):({_NAME}):([-._a-zA-Z0-9]+)\s*\}}\}}")
_WHOLE: Final = re.compile(rf"\{{\{{\s*(secret|configMap):({_NAME})\s*\}}\}}")


@dataclass(frozen=True, slots=True)
class Reference:
    """A key of a Secret or ConfigMap; all of its keys if none is named."""

    kind: str
    name: str
    key: str = ""


def is_template(value: str) -> bool:
    return value.startswith("{{")


def local(value: str) -> str | None:
    """The variable of this machine that a value stands for, None if it stands for none."""
    match = _LOCAL.fullmatch(value)
    return match[1] if match else None


def keyed(value: str) -> Reference | None:
    match = _KEYED.fullmatch(value)
    return Reference(match[1], match[2], match[3]) if match else None


def whole(value: str) -> Reference | None:
    match = _WHOLE.fullmatch(value)
    return Reference(match[1], match[2]) if match else None


def resolved(value: str, environment: Mapping[str, str]) -> str:
    """The value itself, or that of the variable of this machine that it stands for."""
    name = local(value)
    if name is None:
        return value
    if name not in environment:
        raise errors.HostError(
            f"func.yaml wants the environment variable {name}, which is not set", remedy=f"export {name}=…"
        )
    return environment[name]
