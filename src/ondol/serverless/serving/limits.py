"""How much time and concurrency a revision may ask for, by `config-defaults`; the words are Knative's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ondol.api.schema import causes
from ondol.base.errors import Cause
from ondol.serverless.serving.defaults import Defaults


def problems(spec: Mapping[str, Any], path: str, values: Defaults) -> Iterator[Cause]:
    """What is out of bounds, by the place where it stands; what a revision leaves out is not."""
    for field in ("timeoutSeconds", "responseStartTimeoutSeconds", "idleTimeoutSeconds"):
        yield from _outside(spec, path, field, 0, values.timeout_max_s)
    least = 0 if values.allow_zero_concurrency else 1
    yield from _outside(spec, path, "containerConcurrency", least, values.concurrency_max)


def _outside(spec: Mapping[str, Any], path: str, field: str, least: int, most: int) -> Iterator[Cause]:
    value = spec.get(field)
    if value is not None and not least <= int(value) <= most:
        yield causes.invalid(f"{path}.{field}", value, f"expected {least} <= {value} <= {most}")
