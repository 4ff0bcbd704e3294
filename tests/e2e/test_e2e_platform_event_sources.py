"""Event sources, sinks and transforms on a real platform: what they send arrives, and what they run runs."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.e2e import objects
from tests.e2e.harness import Kubectl, Platform, eventually

pytestmark = [pytest.mark.e2e, pytest.mark.root]

BROKER = {"ref": {"apiVersion": "eventing.knative.dev/v1", "kind": "Broker", "name": "default"}}
DISPLAY = """
import http.server, json, sys
class Display(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"] or 0)).decode()
        own = {name.lower(): value for name, value in self.headers.items() if name.lower().startswith("ce-")}
        print(json.dumps([self.path, own, body]), flush=True)
        self.send_response(202)
        self.send_header("content-length", "0")
        self.end_headers()
    def log_message(self, *words):
        pass
http.server.ThreadingHTTPServer(("", 8080), Display).serve_forever()
"""
SEND = """
import os, urllib.request
event = {"ce-specversion": "1.0", "ce-id": "1", "ce-source": "/pod", "ce-type": "of.a.pod"}
request = urllib.request.Request(os.environ["K_SINK"], b"{}", event)
print(urllib.request.urlopen(request).status)
"""
SHOW = "import os; print(open(os.environ['K_EVENT_PATH'] + '/event').read())"


def _object(kind: str, name: str, spec: Any, version: str = "sources.knative.dev/v1") -> Any:
    return {"apiVersion": version, "kind": kind, "metadata": {"name": name}, "spec": spec}


@pytest.fixture(scope="module")
def display(space: Kubectl) -> Kubectl:
    """A Broker, all of whose events are shown in the log of a pod."""
    container = objects.python(DISPLAY, ports=[{"containerPort": 8080}])
    pods = {"metadata": {"labels": {"app": "display"}}, "spec": {"containers": [container]}}
    deployment = _object(
        "Deployment",
        "display",
        {"selector": {"matchLabels": {"app": "display"}}, "template": pods},
        "apps/v1",
    )
    service = _object(
        "Service",
        "display",
        {"selector": {"app": "display"}, "ports": [{"port": 80, "targetPort": 8080}]},
        "v1",
    )
    subscriber = {"ref": {"apiVersion": "v1", "kind": "Service", "name": "display"}, "uri": "/broker"}
    space.apply(
        deployment,
        service,
        _object("Broker", "default", {}, "eventing.knative.dev/v1"),
        _object(
            "Trigger",
            "all",
            {"broker": "default", "filters": [{"cesql": "type <> 'hidden'"}], "subscriber": subscriber},
            "eventing.knative.dev/v1",
        ),
    )
    for each in ("broker/default", "trigger/all"):
        space("wait", "--for=condition=Ready", each, "--timeout=60s")
    space("rollout", "status", "deployment/display", "--timeout=60s")
    return space


def _events(display: Kubectl, type_: str) -> list[Any]:
    lines = display("logs", "deployment/display").splitlines()
    return [event for event in map(json.loads, lines) if event[1].get("ce-type") == type_]


def test_an_event_is_sent_from_the_command_line(display: Kubectl, platform: Platform) -> None:
    """Through the API server, which leads to what the platform serves itself."""
    words = ("--to", "Broker:default", "--type", "typed", "--field", "order.amount=3")
    assert "202" in platform("event", "send", *words, "--namespace", display.namespace)
    [(path, _, body)] = eventually(lambda: _events(display, "typed"), "the event is shown")
    assert (path, json.loads(body)) == ("/broker", {"order": {"amount": 3}})


def test_a_ping_goes_through_a_broker_and_a_transform(display: Kubectl) -> None:
    """By its schedule to the transform, from there to the Broker, and to the Trigger's subscriber."""
    expression = '{"specversion": "1.0", "id": id, "source": source, "type": "shortened", "data": data.a}'
    transform = {"jsonata": {"expression": expression}, "sink": BROKER}
    ref = {"apiVersion": "eventing.knative.dev/v1alpha1", "kind": "EventTransform", "name": "shorten"}
    ping = {"schedule": "* * * * * *", "contentType": "application/json", "data": '{"a": 7}'}
    display.apply(
        _object("EventTransform", "shorten", transform, "eventing.knative.dev/v1alpha1"),
        _object("PingSource", "ping", {**ping, "sink": {"ref": ref}}),
    )
    display("wait", "--for=condition=Ready", "eventtransform/shorten", "pingsource/ping", "--timeout=60s")
    events = eventually(lambda: _events(display, "shortened"), "a transformed event is shown")
    path, attributes, body = events[0]
    assert (path, body) == ("/broker", "7")
    assert attributes["ce-source"].endswith("/pingsources/ping")
    display("delete", "pingsource/ping")


def test_changes_are_told_with_the_rights_of_an_account(display: Kubectl) -> None:
    """Once the account may look; a ConfigMap that is made is an event."""
    kinds = {"resources": [{"apiVersion": "v1", "kind": "ConfigMap"}], "sink": BROKER}
    display.apply(_object("ApiServerSource", "changes", kinds))
    reason = ".status.conditions[?(@.type=='SufficientPermissions')].message"
    eventually(lambda: "cannot get" in display.path("apiserversource", "changes", reason), "it lacks rights")
    display("create", "role", "looks", "--verb=get,list,watch", "--resource=configmaps")
    account = f"{display.namespace}:default"
    display("create", "rolebinding", "looks", "--role=looks", f"--serviceaccount={account}")
    display("wait", "--for=condition=Ready", "apiserversource/changes", "--timeout=60s")
    display("create", "configmap", "one", "--from-literal=a=b")
    events = eventually(lambda: _events(display, "dev.knative.apiserver.ref.add"), "the change is shown")
    assert [event[1]["ce-name"] for event in events] == ["one"]


def test_a_job_is_told_its_sink(display: Kubectl) -> None:
    """By a SinkBinding that was there before it; what the Job sends arrives."""
    subject = {"apiVersion": "batch/v1", "kind": "Job", "selector": {"matchLabels": {"bind": "yes"}}}
    display.apply(_object("SinkBinding", "bound", {"sink": BROKER, "subject": subject}))
    display("wait", "--for=condition=Ready", "sinkbinding/bound", "--timeout=60s")
    pods = {"spec": {"restartPolicy": "Never", "containers": [objects.python(SEND)]}}
    job = _object("Job", "sends", {"template": pods, "backoffLimit": 0}, "batch/v1")
    job["metadata"]["labels"] = {"bind": "yes"}
    display.apply(job)
    display("wait", "--for=condition=Complete", "job/sends", "--timeout=60s")
    events = eventually(lambda: _events(display, "of.a.pod"), "the Job's event is shown")
    assert events[0][1]["ce-source"] == "/pod"


def test_an_event_runs_a_job(display: Kubectl) -> None:
    """A JobSink's Job finds the event in its file."""
    pods = {"spec": {"restartPolicy": "Never", "containers": [objects.python(SHOW)]}}
    job = {"spec": {"template": pods, "backoffLimit": 0}}
    version = "sinks.knative.dev/v1alpha1"
    ping = {"schedule": "* * * * * *", "data": "text", "contentType": "text/plain"}
    sink = {"ref": {"apiVersion": version, "kind": "JobSink", "name": "show"}}
    display.apply(
        _object("JobSink", "show", {"job": job}, version),
        _object("PingSource", "runs", {**ping, "sink": sink}),
    )
    label = "sinks.knative.dev/job-sink-name=show"

    def complete() -> list[str]:
        jobs = display.list("jobs", "-l", label)
        return [each["metadata"]["name"] for each in jobs if each.get("status", {}).get("succeeded")]

    [name, *_] = eventually(complete, "a Job of the sink is complete")
    display("delete", "pingsource/runs")
    event = json.loads(display("logs", f"job/{name}"))
    assert (event["type"], event["data"]) == ("dev.knative.sources.ping", "text")
    display("delete", "jobs", "-l", label)
