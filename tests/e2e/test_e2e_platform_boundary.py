"""What other users of the machine, and pods, find where the platform's parts speak with each other."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from typing import Any

import pytest
from tests.e2e import objects
from tests.e2e.harness import Kubectl, Platform, eventually, need_host, through

from ondol.compose import instance as instances

pytestmark = [pytest.mark.e2e, pytest.mark.root]

_NO_PORT = (
    "0/1 nodes are available: 1 node(s) didn't have free ports for the requested pod ports. "
    "preemption: 0/1 nodes are available: 1 No preemption victims found for incoming pod."
)
_PROBE = """
import os, socket, sys
os.setgroups([]); os.setgid(65534); os.setuid(65534)
for path in sys.argv[1:]:
    try:
        socket.socket(socket.AF_UNIX).connect(path)
        print('open', path)
    except PermissionError:
        print('closed', path)
"""
_DIAL = """
import os, socket
for place in os.environ["PLACES"].split():
    host, _, port = place.rpartition(":")
    try:
        with socket.create_connection((host, int(port)), timeout=3) as stream:
            print(place, stream.recv(4) or "closed")
    except OSError:
        print(place, "closed")
"""
_SEND = """
import os, time, urllib.request
event = {"ce-specversion": "1.0", "ce-id": "1", "ce-source": "/pod", "ce-type": "t"}
urllib.request.urlopen(urllib.request.Request(os.environ["TO"], b"{}", event))
time.sleep(600)
"""


@pytest.fixture(scope="module")
def instance(platform: Platform) -> instances.Instance:
    loaded = instances.load(platform.data_dir)
    assert loaded is not None
    return loaded


def test_parts_are_at_sockets_and_say_so(platform: Platform, instance: instances.Instance) -> None:
    """`ondol status` names where each part is: what is open to all is TLS, the ingress, or for pods alone."""
    addresses = {part["name"]: part["address"] for part in platform.status()["parts"]}
    assert addresses["control"] == f"unix:{instance.socket('xds')}"
    assert addresses["node"] == f"unix:{instance.socket('node')}"
    assert addresses["observe"] == f"http://{instance.bridge_address}:{instance.ports.observe}"
    assert instance.run_dir.stat().st_mode & 0o777 == 0o700
    for name in ("xds", "envoy-admin", "observe", "node"):
        assert instance.socket(name).stat().st_mode & 0o777 == 0o600


def test_other_users_get_in_nowhere(platform: Platform, instance: instances.Instance) -> None:
    """Who may run programs on the machine cannot end Envoy, read traces or ask the node."""
    need_host()
    paths = [str(instance.socket(name)) for name in ("xds", "envoy-admin", "observe", "node")]
    done = subprocess.run([sys.executable, "-c", _PROBE, *paths], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [f"closed {path}" for path in paths]
    assert platform.ready()


def test_spans_are_taken_from_pods_alone(
    platform: Platform, space: Kubectl, instance: instances.Instance
) -> None:
    """A pod hands in spans at the bridge, and asks nothing there; a user of the machine does neither."""
    target = (instance.bridge_address, instance.ports.observe)
    assert "403" in _http(target, "POST", "/v1/traces")
    assert "403" in _http(target, "GET", "/api/services")
    space.apply(objects.pod("sender"))
    space("wait", "--for=condition=Ready", "pod/sender", "--timeout=25s")
    address = space.path("pod", "sender", ".status.podIP")
    url = f"http://{target[0]}:{target[1]}"
    assert through(address, f"{url}/api/services").status == 404


def test_pods_do_not_reach_the_journal(space: Kubectl, instance: instances.Instance) -> None:
    """NATS greets whoever connects: no pod at any address of the machine, nor an event by its subscriber."""
    broker: Any = {"apiVersion": "eventing.knative.dev/v1", "kind": "Broker", "metadata": {"name": "b"}}
    trigger: Any = {
        **broker,
        "kind": "Trigger",
        "metadata": {"name": "t"},
        "spec": {"broker": "b", "subscriber": {"uri": f"http://127.0.0.1:{instance.ports.nats}/"}},
    }
    trigger["spec"]["delivery"] = {"retry": 0}
    space.apply(broker, trigger)
    space("wait", "--for=condition=Ready", "broker/b", "trigger/t", "--timeout=60s")
    with socket.create_connection(("127.0.0.1", instance.ports.nats), timeout=5) as client:
        assert client.recv(4) == b"INFO", "it is there"
    listed = subprocess.run(["ip", "-j", "-4", "address"], capture_output=True, text=True, check=True)
    own = [a["local"] for link in json.loads(listed.stdout) for a in link["addr_info"]]
    env = [{"name": "PLACES", "value": " ".join(f"{host}:{instance.ports.nats}" for host in own)}]
    space.apply(objects.pod("dials", objects.python(_DIAL, env=env), restartPolicy="Never"))
    space("wait", "--for=jsonpath={.status.phase}=Succeeded", "pod/dials", "--timeout=60s")
    assert space("logs", "dials").splitlines() == [f"{host}:{instance.ports.nats} closed" for host in own]
    ingress = f"http://broker-ingress.knative-eventing.svc.cluster.local/{space.namespace}/b"
    space.apply(objects.pod("sends", objects.python(_SEND, env=[{"name": "TO", "value": ingress}])))
    eventually(lambda: "b-1" in space("get", "deadletters", "-o", "name"), "the event cannot be delivered")
    reason = json.loads(space("get", "deadletter", "b-1", "-o", "json"))["spec"]["reason"]
    assert reason["code"] == 500, "nobody was connected to"
    assert "INFO" not in reason["answer"]


def _http(target: tuple[str, int], method: str, path: str) -> str:
    with socket.create_connection(target, timeout=5) as client:
        client.sendall(f"{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n".encode())
        return client.recv(1000).decode().partition("\r\n")[0]


def test_a_port_of_the_platform_is_no_host_port(space: Kubectl, instance: instances.Instance) -> None:
    """A pod that asks for one waits for a node, with a reason; the platform goes on to answer there."""
    for name, port in (("api", instance.ports.api), ("ingress", instance.ports.ingress)):
        pod: Any = objects.pod(name)
        pod["spec"]["containers"][0]["ports"] = [{"containerPort": 8080, "hostPort": port}]
        space.apply(pod)

        def refused(name: str = name) -> bool:
            listed = json.loads(space("get", "events", "-o", "json"))["items"]
            return any(
                (e["reason"], e["message"]) == ("FailedScheduling", _NO_PORT)
                for e in listed
                if e["involvedObject"]["name"] == name
            )

        eventually(refused, f"the event of {name}")
        assert space.path("pod", name, ".status.phase") == "Pending"
