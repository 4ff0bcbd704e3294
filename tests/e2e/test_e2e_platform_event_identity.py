"""Events of pods that say who they are, by TLS, on a real platform: who may send them, and who may not."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from tests.e2e import objects
from tests.e2e.harness import Kubectl, eventually

pytestmark = [pytest.mark.e2e, pytest.mark.root]

BROKER = {"apiVersion": "eventing.knative.dev/v1", "kind": "Broker", "name": "default"}
ALPHA = "eventing.knative.dev/v1alpha1"
FLAGS = {"authentication-oidc": "enabled", "transport-encryption": "strict"}
SHOW = """
import http.server
class Show(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"] or 0))
        reply = {}
        if self.path == "/step":
            reply = {"ce-type": self.headers["ce-type"] + ".stepped"}
        elif self.headers["ce-type"] == "ask":
            reply = {"ce-type": "answer", "ce-replyid": self.headers["ce-correlationid"]}
        else:
            print(self.headers["ce-source"], self.headers["ce-type"], flush=True)
        if reply:
            reply |= {"ce-specversion": "1.0", "ce-id": self.headers["ce-id"], "ce-source": "/show"}
        self.send_response(200 if reply else 202)
        for name, value in {**reply, "content-length": "0"}.items():
            self.send_header(name, value)
        self.end_headers()
    def log_message(self, *words):
        pass
http.server.ThreadingHTTPServer(("", 8080), Show).serve_forever()
"""
SEND = """
import os, ssl, sys, urllib.error, urllib.request
url, certificates, file, source, type_ = sys.argv[1:]
headers = {"ce-specversion": "1.0", "ce-id": "1", "ce-source": source, "ce-type": type_}
if file:
    headers["authorization"] = "Bearer " + open(file).read()
trusting = ssl.create_default_context(cadata=certificates or None)
request = urllib.request.Request(url, b"{}", headers)
try:
    answer = urllib.request.urlopen(request, context=trusting, timeout=20)
    print(answer.status, answer.headers.get("ce-type") or "")
except urllib.error.HTTPError as error:
    print(error.code)
except urllib.error.URLError as error:
    print(type(error.reason).__name__)
"""
TOKEN = "/oidc/token"
_PLACES = "os.environ['K_SINK'], os.environ['K_CA_CERTS']"
BOUND = f"import os, sys; sys.argv[1:] = [{_PLACES}, '{TOKEN}', '/job', 'of.a.job']{SEND}"


def _object(kind: str, name: str, spec: Any, version: str = "eventing.knative.dev/v1") -> Any:
    return {"apiVersion": version, "kind": kind, "metadata": {"name": name}, "spec": spec}


def _policy(name: str, *senders: Any, to: Any = BROKER) -> Any:
    return _object("EventPolicy", name, {"to": [{"ref": to}], "from": list(senders)}, ALPHA)


@pytest.fixture(scope="module")
def shop(cluster: Kubectl, space: Kubectl) -> Iterator[Kubectl]:
    """A Broker that asks for tokens, and in another namespace a pod that has one for it."""
    name = f"{space.namespace}-shop"
    cluster("create", "namespace", name)
    features = ("configmap/config-features", "-n", "knative-eventing", "--type=merge")
    cluster("patch", *features, "-p", json.dumps({"data": FLAGS}))
    subscriber = {"ref": {"apiVersion": "v1", "kind": "Service", "name": "show"}}
    container = objects.python(SHOW, ports=[{"containerPort": 8080}])
    space.apply(
        objects.pod("show", container),
        objects.service("show"),
        _object("Broker", "default", {}),
        _object("Trigger", "all", {"broker": "default", "subscriber": subscriber}),
    )
    for each in ("broker/default", "trigger/all", "pod/show"):
        space("wait", "--for=condition=Ready", each, "--timeout=60s")
    audience = f"eventing.knative.dev/broker/{space.namespace}/default"
    eventually(lambda: space.path("broker", "default", ".status.address.audience") == audience, "an audience")
    other = cluster.inside(name)
    other("create", "serviceaccount", "shop")
    token = {"projected": {"sources": [{"serviceAccountToken": {"path": "token", "audience": audience}}]}}
    mounts = [{"name": "token", "mountPath": "/oidc"}]
    idle = objects.python("import time; time.sleep(3600)", volumeMounts=mounts)
    other.apply(objects.pod("shop", idle, serviceAccountName="shop", volumes=[{"name": "token", **token}]))
    other("wait", "--for=condition=Ready", "pod/shop", "--timeout=60s")
    yield other
    off = dict.fromkeys(FLAGS, "disabled")
    cluster("patch", *features, "-p", json.dumps({"data": off}))
    cluster("delete", "namespace", name, "--wait=false")


def _send(shop: Kubectl, space: Kubectl, *, token: str = TOKEN, scheme: str = "https") -> str:
    """What the pod is answered at the Broker's address, whose certificate it holds against `CACerts`."""
    url = space.path("broker", "default", ".status.address.url").replace("https:", f"{scheme}:")
    certificates = space.path("broker", "default", ".status.address.CACerts")
    words = ("exec", "pod/shop", "--", "python3", "-c", SEND, url, certificates, token, "/shop", "of.a.pod")
    return str(shop(*words)).strip()


def test_a_pod_of_another_namespace_needs_a_policy(shop: Kubectl, space: Kubectl) -> None:
    """By TLS alone, with a token alone, and once an EventPolicy names it: then its event is delivered."""
    eventually(lambda: _send(shop, space, token="") == "401", "nobody is let in without a token")
    assert _send(shop, space) == "403"
    assert _send(shop, space, scheme="http") == "404"
    space.apply(_policy("shop", {"sub": f"system:serviceaccount:{shop.namespace}:shop"}))
    space("wait", "--for=condition=Ready", "eventpolicy/shop", "--timeout=60s")
    eventually(lambda: _send(shop, space) == "202", "the pod that is named may send")
    eventually(lambda: "/shop" in space("logs", "pod/show"), "its event is delivered")


def test_the_certificate_is_the_platforms(shop: Kubectl, space: Kubectl) -> None:
    """Who does not know its authority does not believe it."""
    url = space.path("broker", "default", ".status.address.url")
    answer = shop("exec", "pod/shop", "--", "python3", "-c", SEND, url, "", "", "/shop", "of.a.pod")
    assert str(answer).strip() == "SSLCertVerificationError"


def test_a_job_sends_with_the_token_of_its_binding(shop: Kubectl, space: Kubectl) -> None:
    """It finds it in a file; a policy allows the SinkBinding by its reference."""
    assert shop.namespace
    subject = {"apiVersion": "batch/v1", "kind": "Job", "selector": {"matchLabels": {"bind": "yes"}}}
    sources = "sources.knative.dev/v1"
    sender = {"ref": {"apiVersion": sources, "kind": "SinkBinding", "name": "bound"}}
    space.apply(
        _object("SinkBinding", "bound", {"sink": {"ref": BROKER}, "subject": subject}, sources),
        _policy("job", sender),
    )
    space("wait", "--for=condition=Ready", "sinkbinding/bound", "eventpolicy/job", "--timeout=60s")
    pods = {"spec": {"restartPolicy": "Never", "containers": [objects.python(BOUND)]}}
    job = _object("Job", "sends", {"template": pods, "backoffLimit": 0}, "batch/v1")
    job["metadata"]["labels"] = {"bind": "yes"}
    space.apply(job)
    space("wait", "--for=condition=Complete", "job/sends", "--timeout=60s")
    assert space("logs", "job/sends").strip() == "202"
    eventually(lambda: "/job" in space("logs", "pod/show"), "its event is delivered")


def test_flows_send_by_tls_and_say_who_they_are(shop: Kubectl, space: Kubectl) -> None:
    """From a source through the channels of a Sequence, each with its own policies, to the Broker."""
    assert shop.namespace
    show = {"ref": {"apiVersion": "v1", "kind": "Service", "name": "show"}, "uri": "/step"}
    flows = "flows.knative.dev/v1"
    sequence = {"apiVersion": flows, "kind": "Sequence", "name": "twice"}
    steps = {"steps": [show, show], "reply": {"ref": BROKER}}
    ping = {"schedule": "* * * * * *", "data": "x", "sink": {"ref": sequence}}
    sender = {"ref": sequence}
    space.apply(
        _object("Sequence", "twice", steps, flows),
        _object("PingSource", "ping", ping, "sources.knative.dev/v1"),
        _policy("sequence", sender),
    )
    names = ("sequence/twice", "pingsource/ping", "eventpolicy/sequence")
    space("wait", "--for=condition=Ready", *names, "--timeout=60s")
    assert space.path("pingsource", "ping", ".status.sinkUri").startswith("https://imc-dispatcher.")
    stepped = "/show dev.knative.sources.ping.stepped.stepped"
    eventually(lambda: stepped in space("logs", "pod/show"), "the event came through all of it")
    space("delete", "pingsource/ping")


def test_a_request_is_answered_through_a_broker_that_asks_who_it_is(shop: Kubectl, space: Kubectl) -> None:
    """The RequestReply lets the pod ask, the Broker the RequestReply, and the Trigger reply."""
    account = f"system:serviceaccount:{space.namespace}:ask-oidc-eventing.knative.dev-requestreply"
    audience = f"eventing.knative.dev/requestreply/{space.namespace}/ask"
    asks = {"sub": f"system:serviceaccount:{shop.namespace}:shop"}
    reply = {"apiVersion": ALPHA, "kind": "RequestReply", "name": "ask"}
    trigger = {"apiVersion": BROKER["apiVersion"], "kind": "Trigger", "name": "all"}
    space.apply(
        _object("RequestReply", "ask", {"brokerRef": BROKER}, ALPHA),
        _policy("ask", asks, to=reply),
        _policy("asked", {"sub": account}, {"ref": trigger}),
    )
    names = ("requestreply/ask", "eventpolicy/ask", "eventpolicy/asked")
    space("wait", "--for=condition=Ready", *names, "--timeout=60s")
    token = shop("create", "token", "shop", f"--audience={audience}").strip()
    shop("exec", "pod/shop", "--", "python3", "-c", f"open('/tmp/token', 'w').write('{token}')")
    url = space.path("requestreply", "ask", ".status.address.url")
    certificates = space.path("requestreply", "ask", ".status.address.CACerts")
    words = ("exec", "pod/shop", "--", "python3", "-c", SEND, url, certificates, "/tmp/token", "/shop", "ask")
    eventually(lambda: str(shop(*words)).strip() == "200 answer", "the reply is the answer")
