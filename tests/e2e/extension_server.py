"""An aggregated API server: `flunders.wardle.example.com`, kept in memory, behind TLS.

It believes only who shows a certificate of the front proxy's authority, as `k8s.io/apiserver` does. Run as
`python extension_server.py`, with `server.pem` and `front-proxy-ca.pem` in `/certs`; pods get its text.
"""

from __future__ import annotations

import http.server
import itertools
import json
import ssl
import threading
import time
from pathlib import Path
from typing import Any

GROUP = "wardle.example.com"
ROOT = f"/apis/{GROUP}/v1"
AGGREGATED = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
VERBS = ["create", "delete", "deletecollection", "get", "list", "watch"]
KIND = {"group": GROUP, "version": "v1", "kind": "Flunder"}
OBJECTS: dict[tuple[str, str], Any] = {}
NUMBERS = itertools.count(1)
NEWS = threading.Condition()
RESOURCE = {"resource": "flunders", "singularResource": "flunder", "scope": "Namespaced", "verbs": VERBS}
DISCOVERY = {
    "kind": "APIGroupDiscoveryList",
    "apiVersion": "apidiscovery.k8s.io/v2",
    "metadata": {},
    "items": [
        {
            "metadata": {"name": GROUP, "creationTimestamp": None},
            "versions": [{"version": "v1", "resources": [{**RESOURCE, "responseKind": KIND}]}],
        }
    ],
}
LEGACY = {
    "kind": "APIResourceList",
    "apiVersion": "v1",
    "groupVersion": f"{GROUP}/v1",
    "resources": [
        {
            "name": "flunders",
            "singularName": "flunder",
            "namespaced": True,
            "kind": "Flunder",
            "verbs": VERBS,
        }
    ],
}
SCHEMA = {
    "type": "object",
    "description": "A flunder of the wardle.",
    "properties": {
        "apiVersion": {"type": "string"},
        "kind": {"type": "string"},
        "metadata": {"type": "object"},
        "spec": {"type": "object", "description": "What it is meant to be."},
    },
    "x-kubernetes-group-version-kind": [KIND],
}
OPERATION = {
    "get": {
        "operationId": "readFlunder",
        "x-kubernetes-action": "get",
        "x-kubernetes-group-version-kind": KIND,
        "responses": {
            "200": {
                "description": "OK",
                "content": {"application/json": {"schema": {"$ref": "#/components/schemas/example.Flunder"}}},
            }
        },
    }
}
OPENAPI = {
    "openapi": "3.0.0",
    "info": {"title": "wardle", "version": "v1"},
    "paths": {f"{ROOT}/namespaces/{{namespace}}/flunders/{{name}}": OPERATION},
    "components": {"schemas": {"example.Flunder": SCHEMA}},
}
INDEX = {"paths": {ROOT[1:]: {"serverRelativeURL": f"/openapi/v3{ROOT}?hash=ABC"}}}


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self) -> None:
        path, _, query = self.path.partition("?")
        sent = self.rfile.read(int(self.headers.get("content-length") or 0))
        if self.headers.get("upgrade"):
            self.echo()
            return
        if path == "/apis" and "apidiscovery.k8s.io" in self.headers.get("accept", ""):
            self.say(DISCOVERY, kind=AGGREGATED)
            return
        fixed = {ROOT: LEGACY, "/openapi/v3": INDEX, f"/openapi/v3{ROOT}": OPENAPI, "/readyz": {}}
        if path in fixed:
            self.say(fixed[path])
            return
        parts = path.removeprefix(ROOT).strip("/").split("/")
        if not path.startswith(ROOT) or "flunders" not in parts:
            self.fail(404, "NotFound")
            return
        namespace = parts[1] if parts[0] == "namespaces" else ""
        name = parts[parts.index("flunders") + 1 :]
        self.objects(namespace, name[0] if name else "", query, sent)

    def objects(self, namespace: str, name: str, query: str, sent: bytes) -> None:
        if self.command == "POST":
            self.create(namespace, json.loads(sent))
            return
        if "watch=" in query:
            self.watch(namespace)
            return
        chosen = [each for each in OBJECTS.values() if namespace in ("", each["metadata"]["namespace"])]
        if self.command == "DELETE":
            with NEWS:
                for each in [each for each in chosen if name in ("", each["metadata"]["name"])]:
                    del OBJECTS[each["metadata"]["namespace"], each["metadata"]["name"]]
                NEWS.notify_all()
            self.say({"kind": "Status", "apiVersion": "v1", "status": "Success", "metadata": {}})
            return
        if name:
            live = OBJECTS.get((namespace, name))
            if live:
                self.say(live)
            else:
                self.fail(404, "NotFound")
            return
        listed = {"metadata": {"resourceVersion": str(next(NUMBERS))}, "items": chosen}
        self.say({"kind": "FlunderList", "apiVersion": f"{GROUP}/v1", **listed})

    def create(self, namespace: str, obj: Any) -> None:
        number = next(NUMBERS)
        own: dict[str, Any] = {"uid": f"u-{number}", "resourceVersion": str(number), "namespace": namespace}
        own["creationTimestamp"] = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        own["annotations"] = {"by": self.headers["x-remote-user"]}
        obj = {**obj, "kind": "Flunder", "metadata": {**obj["metadata"], **own}}
        with NEWS:
            OBJECTS[namespace, obj["metadata"]["name"]] = obj
            NEWS.notify_all()
        self.say(obj, 201)

    def watch(self, namespace: str) -> None:
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        shown: set[tuple[str, str]] = set()
        with NEWS:
            while True:
                for key in OBJECTS.keys() - shown:
                    shown.add(key)
                    if namespace in ("", key[0]):
                        line = json.dumps({"type": "ADDED", "object": OBJECTS[key]}).encode() + b"\n"
                        self.wfile.write(b"%x\r\n%s\r\n" % (len(line), line))
                        self.wfile.flush()
                NEWS.wait()

    def echo(self) -> None:
        self.send_response(101)
        self.send_header("upgrade", self.headers["upgrade"])
        self.send_header("connection", "Upgrade")
        self.end_headers()
        while data := self.connection.recv(100):
            self.connection.sendall(data.upper())
        self.close_connection = True

    def fail(self, code: int, reason: str) -> None:
        self.say(
            {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": reason, "code": code}, code
        )

    def say(self, document: Any, status: int = 200, kind: str = "application/json") -> None:
        body = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Nothing."""

    do_GET = do_POST = do_DELETE = do_HEAD = answer  # noqa: N815 - as the base class names them


class Server(http.server.ThreadingHTTPServer):
    """Each connection shakes hands in its own thread."""

    daemon_threads = True

    def __init__(self, address: tuple[str, int], context: ssl.SSLContext) -> None:
        super().__init__(address, Handler)
        self.context = context

    def finish_request(self, request: Any, client_address: Any) -> None:
        try:
            with self.context.wrap_socket(request, server_side=True) as secured:
                super().finish_request(secured, client_address)
        except OSError:
            return


def serve(address: tuple[str, int], certificate: str | Path, authority: str | Path) -> Server:
    """A server that is not started yet."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    context.load_verify_locations(authority)
    context.verify_mode = ssl.CERT_REQUIRED
    return Server(address, context)


if __name__ == "__main__":
    serve(("", 8443), "/certs/server.pem", "/certs/front-proxy-ca.pem").serve_forever()
