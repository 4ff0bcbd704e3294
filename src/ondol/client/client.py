"""The client: Kubernetes verbs over a `Transport`, documents in and documents out.

Everything that speaks to an API server uses it: controllers through their `sdk.Manager`, the node,
the mesh, the command line. A failed answer is raised as the `errors.ApiError` its Status names.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

import msgspec

from ondol.api import objects, status
from ondol.api.objects import Object, Resource
from ondol.base import errors
from ondol.base.clock import Clock, SystemClock
from ondol.client import discovery
from ondol.client.transport import (
    Call,
    ConnectionLost,
    Conversing,
    MessageSocket,
    Response,
    StreamResponse,
    Transport,
    warnings,
)
from ondol.client.watch import WatchEvent, WatchStream

_JSON: Final = "application/json"
_METADATA_ONLY: Final = "application/json;as={};g=meta.k8s.io;v=v1"


class PatchType(StrEnum):
    """The content types of the four patches."""

    JSON = "application/json-patch+json"
    MERGE = "application/merge-patch+json"
    STRATEGIC = "application/strategic-merge-patch+json"
    APPLY = "application/apply-patch+yaml"


@dataclass(frozen=True, slots=True)
class ObjectList:
    """One page of a list; `continue_token` is empty on the last."""

    items: list[Object]
    resource_version: str
    continue_token: str


class Client:
    """One verb a method. `field_manager` owns the fields this client writes, unless a call says otherwise.

    `on_warning` is called with each warning that comes with an answer; None ignores them.
    """

    def __init__(
        self,
        transport: Transport,
        *,
        field_manager: str = "ondol",
        user_agent: str = "ondol",
        clock: Clock | None = None,
    ) -> None:
        """`clock` measures the silence of watches; None for the machine's."""
        self.transport = transport
        self.clock: Clock = clock or SystemClock()
        self.field_manager = field_manager
        self.user_agent = user_agent
        self.on_warning: Callable[[str], None] | None = None
        self._discovered: dict[str, dict[str, Resource]] = {}
        self.undiscovered: tuple[str, ...] = ()
        """Group versions of which `describe` last heard that their servers do not answer."""

    async def aclose(self) -> None:
        await self.transport.aclose()

    async def get(
        self, resource: Resource, name: str, namespace: str = "", *, subresource: str = ""
    ) -> Object:
        return await self._call("GET", resource.path(namespace, name, subresource))

    async def read(self, path: str, *, query: Mapping[str, str] | None = None) -> Object:
        """The document at a path that is no object's, as a metric of the custom metrics API has."""
        return await self._call("GET", path, query=query)

    async def list(
        self,
        resource: Resource,
        namespace: str = "",
        *,
        label_selector: str = "",
        field_selector: str = "",
        limit: int = 0,
        continue_token: str = "",
        resource_version: str = "",
        metadata_only: bool = False,
    ) -> ObjectList:
        """One page; items carry `apiVersion` and `kind`, which servers leave out of lists."""
        query = _present(
            labelSelector=label_selector,
            fieldSelector=field_selector,
            limit=str(limit or ""),
            resourceVersion=resource_version,
            **{"continue": continue_token},
        )
        accept = _METADATA_ONLY.format("PartialObjectMetadataList") if metadata_only else _JSON
        answer = await self._call("GET", resource.path(namespace), query=query, accept=accept)
        metadata = answer.get("metadata") or {}
        items = [_typed(item, resource) for item in answer.get("items") or ()]
        return ObjectList(items, str(metadata.get("resourceVersion") or ""), metadata.get("continue") or "")

    @asynccontextmanager
    async def watch(
        self,
        resource: Resource,
        namespace: str = "",
        *,
        resource_version: str = "",
        label_selector: str = "",
        field_selector: str = "",
        bookmarks: bool = True,
        send_initial_events: bool = False,
        timeout_s: float | None = None,
        inactivity_s: float | None = None,
        metadata_only: bool = False,
    ) -> AsyncIterator[AsyncIterator[WatchEvent]]:
        """An open watch of the changes after `resource_version`; how to resume one stands in `client.watch`.

        `errors.Expired`, from the answer or the stream, means: list again. Without a version, and with
        `send_initial_events`, all objects come first, then a bookmark that `ends_initial_events`.

        `timeout_s` asks the server to end it; `inactivity_s` raises `errors.Timeout` after a
        silence, so choose it longer than the server's bookmark period.
        """
        query = _present(
            watch="true",
            resourceVersion=resource_version,
            labelSelector=label_selector,
            fieldSelector=field_selector,
            allowWatchBookmarks="true" if bookmarks else "",
            timeoutSeconds=str(int(timeout_s)) if timeout_s is not None else "",
            sendInitialEvents="true" if send_initial_events else "",
            resourceVersionMatch="NotOlderThan" if send_initial_events else "",
        )
        accept = _METADATA_ONLY.format("PartialObjectMetadata") if metadata_only else _JSON
        async with self.stream("GET", resource.path(namespace), query, accept) as answer:
            yield WatchStream(answer.chunks, self.clock, inactivity_s=inactivity_s)

    async def create(
        self,
        resource: Resource,
        obj: Object,
        namespace: str = "",
        *,
        subresource: str = "",
        name: str = "",
        dry_run: bool = False,
    ) -> Object:
        """POST; `name` with `subresource` addresses e.g. `pods/<name>/binding`."""
        path = resource.path(namespace or objects.namespace(obj), name, subresource)
        document = obj if subresource else _typed(obj, resource)
        return await self._call(
            "POST", path, query=self._write_query(dry_run=dry_run), body=_encode(document), content_type=_JSON
        )

    async def update(self, resource: Resource, obj: Object, *, subresource: str = "") -> Object:
        """PUT the whole document; its `resourceVersion`, if any, must be the current one."""
        path = resource.path(objects.namespace(obj), objects.name(obj), subresource)
        body = _encode(_typed(obj, resource) if subresource in ("", "status") else obj)
        return await self._call("PUT", path, query=self._write_query(), body=body, content_type=_JSON)

    async def patch(
        self,
        resource: Resource,
        name: str,
        namespace: str = "",
        *,
        patch: Any,
        patch_type: PatchType = PatchType.MERGE,
        subresource: str = "",
        field_manager: str = "",
        force: bool = False,
        dry_run: bool = False,
    ) -> Object:
        query = self._write_query(field_manager, dry_run=dry_run)
        if force:
            query["force"] = "true"
        return await self._call(
            "PATCH",
            resource.path(namespace, name, subresource),
            query=query,
            body=_encode(patch),
            content_type=patch_type.value,
        )

    async def apply(
        self,
        resource: Resource,
        obj: Object,
        *,
        subresource: str = "",
        field_manager: str = "",
        force: bool = True,
        dry_run: bool = False,
    ) -> Object:
        """Server-side apply: this field manager then owns exactly the fields of `obj`."""
        return await self.patch(
            resource,
            objects.name(obj),
            objects.namespace(obj),
            patch=_typed(obj, resource),
            patch_type=PatchType.APPLY,
            subresource=subresource,
            field_manager=field_manager,
            force=force,
            dry_run=dry_run,
        )

    async def delete(
        self,
        resource: Resource,
        name: str,
        namespace: str = "",
        *,
        propagation: str = "Background",
        grace_period_s: int | None = None,
        uid: str = "",
        resource_version: str = "",
    ) -> Object:
        """The object with its deletion timestamp, or a Status if it is deleted already."""
        options = _delete_options(propagation, grace_period_s, uid, resource_version)
        return await self._call(
            "DELETE", resource.path(namespace, name), body=_encode(options), content_type=_JSON
        )

    async def delete_collection(
        self,
        resource: Resource,
        namespace: str = "",
        *,
        label_selector: str = "",
        field_selector: str = "",
        propagation: str = "Background",
        grace_period_s: int | None = None,
    ) -> Object:
        query = _present(labelSelector=label_selector, fieldSelector=field_selector)
        options = _delete_options(propagation, grace_period_s, "", "")
        return await self._call(
            "DELETE", resource.path(namespace), query=query, body=_encode(options), content_type=_JSON
        )

    async def raw(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
    ) -> Response:
        """Any request as it is; failed statuses are returned, not raised."""
        sent = {**self._headers(_JSON), **(headers or {})}
        return await self._request(Call(method, path, query or {}, sent, body))

    @asynccontextmanager
    async def log(
        self,
        namespace: str,
        pod: str,
        *,
        container: str = "",
        follow: bool = False,
        previous: bool = False,
        tail_lines: int | None = None,
        since_s: int | None = None,
        timestamps: bool = False,
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """The log of a container as chunks of bytes."""
        query = _present(
            container=container,
            follow="true" if follow else "",
            previous="true" if previous else "",
            tailLines="" if tail_lines is None else str(tail_lines),
            sinceSeconds="" if since_s is None else str(since_s),
            timestamps="true" if timestamps else "",
        )
        path = f"/api/v1/namespaces/{namespace}/pods/{pod}/log"
        async with self.stream("GET", path, query, "*/*") as answer:
            yield answer.chunks

    @asynccontextmanager
    async def converse(
        self, path: str, query: Sequence[tuple[str, str]], protocol: str
    ) -> AsyncIterator[MessageSocket]:
        """A WebSocket to a subresource that is spoken with; `ApiError` if the server refuses it."""
        if not isinstance(self.transport, Conversing):
            raise errors.Unavailable("the server is not reached by a way that can be spoken through")
        async with contextlib.AsyncExitStack() as stack:
            try:
                socket = await stack.enter_async_context(self.transport.converse(path, query, protocol))
            except errors.ApiError:
                # The refusal of a WebSocket has no words: those of the same as a plain request are its
                # reason, unless that one got as far as being told that it is none.
                with contextlib.suppress(errors.BadRequest):
                    await self._call("GET", path, query=dict(query))
                raise
            yield socket

    async def discover(self) -> Sequence[Resource]:
        """Every resource the server serves, subresources left out."""
        return [described.resource for described in await self.describe()]

    async def describe(self) -> Sequence[discovery.Described]:
        """Every resource the server serves with the words that name it, preferred versions first."""
        described: list[discovery.Described] = []
        stale: list[str] = []
        for path in ("/api", "/apis"):
            answer = await self._call("GET", path, accept=discovery.ACCEPT)
            if answer.get("kind") == "APIGroupDiscoveryList":
                described += discovery.aggregated(answer)
                stale += discovery.stale(answer)
                continue
            for api_version in discovery.versions(answer):
                described += discovery.resource_list(await self._call("GET", discovery.path(api_version)))
        self.undiscovered = tuple(stale)
        for resource in (kind.resource for kind in described):
            self._discovered.setdefault(resource.api_version, {})[resource.kind] = resource
        return described

    async def resource_for(self, api_version: str, kind: str) -> Resource:
        """Where a kind is served; `errors.NotFound` when the server does not know it."""
        cached = self._discovered.get(api_version, {}).get(kind)
        if cached is not None:
            return cached
        missing = errors.NotFound(f'no kind "{kind}" is served in version "{api_version}"')
        try:
            answer = await self._call("GET", discovery.path(api_version))
        except errors.NotFound as error:
            raise missing from error
        served = {
            described.resource.kind: described.resource for described in discovery.resource_list(answer)
        }
        self._discovered[api_version] = served
        if kind not in served:
            raise missing
        return served[kind]

    def _headers(self, accept: str) -> dict[str, str]:
        return {"accept": accept, "user-agent": self.user_agent}

    def _write_query(self, field_manager: str = "", *, dry_run: bool = False) -> dict[str, str]:
        return _present(fieldManager=field_manager or self.field_manager, dryRun="All" if dry_run else "")

    async def _call(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: bytes | None = None,
        accept: str = _JSON,
        content_type: str = "",
    ) -> Object:
        headers = self._headers(accept)
        if content_type:
            headers["content-type"] = content_type
        response = await self._request(Call(method, path, query or {}, headers, body))
        if self.on_warning is not None:
            for text in warnings(response.headers):
                self.on_warning(text)
        _raise_for(response)
        return _decode(response.body)

    async def _request(self, call: Call) -> Response:
        try:
            return await self.transport.request(call)
        except ConnectionLost:
            if call.method != "GET":  # a lost write may have taken effect: only the caller can tell
                raise
            return await self.transport.request(call)

    @asynccontextmanager
    async def stream(
        self, method: str, path: str, query: Mapping[str, str], accept: str
    ) -> AsyncIterator[StreamResponse]:
        call = Call(method, path, query, self._headers(accept))
        async with self.transport.stream(call) as answer:
            if answer.status >= 400:
                body = b"".join([chunk async for chunk in answer.chunks])
                _raise_for(Response(answer.status, answer.headers, body))
            yield answer


def _present(**options: str) -> dict[str, str]:
    return {name: value for name, value in options.items() if value}


def _encode(document: Any) -> bytes:
    return msgspec.json.encode(document)


def _decode(body: bytes) -> Object:
    try:
        document: Object = msgspec.json.decode(body, type=dict[str, Any])
    except msgspec.DecodeError as error:
        raise errors.Internal(f"the server's answer is not a JSON document: {error}") from error
    return document


def _typed(obj: Object, resource: Resource) -> Object:
    if "kind" in obj and "apiVersion" in obj:
        return obj
    return {"apiVersion": resource.api_version, "kind": resource.kind, **obj}


def _delete_options(propagation: str, grace_period_s: int | None, uid: str, resource_version: str) -> Object:
    options: Object = {"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": propagation}
    if grace_period_s is not None:
        options["gracePeriodSeconds"] = grace_period_s
    preconditions = _present(uid=uid, resourceVersion=resource_version)
    if preconditions:
        options["preconditions"] = preconditions
    return options


def _raise_for(response: Response) -> None:
    if response.status < 400:
        return
    try:
        document = _decode(response.body)
    except errors.Internal:
        text = response.body[:500].decode(errors="replace").strip()
        document = {"message": text} if text else {}
    error = status.error_from(document, response.status)
    retry_after = response.headers.get("retry-after", "")
    if error.retry_after_s is None and retry_after.isdigit():
        error.retry_after_s = int(retry_after)
    raise error
