"""Requests that no client of good will sends: seeded, so that each can be made again from its number."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ondol.api import protobuf
from ondol.api.objects import Object
from ondol.base import errors

LABELS = {"app": "x"}
POD_SPEC: Object = {
    "containers": [
        {
            "name": "c",
            "image": "i",
            "env": [{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}],
            "ports": [{"containerPort": 80, "name": "http"}],
            "resources": {"limits": {"cpu": "1", "memory": "1Gi"}},
            "livenessProbe": {"httpGet": {"path": "/", "port": 80}},
            "volumeMounts": [{"name": "v", "mountPath": "/v"}],
        }
    ],
    "volumes": [{"name": "v", "configMap": {"name": "c", "items": [{"key": "k", "path": "p"}]}}],
    "tolerations": [{"key": "a", "operator": "Exists"}],
}
TEMPLATE: Object = {"metadata": {"labels": LABELS}, "spec": POD_SPEC}
SCHEMA: Object = {
    "type": "object",
    "properties": {
        "spec": {
            "type": "object",
            "properties": {
                "n": {"type": "integer", "default": 1},
                "l": {"type": "array", "items": {"type": "string"}},
            },
        }
    },
}
_RBAC = "/apis/rbac.authorization.k8s.io/v1/namespaces/default"
SEEDS: dict[str, Object] = {
    "/api/v1/namespaces/default/configmaps": {"data": {"k": "v"}, "binaryData": {"b": "AA=="}},
    "/api/v1/namespaces/default/secrets": {"stringData": {"k": "v"}, "type": "Opaque"},
    "/api/v1/namespaces/default/pods": {"spec": POD_SPEC, "status": {"phase": "Running"}},
    "/api/v1/namespaces/default/services": {
        "spec": {"ports": [{"port": 80, "targetPort": "http"}], "selector": LABELS, "type": "NodePort"}
    },
    "/api/v1/namespaces": {"spec": {"finalizers": ["kubernetes"]}},
    "/api/v1/nodes": {
        "spec": {"taints": [{"key": "a", "effect": "NoSchedule"}]},
        "status": {"capacity": {"cpu": 4}},
    },
    "/api/v1/namespaces/default/events": {"involvedObject": {"kind": "Pod", "namespace": "default"}},
    "/api/v1/namespaces/default/serviceaccounts": {"secrets": [{"name": "s"}]},
    "/apis/apps/v1/namespaces/default/deployments": {
        "spec": {
            "selector": {"matchLabels": LABELS, "matchExpressions": [{"key": "app", "operator": "Exists"}]},
            "template": TEMPLATE,
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": "25%"}},
        }
    },
    "/apis/coordination.k8s.io/v1/namespaces/default/leases": {"spec": {"leaseDurationSeconds": 3}},
    "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices": {
        "addressType": "IPv4",
        "endpoints": [{"addresses": ["10.0.0.1"], "conditions": {"ready": True}}],
        "ports": [{"port": 80}],
    },
    f"{_RBAC}/roles": {"rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}]},
    f"{_RBAC}/rolebindings": {
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "r"},
        "subjects": [{"kind": "User", "name": "u"}],
    },
    "/apis/apiextensions.k8s.io/v1/customresourcedefinitions": {
        "spec": {
            "group": "example.org",
            "scope": "Namespaced",
            "names": {"plural": "things", "kind": "Thing", "singular": "thing", "listKind": "ThingList"},
            "versions": [
                {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": SCHEMA}}
            ],
        }
    },
    "/apis/fuzz.example/v1/namespaces/default/things": {"spec": {"n": 3, "l": ["a"]}},
    "/apis/authorization.k8s.io/v1/subjectaccessreviews": {
        "spec": {"user": "u", "resourceAttributes": {"verb": "get", "resource": "pods"}}
    },
}
THINGS = {
    "metadata": {"name": "things.fuzz.example"},
    "spec": {
        **SEEDS["/apis/apiextensions.k8s.io/v1/customresourcedefinitions"]["spec"],
        "group": "fuzz.example",
    },
}

CONTENT_TYPES = (
    "application/json",
    "application/yaml",
    "application/vnd.kubernetes.protobuf",
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
    "application/apply-patch+yaml",
    "application/apply-patch+cbor",
    "application/cbor",
    "application/json; charset=utf-16",
    "application/x-www-form-urlencoded",
    "text/plain",
    "multipart/form-data; boundary=",
    "nonsense",
    ";;;",
    "",
)
ACCEPTS = (
    "*/*",
    "application/json",
    "application/yaml",
    "application/vnd.kubernetes.protobuf",
    "application/json;as=Table;v=v1;g=meta.k8s.io",
    "application/json;as=Table;v=v9;g=meta.k8s.io",
    "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io",
    "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io,application/json;q=0.1",
    "application/vnd.kubernetes.protobuf;as=Table;v=v1;g=meta.k8s.io",
    "application/json;as=;v=;g=",
    "application/json;stream=watch",
    "application/vnd.kubernetes.protobuf;stream=watch",
    "text/html;q=nan",
    "application/json;q=-1, ,;;,",
    "a/b/c;d=e=f",
    "\x80\xff",
    "",
)
METHODS = (
    "GET",
    "GET",
    "POST",
    "POST",
    "PUT",
    "PATCH",
    "PATCH",
    "DELETE",
    "HEAD",
    "OPTIONS",
    "TRACE",
    "BREW",
)
ODD = (
    "", "0", "-1", "1", "9" * 40, "1e999", "NaN", "true", "false", "null", "a=b", "a in (b", "!a,",
    "a!=b,c notin (d)", "metadata.name=x", "status.phase!=,=", "spec.nope=1", "e30",
    "eyJ2IjoibWV0YS5rOHMuaW8vdjEiLCJydiI6LTF9", "%00", "%ff%fe", "%", "%zz", "%ed%a0%80", "..", "a/b",
    "Exact", "NotOlderThan", "All", "Strict", "Foreground", "\u00e9", "\U0001f600", "a" * 5000, "[]", "{}",
    "' or 1=1", "${x}", "=", "==", ",", "(", "in", "2147483648", "-9223372036854775809",
    "9223372036854775808", "1.5", " 1", "+1", "\u0661",
)  # fmt: skip
PARAMETERS = (
    "watch", "limit", "continue", "resourceVersion", "resourceVersionMatch", "labelSelector",
    "fieldSelector", "timeoutSeconds", "sendInitialEvents", "allowWatchBookmarks", "dryRun", "pretty",
    "fieldManager", "force", "fieldValidation", "propagationPolicy", "gracePeriodSeconds",
    "orphanDependents", "container", "tailLines", "follow", "sinceTime", "command", "stdin", "ports",
    "path", "includeObject", "ignoreStoreReadErrorWithClusterBreakingPotential", "verbose", "exclude",
    "timeout", "", "\u00e9", "%00",
)  # fmt: skip
PIECES = (
    "", ".", "..", "%2e%2e", "%2F", "%00", "%ff", "a%0d%0ab", "\u00e9", "%ed%a0%80", "x" * 300, "fuzz",
    "default", "status", "scale", "log", "exec", "attach", "portforward", "proxy", "eviction", "binding",
    "token", "approval", "finalize", "watch", "namespaces", "api", "apis", "v1", "v9", "pods", "*", ";a=b",
    "a:b", ":80", "https:x:y", "+", "resize", "ephemeralcontainers", "%25", "%", "-",
)  # fmt: skip
ELSEWHERE = (
    "/", "/healthz", "/readyz", "/livez/ping", "/metrics", "/version", "/openapi/v2", "/openapi/v3",
    "/openapi/v3/api/v1", "/openapi/v3/apis/../x", "/.well-known/openid-configuration", "/openid/v1/jwks",
    "/api", "/apis", "/api/v1", "/apis/apps", "/apis/apps/v1", "/apis/apps/v9", "/logs", "/debug/pprof",
    "//", "/api//v1", "*", "/ondol/metrics", "/api/v1/componentstatuses", "/api/v1/watch/pods",
    "/api/v1/namespaces/default/watch/pods/x",
)  # fmt: skip
HEADERS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("accept-encoding", ("gzip", "gzip;q=0", "br, *;q=x", "deflate,,")),
    ("content-encoding", ("gzip", "identity", "br")),
    ("content-length", ("0", "5", "-1", "9" * 30, "x")),
    ("if-match", ('"1"', "*", "x")),
    ("if-none-match", ('"1"', "*")),
    ("authorization", ("Bearer", "Bearer x", "Bearer a.b.c", "Basic !!!", "\xff", "Bearer " + "e30." * 900)),
    ("impersonate-user", ("", "x", "\xff", "system:node:x")),
    ("impersonate-group", ("g", "")),
    ("impersonate-uid", ("1",)),
    ("impersonate-extra-%zz", ("v",)),
    ("x-remote-user", ("root",)),
    ("upgrade", ("websocket", "SPDY/3.1", "h2c", "x", "")),
    ("connection", ("upgrade", "close", "Upgrade, keep-alive", "")),
    ("sec-websocket-key", ("x", "dGhlIHNhbXBsZSBub25jZQ==")),
    ("sec-websocket-version", ("13", "99", "x")),
    ("sec-websocket-protocol", ("v5.channel.k8s.io", "nope", "base64url.bearer.authorization.k8s.io.%%%")),
    ("x-stream-protocol-version", ("v4.channel.k8s.io", "")),
    ("range", ("bytes=0-", "bytes=x")),
    ("expect", ("100-continue", "200-ok")),
    ("user-agent", ("", "\xff" * 50, "a" * 3000)),
    ("audit-id", ("", "x" * 500, "\xff")),
    ("cookie", ("a=b; c",)),
    ("traceparent", ("00-xx", "00-" + "0" * 32 + "-" + "0" * 16 + "-01")),
    ("origin", ("null", "https://x")),
    ("host", ("", "a b", "[::1")),
)  # fmt: skip


_VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 1.5, 2**31, 2**63, -(2**63) - 1, 10**400, 1e308, "", "x", "\x00", "\ud800",
    "\u00e9", "1Gi", "-1", "1e9999", "a/b", "A" * 300, "2001-01-01T00:00:00Z", "0000-00-00T00:00:00Z", "$(A)",
    "999999999999h", "::1", "10.0.0.1/33", "{{x}}", "replace", "delete", "self.x ==", "(((((", "*" * 40,
)  # fmt: skip
Parts = tuple[str, str, list[tuple[str, str]], bytes]
"""Method, target, headers and body."""


@dataclass(frozen=True, slots=True)
class Malformed:
    """One request as it goes over the wire: `target` is percent-encoded, header values are Latin-1."""

    number: int
    method: str
    target: str
    headers: tuple[tuple[str, str], ...]
    body: bytes

    def wire(self, host: str) -> bytes:
        """The bytes of HTTP/1.1, which end the connection; its own wrong lengths come first."""
        lines = [f"{self.method} {self.target} HTTP/1.1", f"host: {host}"]
        lines += [f"{name}: {value}" for name, value in self.headers]
        lines += [f"content-length: {len(self.body)}", "connection: close", "", ""]
        return "\r\n".join(lines).encode("latin-1", "replace") + self.body


def _junk(rng: random.Random, depth: int = 3) -> Any:
    roll = rng.random()
    if depth and roll < 0.15:
        return [_junk(rng, depth - 1) for _ in range(rng.randrange(3))]
    if depth and roll < 0.35:
        return {
            rng.choice(["", "a", "name", "\x00", "\ud800", "$patch"]): _junk(rng, depth - 1) for _ in range(2)
        }
    return rng.choice(_VALUES)


def _places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    places = [path] if path else []
    entries = (
        value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    )
    for key, item in entries:
        places += _places(item, (*path, key))
    return places


def _spoiled(rng: random.Random, document: Object) -> Object:
    """A valid object with something of a wrong type, doubled, dropped or added, at any depth."""
    spoiled = copy.deepcopy(document)
    for _ in range(rng.randint(1, 3)):
        places = _places(spoiled)
        if not places:
            break
        *way, last = rng.choice(places)
        holder: Any = spoiled
        for key in way:
            holder = holder[key]
        action = rng.randrange(5)
        if action == 0:
            del holder[last]
        elif action == 1 and isinstance(holder, list):
            holder.append(copy.deepcopy(holder[last]))
        elif action == 1:
            holder[rng.choice(["", "nope", "\x00", "$patch", "$retainKeys", "f:x", "name"])] = _junk(rng)
        else:
            holder[last] = _junk(rng)
    return spoiled


def _json(document: Any) -> bytes:
    """With lone surrogates and numbers of any size as they are."""
    return json.dumps(document).encode()


def _deep(rng: random.Random) -> bytes:
    depth = rng.choice([50, 500, 5_000, 50_000])
    opening, closing = rng.choice([(b"[", b"]"), (b'{"a":', b"}"), (b"- ", b""), (b"{a: ", b"}")])
    return opening * depth + b"1" + closing * (depth if rng.random() < 0.7 else 0)


def _protobuf(rng: random.Random, document: Object) -> bytes:
    """A protobuf body with bytes flipped, cut off or in excess."""
    try:
        content = bytearray(protobuf.encode(document))
    except (errors.OndolError, TypeError, ValueError, KeyError, AttributeError):
        content = bytearray(b"k8s\x00\x0a\x04\x0a\x02v1")
    for _ in range(rng.randrange(4)):
        content[rng.randrange(len(content))] = rng.randrange(256)
    return bytes(
        content[: rng.randrange(len(content) + 1)] if rng.random() < 0.4 else content + rng.randbytes(3)
    )


def _broken_text(rng: random.Random, document: Object) -> bytes:
    text = bytearray(_json(document))
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(text))
        text[at : at + rng.randrange(3)] = rng.choice(
            [
                b"",
                b"\x00",
                b"\xff",
                b"\xed\xa0\x80",
                b'"',
                b"{",
                b"]",
                b"&a *a",
                b"!!python/object:x",
                b"\n---\n",
                b"\t",
                b"1e9",
                b"\\u",
            ]
        )
    return bytes(text)


def _yaml_bomb(rng: random.Random) -> bytes:
    lines = [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 9)]
    return ("\n".join(["a0: &a0 x", *lines])).encode() + rng.choice([b"", b"\n<<: *a8", b"\n? [a]\n: b"])


def _patch(rng: random.Random, document: Object) -> bytes:
    pointers = [
        "",
        "/",
        "/spec",
        "/metadata/labels/a",
        "/data/k",
        "/spec/ports/-",
        "/spec/ports/99",
        "/a~2b",
        "x",
        "/metadata/name",
    ]
    operations = [
        {
            "op": rng.choice(["add", "remove", "replace", "test", "move", "copy", "jump", "", 7]),
            "path": rng.choice([*pointers, None, 3]),
            "from": rng.choice(pointers),
            "value": _junk(rng),
        }
        for _ in range(rng.randrange(4))
    ]
    return _json(rng.choice([operations, _spoiled(rng, document), _junk(rng), {"metadata": _junk(rng)}]))


def _body(rng: random.Random, document: Object) -> bytes:
    makers: list[Callable[[], bytes]] = [
        lambda: _json(_spoiled(rng, document)),
        lambda: _json(_spoiled(rng, document)),
        lambda: _broken_text(rng, document),
        lambda: _deep(rng),
        lambda: _protobuf(rng, document),
        lambda: _yaml_bomb(rng),
        lambda: _patch(rng, document),
        lambda: _patch(rng, document),
        lambda: rng.randbytes(rng.randrange(60)),
        lambda: _json(_junk(rng)),
        lambda: b"",
    ]
    return rng.choice(makers)()


def _quoted(text: str) -> str:
    """What may stand in a request line as it is stays, right or wrong; the rest is percent-encoded."""
    return "".join(c if "!" <= c <= "~" else "".join(f"%{b:02X}" for b in c.encode()) for c in text)


def _target(rng: random.Random, collection: str) -> str:
    roll = rng.random()
    if roll < 0.12:
        path = rng.choice(ELSEWHERE)
    elif roll < 0.65:
        path = collection + rng.choice(["", "/fuzz", "/fuzz", "/fuzz/status", f"/fuzz/{rng.choice(PIECES)}"])
    else:
        pieces = (collection + "/fuzz").split("/")
        for _ in range(rng.randint(1, 3)):
            at = rng.randint(1, len(pieces))
            pieces[at : at + rng.randrange(2)] = [rng.choice(PIECES)]
        path = "/".join(pieces)
    asked = [f"{rng.choice(PARAMETERS)}={rng.choice(ODD)}" for _ in range(rng.choice([0, 0, 1, 2, 4]))]
    return _quoted(path + ("?" + rng.choice(["&", "&", "&&", ";"]).join(asked) if asked else ""))


_PATCHES = CONTENT_TYPES[3:7]


def _near_body(rng: random.Random, method: str, kind: str, document: Object) -> tuple[str, bytes]:
    """A content type, and a body of that type with something wrong in it."""
    if method == "GET":
        return kind, b""
    if method == "PATCH":
        return kind, _patch(rng, document)
    if method == "DELETE":
        options = {"preconditions": _junk(rng), "gracePeriodSeconds": _junk(rng), "dryRun": _junk(rng)}
        return kind, _json(options)
    roll = rng.random()
    if roll < 0.15:
        return "application/vnd.kubernetes.protobuf", _protobuf(rng, document)
    if roll < 0.3:
        return "application/yaml", rng.choice([_yaml_bomb, _deep])(rng)
    return kind, _json(_spoiled(rng, document))


def _near(rng: random.Random, collection: str, document: Object) -> Parts:
    """A request that is right but for one thing, so that it comes as far as that."""
    name = document["metadata"]["name"]
    method = rng.choice(["GET", "POST", "POST", "POST", "PUT", "PUT", "PATCH", "PATCH", "PATCH", "DELETE"])
    target = collection if method == "POST" else f"{collection}/{name}"
    accept, kind, body = "application/json", "application/json", b""
    if method == "GET" and rng.random() < 0.7:
        target = collection + rng.choice(["", "?watch=true&timeoutSeconds=1", "?limit=1"])
    if method in {"POST", "PUT"}:
        body = _json(document)
    elif method == "PATCH":
        kind = rng.choice(_PATCHES)
        body = b"[]" if "json-patch" in kind else _json(document)
        target += "?fieldManager=m&force=true" if "apply" in kind else ""
    what = rng.choice(["body", "body", "body", "query", "query", "accept", "type", "header"])
    headers = []
    if what == "body":
        kind, body = _near_body(rng, method, kind, document)
    elif what == "query":
        separator = "&" if "?" in target else "?"
        target += f"{separator}{rng.choice(PARAMETERS)}={rng.choice(ODD)}"
    elif what == "accept":
        accept = rng.choice(ACCEPTS)
    elif what == "type":
        kind = rng.choice(CONTENT_TYPES)
    elif what == "header":
        name_, values = rng.choice(HEADERS)
        headers.append((name_, rng.choice(values)))
    return method, target, [("accept", accept), ("content-type", kind), *headers], body


def _far(rng: random.Random, collection: str, document: Object) -> Parts:
    """A request in which anything may be wrong."""
    method = rng.choice(METHODS)
    headers = [("accept", rng.choice(ACCEPTS))]
    body = b""
    if method not in {"GET", "HEAD"} or rng.random() < 0.1:
        body = _body(rng, document)
        headers.append(("content-type", rng.choice(CONTENT_TYPES)))
    for name, values in rng.sample(HEADERS, rng.choice([0, 0, 1, 2])):
        headers.append((name, rng.choice(values)))
    return method, _target(rng, collection), headers, body


def request(seed: int, number: int) -> Malformed:
    """The request of a number; not each is malformed: some find what others left."""
    rng = random.Random(f"{seed}/{number}")
    collection = rng.choice(sorted(SEEDS))
    name = "things.example.org" if "customresource" in collection else "fuzz"
    document = {"metadata": {"name": name, "labels": {"a": "b"}}, **SEEDS[collection]}
    shape = _near if rng.random() < 0.7 else _far
    method, target, headers, body = shape(rng, collection, document)
    return Malformed(number, method, _quoted(target), tuple(headers), body)
