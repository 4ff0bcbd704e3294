"""One call of a webhook: where it is, and what comes back in time."""

from __future__ import annotations

import base64
import random
from collections.abc import Callable, Mapping
from typing import Any, Final
from urllib.parse import urlsplit

from ondol.api import objects, resources
from ondol.api.objects import Object
from ondol.apiserver import documents
from ondol.apiserver.ports import HttpsTarget, Poster
from ondol.apiserver.state import State
from ondol.base import errors
from ondol.base.clock import Clock

_PORT: Final = 443
_OK: Final = range(200, 300)
_SERVICE_NAME: Final = "kubernetes.io/service-name"
_SHOWN_MAX: Final = 512
FAILED: Final = "failed to call webhook"
"""How every reason begins."""

Address = tuple[str, int]
"""Host and port."""


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
        address = Endpoints(self._state, namespace, name).choose(port, self._rng.choice)
        return HttpsTarget(f"https://{host}:{port}{path}?{timeout}", authority, host, address)


class Endpoints:
    """The endpoints of a Service, as EndpointSlices show them: it need not have an address of its own."""

    def __init__(self, state: State, namespace: str, name: str) -> None:
        self._state = state
        self._namespace = namespace
        self._name = name

    def choose(
        self, port: int, choice: Callable[[list[tuple[str, int]]], tuple[str, int]]
    ) -> tuple[str, int]:
        """Address and port of one that is ready; `CallFailed` if there is none."""
        service = self._state.lookup(resources.SERVICE, self._namespace, self._name)
        if service is None:
            raise CallFailed(f'{FAILED}: service "{self._name}" not found')
        listed = objects.spec(service).get("ports") or ()
        named = next((each.get("name") or "" for each in listed if each["port"] == port), None)
        if named is None:
            raise CallFailed(f'{FAILED}: no service port {port} found for service "{self._name}"')
        ready = [
            (address, number)
            for endpoint_slice in self._state.list_objects(resources.ENDPOINT_SLICE, self._namespace)
            if objects.labels(endpoint_slice).get(_SERVICE_NAME) == self._name
            for number in _numbers(endpoint_slice, named)
            for endpoint in endpoint_slice.get("endpoints") or ()
            if (endpoint.get("conditions") or {}).get("ready") is not False
            for address in endpoint.get("addresses") or ()
        ]
        if not ready:
            raise CallFailed(f'{FAILED}: no endpoints available for service "{self._name}"')
        return choice(ready)


def _numbers(endpoint_slice: Object, name: str) -> list[int]:
    ports = endpoint_slice.get("ports") or ()
    return [int(each["port"]) for each in ports if (each.get("name") or "") == name and each.get("port")]
