"""The metrics of the whole platform: each part's page, read when somebody asks, merged to one."""

from __future__ import annotations

import http.client
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import anyio
import anyio.to_thread

from ondol.base import log, metrics
from ondol.base.unix_http import UnixConnection
from ondol.observe.metrics import merging

_TIMEOUT_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class Exposition:
    """Where a part shows its metrics: a Unix socket and the path to ask it for.

    One that `is_optional` is not missed while there is no socket.
    """

    socket: Path
    target: str = "/metrics"
    is_optional: bool = False

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
    return body.decode(errors="replace")
