"""Pods on a real platform: real containers, logs, volumes, probes, restarts, limits and stops."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.e2e import objects
from tests.e2e.harness import ONDOL, Kubectl, Platform, ask, background, eventually

pytestmark = [pytest.mark.e2e, pytest.mark.root]


def state(kubectl: Kubectl, name: str) -> dict[str, Any]:
    """The status of a pod's first container."""
    statuses = kubectl.get("pod", name)["status"].get("containerStatuses", [])
    return dict(statuses[0]) if statuses else {}


def ended(kubectl: Kubectl, name: str) -> dict[str, Any]:
    """How a pod's container ended."""
    return dict(
        eventually(lambda: state(kubectl, name).get("state", {}).get("terminated"), f"{name} has ended")
    )


def ready(kubectl: Kubectl, name: str) -> str:
    """Wait until a pod is ready: its address."""
    kubectl("wait", "--for=condition=Ready", f"pod/{name}", "--timeout=25s")
    return kubectl.path("pod", name, ".status.podIP")


def test_kubectl_run_and_logs(space: Kubectl) -> None:
    """`kubectl run` starts an image that `ondol image build` made; its logs can be read and followed."""
    space("run", "first", f"--image={objects.IMAGE}", "--env=COLOUR=red", "--port=8080")
    address = ready(space, "first")
    with space.started("logs", "-f", "first") as follow:
        follow.says("started")  # it has no probe: Ready alone does not say that it answers
        assert space("logs", "first").splitlines()[0] == "started"
        assert ask(address, "env")["COLOUR"] == "red"
        ask(address, "who", mark="followed")
        follow.says("mark=followed")
    assert "started" not in space("logs", "first", "--tail=1")
    stamped = space("logs", "first", "--timestamps", "--tail=1").split()[0]
    assert stamped[4] == "-"
    assert "T" in stamped


def test_environment_and_volumes(space: Kubectl) -> None:
    """ConfigMaps, Secrets, fields of the pod and emptyDir reach the container."""
    space("create", "configmap", "settings", "--from-literal=colour=red", "--from-literal=size=9")
    space("create", "secret", "generic", "hidden", "--from-literal=password=hunter2")
    env: list[dict[str, Any]] = [
        {"name": "ONE", "valueFrom": {"configMapKeyRef": {"name": "settings", "key": "size"}}},
        {"name": "PASSWORD", "valueFrom": {"secretKeyRef": {"name": "hidden", "key": "password"}}},
        {"name": "OWN_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
        {"name": "JOINED", "value": "$(OWN_NAME)-$(ONE)"},
    ]
    mounts = [
        {"name": "settings", "mountPath": "/etc/settings"},
        {"name": "hidden", "mountPath": "/etc/hidden", "readOnly": True},
        {"name": "scratch", "mountPath": "/scratch"},
    ]
    writer = objects.python("open('/scratch/note','w').write('from init')")
    writer |= {"name": "writer", "volumeMounts": mounts[2:]}
    main = objects.container(env=env, envFrom=[{"configMapRef": {"name": "settings"}}], volumeMounts=mounts)
    volumes = [
        {"name": "settings", "configMap": {"name": "settings"}},
        {"name": "hidden", "secret": {"secretName": "hidden"}},
        {"name": "scratch", "emptyDir": {}},
    ]
    space.apply(objects.pod("full", main, initContainers=[writer], volumes=volumes))
    address = ready(space, "full")
    variables = ask(address, "env")
    assert (variables["ONE"], variables["PASSWORD"], variables["JOINED"]) == ("9", "hunter2", "full-9")
    assert variables["colour"] == "red"
    assert ask(address, "file", path="/etc/settings/colour") == "red"
    assert ask(address, "file", path="/etc/hidden/password") == "hunter2"
    assert ask(address, "file", path="/scratch/note") == "from init"


def test_crash_loop(space: Kubectl) -> None:
    """A container that ends in an error is started again with growing waits, counted and told."""
    space.apply(objects.pod("crashing", objects.python("import sys; print('bye'); sys.exit(3)")))
    eventually(lambda: state(space, "crashing").get("restartCount", 0) >= 2, "two restarts")
    waiting = eventually(lambda: state(space, "crashing")["state"].get("waiting"), "it waits")
    assert waiting["reason"] == "CrashLoopBackOff"
    assert state(space, "crashing")["lastState"]["terminated"]["exitCode"] == 3
    assert "bye" in space("logs", "crashing", "--previous")
    events = ("get", "events", "--field-selector", "involvedObject.name=crashing")
    eventually(lambda: "BackOff" in space(*events), "an event tells")
    assert "CrashLoopBackOff" in space("get", "pod", "crashing")


def test_missing_image(space: Kubectl) -> None:
    """A missing image is told as such in the pod's status, with what makes one."""
    space.apply(objects.pod("imageless", objects.container(image="ondol.local/none:1")))

    def refused() -> Any:
        waiting = state(space, "imageless").get("state", {}).get("waiting", {})
        return waiting if waiting.get("reason", "").startswith(("ErrImage", "ImagePull")) else None

    waiting = eventually(refused, "the image is missed")
    assert "none:1" in waiting["message"]
    assert "build or import it first" in waiting["message"]


@pytest.mark.parametrize(("code", "phase", "reason"), [(0, "Succeeded", "Completed"), (7, "Failed", "Error")])
def test_exit_codes(space: Kubectl, code: int, phase: str, reason: str) -> None:
    """A pod that is not to be restarted ends as its container did."""
    name = f"exit{code}"
    space.apply(objects.pod(name, objects.python(f"import sys; sys.exit({code})"), restartPolicy="Never"))
    state = ended(space, name)
    assert (state["exitCode"], state["reason"]) == (code, reason)
    eventually(lambda: space.path("pod", name, ".status.phase") == phase, phase)


def test_memory_limit(space: Kubectl) -> None:
    """Who takes more memory than allowed is killed for it, and it says so."""
    limit = {"limits": {"memory": "64Mi"}}
    eater = objects.python("x = b'x' * (300 << 20); print(len(x))", resources=limit)
    space.apply(objects.pod("greedy", eater, restartPolicy="Never"))
    state = ended(space, "greedy")
    assert (state["reason"], state["exitCode"]) == ("OOMKilled", 137)


def test_readiness_decides_who_is_asked(space: Kubectl) -> None:
    """A pod that is not ready is no endpoint of its Service; when it is, it becomes one."""
    probe = {"exec": {"command": ["cat", "/tmp/ready"]}, "periodSeconds": 1}
    code = "import time; time.sleep(3); open('/tmp/ready','w').close(); time.sleep(600)"
    space.apply(objects.service("slow"), objects.pod("slow", objects.python(code, readinessProbe=probe)))
    eventually(lambda: space.path("pod", "slow", ".status.phase") == "Running", "it runs")
    assert not state(space, "slow")["ready"]

    def endpoints() -> list[bool]:
        slices = space.list("endpointslices", "-l", "kubernetes.io/service-name=slow")
        return [e["conditions"].get("ready", False) for s in slices for e in s["endpoints"] or []]

    assert True not in endpoints()
    ready(space, "slow")
    eventually(lambda: endpoints() == [True], "it is an endpoint")


def test_liveness_restarts(space: Kubectl) -> None:
    """A container that fails its liveness probe is restarted."""
    probe = {
        "exec": {"command": ["cat", "/tmp/alive"]},
        "periodSeconds": 1,
        "failureThreshold": 1,
        "initialDelaySeconds": 1,
    }
    code = (
        "import os, time; open('/tmp/alive', 'w').close(); time.sleep(2); "
        "os.remove('/tmp/alive'); time.sleep(600)"
    )
    main = objects.python(code, livenessProbe=probe)
    stuck = objects.pod("stuck", main, terminationGracePeriodSeconds=1)
    space.apply(stuck)
    eventually(lambda: state(space, "stuck").get("restartCount", 0) >= 1, "a restart")
    events = ("get", "events", "--field-selector", "involvedObject.name=stuck")
    eventually(lambda: "Unhealthy" in space(*events), "an event tells")


def test_graceful_stop(space: Kubectl) -> None:
    """A stopped pod gets SIGTERM and its time; it is gone only once it has ended."""
    main = objects.container(env=[{"name": "STOP_AFTER_S", "value": "1.5"}])
    space.apply(objects.pod("graceful", main, terminationGracePeriodSeconds=20))
    ready(space, "graceful")
    with space.started("logs", "-f", "graceful") as follow:
        follow.says("started")
        space("delete", "pod", "graceful", "--wait=false")
        assert "Terminating" in space("get", "pod", "graceful")
        follow.says("stopped")
    eventually(lambda: space.run("get", "pod", "graceful").status == 1, "the pod is gone")


def test_grace_runs_out(space: Kubectl) -> None:
    """Who does not heed SIGTERM is killed when the grace period is over."""
    code = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
        "print('deaf', flush=True); time.sleep(600)"
    )
    space.apply(objects.pod("deaf", objects.python(code), terminationGracePeriodSeconds=1))
    eventually(lambda: "deaf" in space.run("logs", "deaf").out, "it runs")
    space("delete", "pod", "deaf", timeout_s=15)


def test_two_containers_share_the_network(space: Kubectl) -> None:
    """Containers of one pod reach each other on loopback; -c chooses whose logs."""
    helper = objects.python(
        "import urllib.request, time\n"
        "for _ in range(100):\n"
        "    try: print(urllib.request.urlopen('http://127.0.0.1:8080/').status, flush=True); break\n"
        "    except OSError: time.sleep(0.1)\n"
        "time.sleep(600)"
    )
    space.apply(objects.pod("pair", objects.container(), {**helper, "name": "helper"}))
    ready(space, "pair")
    eventually(lambda: "200" in space("logs", "pair", "-c", "helper"), "the helper reached the server")


def test_service_account_token_works(space: Kubectl) -> None:
    """A pod finds the API server and its own token, and is recognised by it."""
    code = (
        "import ssl, urllib.request, urllib.error\n"
        "base = '/var/run/secrets/kubernetes.io/serviceaccount/'\n"
        "token = open(base + 'token').read()\n"
        "ssl = ssl.create_default_context(cafile=base + 'ca.crt')\n"
        "url = 'https://kubernetes.default.svc/api/v1/nodes'\n"
        "request = urllib.request.Request(url, headers={'Authorization': 'Bearer ' + token})\n"
        "try: urllib.request.urlopen(request, context=ssl)\n"
        "except urllib.error.HTTPError as e: print(e.read().decode())"
    )
    space.apply(objects.pod("inside", objects.python(code), restartPolicy="Never"))
    assert ended(space, "inside")["exitCode"] == 0
    message = json.loads(space("logs", "inside"))["message"]
    assert f'User "system:serviceaccount:{space.namespace}:default" cannot list resource "nodes"' in message


def test_deployment_rolls_out_and_back(space: Kubectl) -> None:
    """Rollout, its status and history, undo and scale, by kubectl."""
    space.apply(objects.deployment("rolling", replicas=2))
    rollout = ("rollout", "status", "deployment/rolling", "--timeout=25s")
    assert "successfully rolled out" in space(*rollout)
    space("set", "env", "deployment/rolling", "VERSION=2")
    assert "successfully rolled out" in space(*rollout)
    assert len(space("rollout", "history", "deployment/rolling").strip().splitlines()) == 4
    space("rollout", "undo", "deployment/rolling")
    space(*rollout)
    (main,) = space.get("deployment", "rolling")["spec"]["template"]["spec"]["containers"]
    assert main["env"][0] == {"name": "VERSION", "value": "1"}
    space("scale", "deployment/rolling", "--replicas=3")
    space(*rollout)
    eventually(lambda: space.path("deployment", "rolling", ".status.readyReplicas") == "3", "three are ready")
    space("rollout", "restart", "deployment/rolling")
    space(*rollout)


@pytest.mark.parametrize("cascade", ["background", "foreground", "orphan"])
def test_cascading_deletion(space: Kubectl, cascade: str) -> None:
    """What a Deployment owns goes with it, before it, or stays, as asked."""
    space.version.need(20, "--cascade=orphan")
    name = f"owner-{cascade}"
    space.apply(objects.deployment(name))
    pods = ("pods", "-l", f"app={name}")
    eventually(lambda: len(space.list(*pods)) == 1, "a pod")
    space("delete", "deployment", name, f"--cascade={cascade}", "--wait=true")
    if cascade == "orphan":
        assert len(space.list("replicasets", "-l", f"app={name}")) == 1
        space("delete", "replicasets", "-l", f"app={name}")
    eventually(lambda: not space.list(*pods), "its pods are gone")


def test_namespace_deletion_takes_everything(cluster: Kubectl) -> None:
    """A deleted namespace takes its pods and objects with it and is then gone."""
    cluster("create", "namespace", "doomed")
    inside = cluster.inside("doomed")
    inside.apply(objects.deployment("web"), objects.service("web"))
    eventually(lambda: inside.list("pods"), "a pod")
    cluster("delete", "namespace", "doomed", timeout_s=40)
    cluster.refused("get", "namespace", "doomed")


def test_ondol_speaks_of_the_same_objects(platform: Platform, space: Kubectl) -> None:
    """`ondol get`, `logs`, `apply` and `delete` do without kubectl."""
    space.apply(objects.pod("plain"), objects.service("plain"))
    ready(space, "plain")
    place = ("-n", space.namespace)
    assert "plain" in platform("get", "pods", *place)
    both = platform("get", "pod/plain", "svc/plain", *place, "-o", "name").splitlines()
    assert both == ["pod/plain", "service/plain"]
    assert "started" in platform("logs", "svc/plain", *place, "--since", "1h")
    watch = [ONDOL, "get", "cm", "-w", *place, "--data-dir", str(platform.data_dir)]
    with background(watch) as changes:
        changes.says("kube-root-ca.crt")
        space("create", "configmap", "newcomer")
        changes.says("newcomer")
    assert json.loads(platform("get", "pod", "plain", *place, "-o", "json"))["metadata"]["name"] == "plain"
    assert "started" in platform("logs", "plain", *place)
    platform("delete", "pod", "plain", *place)
    assert platform.run("get", "pod", "none", *place).status == 4
