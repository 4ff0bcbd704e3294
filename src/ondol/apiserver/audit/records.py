"""One record of the audit log, as far as a request is known when it is made, and the line that it becomes."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from ondol.api.objects import Object
from ondol.apiserver import bodies
from ondol.apiserver.audit import policy
from ondol.apiserver.exchange import Headers, Request
from ondol.base import errors, timestamps

_AGENT_MAX: Final = 1024
_PATCHES: Final = "patch+json"
_STATUS: Final = ("status", "message", "reason", "details", "code")


@dataclass(frozen=True, slots=True)
class Body:
    """A body as it was sent."""

    content: bytes
    media_type: str


@dataclass(frozen=True, slots=True)
class Record:
    """A document without bodies, and the bodies; they are read only where the line is written."""

    document: Object
    config: policy.Config
    request: Body | None = None
    response: Body | None = None

    @property
    def size_bytes(self) -> int:
        return 1024 + sum(len(body.content) for body in (self.request, self.response) if body is not None)

    def line(self) -> bytes:
        document = dict(self.document)
        for field, body in (("requestObject", self.request), ("responseObject", self.response)):
            if body is not None and (value := _value(body)) is not None:
                omits = self.config.omits_managed_fields
                document[field] = policy.without_managed_fields(value) if omits else value
        return msgspec.json.encode(document) + b"\n"


def _value(body: Body) -> Any:
    """What a body says; None if it says nothing that can be read."""
    kind = body.media_type
    media_type = bodies.JSON if kind.endswith(_PATCHES) else kind
    if kind.endswith("apply-patch+yaml"):
        media_type = bodies.YAML
    try:
        return bodies.parse(body.content, media_type)
    except errors.OndolError:
        return None


def of_request(request: Request, audit_id: str, received: float) -> Object:
    """What is known of a request before anybody looks at it."""
    info = request.info
    query = request.scope.get("query_string") or b""
    path = request.scope.get("raw_path") or request.scope["path"].encode()
    document: Object = {
        "kind": "Event",
        "apiVersion": "audit.k8s.io/v1",
        "auditID": audit_id,
        "requestURI": (path + (b"?" + query if query and b"?" not in path else b"")).decode("latin-1"),
        "verb": info.verb,
        "user": {},
        "sourceIPs": source_addresses(request.scope),
        "requestReceivedTimestamp": timestamps.rfc3339_micro(received),
    }
    if agent := request.user_agent:
        cut = f"{agent[:_AGENT_MAX]}...TRUNCATED"
        document["userAgent"] = agent if len(agent) <= _AGENT_MAX else cut
    if info.resource:
        reference = {
            "resource": info.resource,
            "namespace": info.namespace,
            "name": info.name,
            "apiGroup": info.group,
            "apiVersion": info.version,
            "subresource": info.subresource,
        }
        document["objectRef"] = {key: value for key, value in reference.items() if value}
    return document


def response_status(code: int, body: bytes, reason: str = "") -> Object:
    """`responseStatus`: all of a `Status`, the code of anything else."""
    short: Object = {"metadata": {}, "code": code, **({"message": reason} if reason else {})}
    if code < 400 or not body:
        return short
    try:
        status = msgspec.json.decode(body)
    except msgspec.DecodeError:
        return short
    if not isinstance(status, Mapping) or status.get("kind") != "Status":
        return short
    return {"metadata": {}, **{field: status[field] for field in _STATUS if field in status}}


def source_addresses(scope: Mapping[str, Any]) -> list[str]:
    """Who it was passed on by, as they say, and where it came from, in this order."""
    headers: Headers = scope["headers"]
    forwarded = [value for name, value in headers if name == b"x-forwarded-for"]
    real = [value for name, value in headers if name == b"x-real-ip"]
    texts = [part for value in forwarded[:1] for part in value.decode("latin-1").split(",")]
    claimed = list(_addresses([*texts, *(value.decode("latin-1") for value in real[:1])]))
    client = scope.get("client")
    if client and (not claimed or claimed[-1] != client[0]):
        claimed += _addresses([str(client[0])])
    return list(dict.fromkeys(claimed))


def _addresses(texts: list[str]) -> Iterator[str]:
    for text in texts:
        try:
            yield str(ipaddress.ip_address(text.strip()))
        except ValueError:
            continue
