"""Another API server for tests in process: what it says to each target, and what it was asked."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, Final

import anyio

from ondol.apiserver.ports import Destination, Forwarded

GROUP: Final = "wardle.example.com"
ROOT: Final = f"/apis/{GROUP}/v1"
SERVICES: Final = "/apis/apiregistration.k8s.io/v1/apiservices"
AGGREGATED: Final = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
Headers = Sequence[tuple[bytes, bytes]]


class Answer:
    """An answer; `pieces` that are errors break it, and a pause is for ever."""

    def __init__(self, body: Any = b"", status: int = 200, headers: Headers = ()) -> None:
        text = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.status = status
        self.headers = [(b"content-length", str(len(text)).encode()), *headers]
        self.pieces: list[bytes | OSError | None] = [text]

    async def chunks(self) -> AsyncIterator[bytes]:
        for piece in self.pieces:
            if piece is None:
                await anyio.sleep_forever()
            elif isinstance(piece, OSError):
                raise piece
            else:
                yield piece


class Elsewhere:
    """Implements `Forwarder` as one server that serves flunders."""

    def __init__(self) -> None:
        self.asked: list[tuple[Destination, Forwarded]] = []
        self.bodies: list[bytes | None] = []
        self.hangs_at = "nowhere"
        """The beginning of targets that get no answer."""
        self.fails: OSError | None = None
        self.upgraded: Callable[[], Any] | None = None
        verbs = ["create", "delete", "get", "list", "watch"]
        kind = {"group": GROUP, "version": "v1", "kind": "Flunder"}
        resource = {"resource": "flunders", "scope": "Namespaced", "responseKind": kind, "verbs": verbs}
        version = {"version": "v1", "resources": [resource], "freshness": "Current"}
        groups = {
            "kind": "APIGroupDiscoveryList",
            "apiVersion": "apidiscovery.k8s.io/v2",
            "items": [{"metadata": {"name": GROUP}, "versions": [version]}],
        }
        entry = {
            "name": "flunders",
            "kind": "Flunder",
            "namespaced": True,
            "verbs": verbs,
            "singularName": "f",
        }
        status = {**entry, "name": "flunders/status", "verbs": ["get"]}
        self.says: dict[str, Answer] = {
            "/apis": Answer(groups, headers=[(b"content-type", AGGREGATED.encode())]),
            ROOT: Answer({"kind": "APIResourceList", "resources": [entry, status]}),
            "/openapi/v3": Answer(
                {"paths": {ROOT[1:]: {"serverRelativeURL": f"/openapi/v3{ROOT}?hash=ABC"}}},
            ),
            f"/openapi/v3{ROOT}": Answer({"openapi": "3.0.0"}),
            "/openapi/v2": Answer(_openapi_v2()),
        }

    @contextlib.asynccontextmanager
    async def request(
        self, to: Destination, request: Forwarded, body: AsyncIterator[bytes] | None
    ) -> AsyncIterator[Answer]:
        self.asked.append((to, request))
        self.bodies.append(None if body is None else b"".join([piece async for piece in body]))
        if request.target.startswith(self.hangs_at):
            await anyio.sleep_forever()
        if self.fails is not None:
            raise self.fails
        missing = Answer({"kind": "Status", "code": 404}, 404)
        yield self.says.get(request.target) or self.says.get(request.target.partition("?")[0], missing)

    @contextlib.asynccontextmanager
    async def upgrade(self, to: Destination, request: Forwarded) -> AsyncIterator[Any]:
        self.asked.append((to, request))
        if self.upgraded is None:
            raise OSError("no upgrades here")
        yield self.upgraded()

    def header(self, name: str) -> list[bytes]:
        """Of the last request."""
        return [value for key, value in self.asked[-1][1].headers if key == name.encode()]


def _openapi_v2() -> Any:
    flunder = {"type": "object", "properties": {"meta": {"$ref": "#/definitions/Meta"}}}
    answer = {"200": {"description": "", "schema": {"$ref": "#/definitions/Flunder"}}}
    operation = {"get": {"operationId": "getFlunder", "responses": answer}}
    return {
        "swagger": "2.0",
        "info": {"title": "x", "version": "1"},
        "paths": {f"{ROOT}/flunders": operation, "/apis/other/v1/things": operation},
        "definitions": {"Flunder": flunder, "Meta": {"type": "string"}, "Unused": {"type": "string"}},
    }


def api_service(group: str = GROUP, version: str = "v1", **spec: Any) -> dict[str, Any]:
    own = {
        "group": group,
        "version": version,
        "groupPriorityMinimum": 100,
        "versionPriority": 10,
        "insecureSkipTLSVerify": True,
        "service": {"namespace": "default", "name": "wardle"},
    }
    return {"metadata": {"name": f"{version}.{group}"}, "spec": {**own, **spec}}


def endpoint_slice(*addresses: str, port: int = 8443) -> dict[str, Any]:
    return {
        "metadata": {"name": "wardle", "labels": {"kubernetes.io/service-name": "wardle"}},
        "addressType": "IPv4",
        "endpoints": [{"addresses": [each]} for each in addresses],
        "ports": [{"name": "https", "port": port}],
    }


async def register(api: Any, *addresses: str, port: int = 8443, **spec: Any) -> None:
    """The Service, its endpoints and the APIService; and time to look at them."""
    service = {"metadata": {"name": "wardle"}, "spec": {"ports": [{"name": "https", "port": 443}]}}
    assert (await api.post("/api/v1/namespaces/default/services", service)).status == 201
    slices = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices"
    created = await api.post(slices, endpoint_slice(*(addresses or ("10.1.0.5",)), port=port))
    assert created.status == 201, created.json
    assert (await api.post(SERVICES, api_service(**spec))).status == 201
    await api.settle()


async def condition(api: Any, name: str = f"v1.{GROUP}") -> tuple[str, str, str]:
    """What is said of an APIService's availability."""
    listed = (await api.get(f"{SERVICES}/{name}")).json.get("status", {}).get("conditions") or [{}]
    status, reason, message = (listed[0].get(key, "") for key in ("status", "reason", "message"))
    return status, reason, message
