"""Knative Serving's everyday use on a real platform: roll-outs, names of one's own, cold starts."""

from __future__ import annotations

import base64
import json
import socket
import ssl
import threading
from pathlib import Path
from typing import Any

import pytest
from tests.certificates import certify
from tests.e2e import objects
from tests.e2e.harness import Kubectl, Platform, Reply, eventually, get

pytestmark = [pytest.mark.e2e, pytest.mark.root]

NAME = "hello.example"


def service(platform: Platform, space: Kubectl, *words: str) -> str:
    """Run `ondol service …` in the namespace of the test."""
    return platform("service", *words, "--namespace", space.namespace)


def created(platform: Platform, space: Kubectl, name: str, *words: str) -> str:
    """A service of the test application; the header by which the ingress knows it."""
    port = str(objects.PORT)
    service(platform, space, "create", name, "--image", objects.IMAGE, "--port", port, *words)
    return f"{name}.{space.namespace}.localhost"


def test_traffic_moves_step_by_step_and_no_request_is_lost(space: Kubectl, platform: Platform) -> None:
    """`rollout-duration`: both revisions answer for a while, the new one alone in the end."""
    slowly = ("--annotation-service", "serving.knative.dev/rollout-duration=8s")
    host = created(platform, space, "moving", "--env", "VERSION=1", "--scale-min", "1", *slowly)
    stop, ingress = threading.Event(), platform.ingress
    versions: list[Reply] = []
    failures: list[Reply] = []

    def ask() -> None:
        while not stop.is_set():
            reply = get(ingress, headers={"Host": host})
            (versions if reply.status == 200 else failures).append(reply)

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        service(platform, space, "update", "moving", "--env", "VERSION=2", "--no-wait")
        reason = ".status.conditions[?(@.type=='RoutesReady')].reason"
        eventually(lambda: space.path("ksvc", "moving", reason) == "RolloutInProgress", "it moves")
        space("wait", "--for=condition=Ready", "ksvc/moving", "--timeout=25s")
    finally:
        stop.set()
        asking.join()
    assert failures == []
    both = [reply.value["version"] for reply in versions]
    changed = [number for number, version in enumerate(both[1:], 1) if both[number - 1] != version]
    assert len(changed) > 1, "old and new took turns"
    assert get(platform.ingress, headers={"Host": host}).value["version"] == "2"


def test_a_name_with_a_certificate(space: Kubectl, platform: Platform, tmp_path: Path) -> None:
    """A DomainMapping serves its name over HTTPS, once an administrator has given it to the namespace."""
    created(platform, space, "named", "--env", "VERSION=1")
    authority = certify(tmp_path, NAME)
    both = (tmp_path / "both.pem").read_bytes()
    key = both[both.index(b"-----BEGIN PRIVATE") :]
    data = {"tls.crt": base64.b64encode(authority).decode(), "tls.key": base64.b64encode(key).decode()}
    secret: Any = {"apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls", "data": data}
    claim: Any = {
        "apiVersion": "networking.internal.knative.dev/v1alpha1",
        "kind": "ClusterDomainClaim",
        "metadata": {"name": NAME},
        "spec": {"namespace": space.namespace},
    }
    space.apply({**secret, "metadata": {"name": "own"}}, claim)
    words = ("--ref", "named", "--tls", "own", "--namespace", space.namespace)
    platform("domain", "create", NAME, *words)
    url = space.path("domainmapping", NAME, ".status.url")
    port = int(url.rpartition(":")[2])
    context = ssl.create_default_context(cadata=authority.decode())

    def answer() -> bytes:
        plain = socket.create_connection(("127.0.0.1", port), timeout=10)
        with context.wrap_socket(plain, server_hostname=NAME) as wrapped:
            wrapped.sendall(f"GET / HTTP/1.1\r\nHost: {NAME}\r\nConnection: close\r\n\r\n".encode())
            received = b""
            while part := wrapped.recv(4096):
                received += part
            return received

    assert answer().startswith(b"HTTP/1.1 200")
    space("delete", "clusterdomainclaim", NAME)
    space("wait", "--for=condition=DomainClaimed=false", f"domainmapping/{NAME}", "--timeout=25s")


def test_a_cold_start_tells_its_steps(space: Kubectl, platform: Platform, cluster: Kubectl) -> None:
    """A revision that is ready at zero; the trace of its first request says where the time went."""
    cluster.inside("knative-serving")(
        "patch", "configmap", "config-autoscaler", "-p", '{"data":{"allow-zero-initial-scale":"true"}}'
    )
    host = created(platform, space, "lazy", "--scale-init", "0", "--env", "VERSION=1")
    assert space.list("pods", "-l", "serving.knative.dev/service=lazy") == []
    assert get(platform.ingress, headers={"Host": host}).value["version"] == "1"
    names = eventually(lambda: _spans(platform, "cold start"), "the trace has the cold start")
    assert {"decision", "scale patch", "scheduling", "sandbox", "readiness", "hand-over"} <= names


def _spans(platform: Platform, name: str) -> set[str]:
    """The names of the newest trace's spans, if one of them is this."""
    trace = json.loads(platform("traces", "show", "last", "--service", "activator", "-o", "json"))
    names = {
        span["name"]
        for group in trace["resourceSpans"]
        for scope in group["scopeSpans"]
        for span in scope["spans"]
    }
    return names if name in names else set()
