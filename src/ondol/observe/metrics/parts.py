"""The metrics of the whole platform: each part's page, read when somebody asks, merged to one."""

from __future__ import annotations

import http.client
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Final

import anyio
import anyio.to_thread

from ondol.base import errors, log, metrics
from ondol.base.unix_http import UnixConnection
from ondol.observe.metrics import istio, merging

_TIMEOUT_S: Final = 5.0
PROXY: Final = "envoy"
"""The part that is the proxy."""


@dataclass(frozen=True, slots=True)
class Exposition:
    """Where a part shows its metrics: a Unix socket and the path to ask it for.

    One that `is_optional` is not missed while there is no socket.
    """

    socket: Path
    target: str = "/metrics"
    is_optional: bool = False
    leaves_out: str = ""
    """Families whose names begin so are not shown with the others."""

    @property
    def is_expected(self) -> bool:
        return not self.is_optional or self.socket.exists()


async def page(expositions: Mapping[str, Exposition], own: Mapping[str, str]) -> str:
    """The pages of all parts, and `own` ones, as one with a label `part`.

    The family `up` says of each part whether it answered (1) or not (0), as Prometheus does of what it asks.
    """
    expositions = {part: each for part, each in expositions.items() if each.is_expected}
    texts: dict[str, str | None] = dict.fromkeys(expositions)

    async def ask(part: str, exposition: Exposition) -> None:
        texts[part] = await anyio.to_thread.run_sync(partial(_text, part, exposition))

    async with anyio.create_task_group() as tasks:
        for part, exposition in expositions.items():
            tasks.start_soon(ask, part, exposition)
    pages = {part: text for part, text in texts.items() if text is not None}
    return _up({part: part in pages for part in expositions}) + merging.merge({**pages, **own})


def _up(answered: Mapping[str, bool]) -> str:
    samples = {(part,): float(has_answered) for part, has_answered in answered.items()}
    return metrics.text([metrics.gauge("up", "Whether the part answered.", samples, ["part"])]).decode()


async def counted(exposition: Exposition | None, version: str) -> str:
    """Istio's standard metrics, of a proxy; `Unavailable` if it does not answer."""
    text = None
    if exposition is not None:
        asked = replace(exposition, target=istio.COUNTED, leaves_out="")
        text = await anyio.to_thread.run_sync(partial(_text, PROXY, asked))
    if text is None:
        raise errors.Unavailable("the proxy does not answer", retry_after_s=1)
    return istio.page(text, version)


def _text(part: str, exposition: Exposition) -> str | None:
    """The part's page; None, and a word in the log, if it does not answer."""
    connection = UnixConnection(str(exposition.socket), timeout=_TIMEOUT_S)
    try:
        connection.request("GET", exposition.target)
        answer = connection.getresponse()
        body = answer.read()
    except (OSError, http.client.HTTPException) as error:
        log.get("observe").warning("metrics_unanswered", part=part, error=str(error))
        return None
    finally:
        connection.close()
    if answer.status != http.client.OK:
        log.get("observe").warning("metrics_unanswered", part=part, status=answer.status)
        return None
    text = body.decode(errors="replace")
    return _without(text, exposition.leaves_out) if exposition.leaves_out else text


def _without(text: str, prefix: str) -> str:
    begins = (prefix, f"# TYPE {prefix}", f"# HELP {prefix}")
    return "".join(line for line in text.splitlines(keepends=True) if not line.startswith(begins))
