"""Admission webhooks with the real kubectl, and a server of their own."""

from __future__ import annotations

import base64
import http.server
import json
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.certificates import certify
from tests.e2e.harness import Kubectl

pytestmark = pytest.mark.e2e


class _Guard(http.server.BaseHTTPRequestHandler):
    """Labels what it is shown at `/label`, and refuses what has the key `secret` at `/judge`."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        review = json.loads(self.rfile.read(int(self.headers["content-length"])))
        request = review["request"]
        response: dict[str, Any] = {"uid": request["uid"], "allowed": True}
        if self.path.startswith("/label"):
            patch = json.dumps([{"op": "add", "path": "/metadata/labels", "value": {"seen": "true"}}])
            response |= {"patchType": "JSONPatch", "patch": base64.b64encode(patch.encode()).decode()}
            response["warnings"] = ["it was labelled"]
        elif "secret" in (request["object"].get("data") or {}):
            response |= {"allowed": False, "status": {"code": 403, "message": "no secrets here"}}
        body = json.dumps({**review, "request": None, "response": response}).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def guard(tmp_path: Path) -> Iterator[dict[str, str]]:
    """A `clientConfig` without its path, of a server that runs."""
    authority = certify(tmp_path, "localhost")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "both.pem")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Guard) as listening:
        listening.daemon_threads = True
        listening.socket = context.wrap_socket(listening.socket, server_side=True)
        thread = threading.Thread(target=listening.serve_forever)
        thread.start()
        url = f"https://localhost:{listening.server_address[1]}"
        yield {"url": url, "caBundle": base64.b64encode(authority).decode()}
        listening.shutdown()
        thread.join()


def _configuration(kind: str, namespace: str, client: dict[str, str], path: str) -> dict[str, Any]:
    rule = {"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["configmaps"]}
    webhook = {
        "name": "guard.example.org",
        "clientConfig": {**client, "url": client["url"] + path},
        "rules": [rule],
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}},
        "sideEffects": "None",
        "admissionReviewVersions": ["v1"],
    }
    return {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": f"{kind}WebhookConfiguration",
        "metadata": {"name": f"guard-{namespace}"},
        "webhooks": [webhook],
    }


def test_webhooks_change_and_refuse(kubectl: Kubectl, guard: dict[str, str]) -> None:
    """Kubectl shows the warning and the refusal; what is stored has the label."""
    namespace = kubectl.namespace
    for kind, path in (("Mutating", "/label"), ("Validating", "/judge")):
        kubectl("apply", "-f", "-", stdin=_configuration(kind, namespace, guard, path))
    created = kubectl.run("create", "configmap", "m", "--from-literal=a=1")
    assert "Warning: it was labelled" in created.err
    assert kubectl("get", "configmap", "m", "-o", "jsonpath={.metadata.labels.seen}") == "true"
    message = kubectl.refused("create", "configmap", "n", "--from-literal=secret=1")
    assert 'admission webhook "guard.example.org" denied the request: no secrets here' in message
    for kind in ("mutating", "validating"):
        kubectl("delete", f"{kind}webhookconfiguration", f"guard-{namespace}")
    kubectl("create", "configmap", "n", "--from-literal=secret=1")


def test_a_webhook_that_is_gone_refuses(kubectl: Kubectl) -> None:
    """With the reason; and its configuration can be taken away."""
    client = {"url": "https://localhost:1", "caBundle": ""}
    namespace = kubectl.namespace
    kubectl("apply", "-f", "-", stdin=_configuration("Validating", namespace, client, "/judge"))
    message = kubectl.refused("create", "configmap", "m")
    assert 'failed calling webhook "guard.example.org": failed to call webhook: Post' in message
    kubectl("delete", "validatingwebhookconfiguration", f"guard-{namespace}")
    kubectl("create", "configmap", "m")
