"""One call of a webhook: where it is, and what comes back in time."""

from __future__ import annotations

import base64
import random
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlsplit

from ondol.api.objects import Object
from ondol.apiserver import documents
from ondol.apiserver.ports import HttpsTarget, Poster
from ondol.apiserver.service_endpoints import Address, Endpoints, NotReached
from ondol.apiserver.state import State
from ondol.base import errors
from ondol.base.clock import Clock

_PORT: Final = 443
_OK: Final = range(200, 300)
_SHOWN_MAX: Final = 512
FAILED: Final = "failed to call webhook"
"""How every reason begins."""


class CallFailed(errors.OndolError):
    """No answer came, or not one that means anything."""


class Caller:
    """Posts documents to the servers that a `clientConfig` names."""

    def __init__(self, state: State, poster: Poster, clock: Clock, rng: random.Random) -> None:
        self._state = state
        self._poster = poster
        self._clock = clock
        self._rng = rng

    async def post(self, config: Mapping[str, Any], document: Object, timeout_s: float) -> bytes:
        """The body of the answer; `CallFailed` with the reason if there is none in time."""
        target = self._target(config, timeout_s)
        try:
            with self._clock.fail_after(timeout_s):
                status, body = await self._poster.post(target, documents.dump(document))
        except TimeoutError:
            raise CallFailed(f'{FAILED}: Post "{target.url}": context deadline exceeded') from None
        except OSError as error:
            raise CallFailed(f'{FAILED}: Post "{target.url}": {errors.why(error)}') from error
        if status not in _OK:
            shown = body[:_SHOWN_MAX].decode(errors="replace").strip()
            reason = f": {shown}" if shown else ""
            raise CallFailed(f"{FAILED}: the server answered {status}{reason}")
        return body

    def _target(self, config: Mapping[str, Any], timeout_s: float) -> HttpsTarget:
        timeout = f"timeout={round(timeout_s)}s"
        authority = base64.b64decode(config["caBundle"]) if config.get("caBundle") else b""
        service = config.get("service")
        if not service:
            url = str(config.get("url") or "")
            return HttpsTarget(f"{url}{'&' if urlsplit(url).query else '?'}{timeout}", authority)
        namespace, name = str(service["namespace"]), str(service["name"])
        port, path = int(service.get("port") or _PORT), str(service.get("path") or "/")
        host = f"{name}.{namespace}.svc"
        address = self._address(namespace, name, port)
        return HttpsTarget(f"https://{host}:{port}{path}?{timeout}", authority, host, address)

    def _address(self, namespace: str, name: str, port: int) -> Address:
        try:
            return Endpoints(self._state, namespace, name).choose(port, self._rng.choice)
        except NotReached as error:
            raise CallFailed(f"{FAILED}: {error}") from error
