"""The one file the mesh keeps: objects that were refused, and the good versions that serve for them.

Without it a control plane that starts anew would send what Envoy refused before, and would not know
what to serve instead.
"""

from __future__ import annotations

import json
from pathlib import Path

import msgspec

from ondol.api.objects import Object
from ondol.base import files, log


def load(file: Path) -> list[Object]:
    """The records that were saved; none if there is no file or it cannot be read: they are learnt anew."""
    try:
        return msgspec.json.decode(file.read_bytes(), type=list[Object])
    except FileNotFoundError:
        return []
    except (OSError, msgspec.DecodeError) as error:
        log.get("mesh").warning("state_unreadable", file=str(file), why=str(error))
        return []


def save(file: Path, records: list[Object]) -> None:
    files.replace(file, json.dumps(records, indent=1).encode(), durable=False)
