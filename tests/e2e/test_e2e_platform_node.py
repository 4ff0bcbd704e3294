"""What a pod can say to its node, on a real platform: sizes, restarts, volumes, names, runtimes."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.e2e import objects
from tests.e2e.harness import Kubectl, eventually

pytestmark = [pytest.mark.e2e, pytest.mark.root]

MEMORY = (
    "import pathlib, sys\n"
    "for name in ('memory/memory.limit_in_bytes', 'memory.max'):\n"
    "    path = pathlib.Path('/sys/fs/cgroup', name)\n"
    "    if path.exists(): print(path.read_text().strip())\n"
)


def status(kubectl: Kubectl, name: str) -> dict[str, Any]:
    """The status of a pod's first container."""
    statuses = kubectl.get("pod", name)["status"].get("containerStatuses", [])
    return dict(statuses[0]) if statuses else {}


def events(kubectl: Kubectl, name: str) -> list[str]:
    """The reasons of a pod's events."""
    listed = kubectl.list("events", "--field-selector", f"involvedObject.name={name}")
    return [each["reason"] for each in listed]


def resize(kubectl: Kubectl, name: str, **limits: str) -> None:
    """Ask for other limits of the first container."""
    sizes = {"limits": limits, "requests": limits}
    patch = {"spec": {"containers": [{"name": "main", "resources": sizes}]}}
    kubectl("patch", "pod", name, "--subresource=resize", "--patch", json.dumps(patch))


def test_a_container_is_resized_in_place(space: Kubectl) -> None:
    """It sees its new limit without a restart; the status and the events say so."""
    size = {"cpu": "100m", "memory": "64Mi"}
    space.apply(objects.pod("sized", objects.container(resources={"limits": size, "requests": size})))
    space("wait", "--for=condition=Ready", "pod/sized", "--timeout=25s")
    resize(space, "sized", cpu="200m", memory="96Mi")
    eventually(lambda: status(space, "sized")["resources"]["limits"]["memory"] == "96Mi", "it has its size")
    eventually(lambda: "ResizeCompleted" in events(space, "sized"), "an event tells")
    assert int(space("exec", "sized", "--", "python3", "-c", MEMORY)) == 96 << 20
    assert status(space, "sized")["restartCount"] == 0
    assert status(space, "sized")["allocatedResources"] == {"cpu": "200m", "memory": "96Mi"}
    resize(space, "sized", cpu="200m", memory="1Mi")

    def refusal() -> Any:
        listed = space.get("pod", "sized")["status"]["conditions"]
        return next((c for c in listed if c["type"] == "PodResizeInProgress" and c.get("message")), None)

    condition = eventually(refusal, "it cannot be made")
    assert condition["reason"] == "Error"
    assert 'attempting to set container "main" memory limit (1048576) below' in condition["message"]
    resize(space, "sized", cpu="100", memory="96Mi")
    waiting = ("wait", "--for=condition=PodResizePending", "pod/sized", "--timeout=25s")
    space(*waiting)
    assert "ResizeInfeasible" in events(space, "sized")


def test_exit_codes_decide_who_runs_again(space: Kubectl) -> None:
    """A pod that never restarts tries again after the exit codes that its container names."""
    rules = [{"action": "Restart", "exitCodes": {"operator": "In", "values": [42]}}]
    code = "import os, sys; n = len(os.listdir('/tries')); open(f'/tries/{n}', 'w'); sys.exit((42, 0)[n])"
    main = objects.python(code, restartPolicy="Never", restartPolicyRules=rules)
    main |= {"volumeMounts": [{"name": "tries", "mountPath": "/tries"}]}
    volumes = [{"name": "tries", "emptyDir": {}}]
    space.apply(objects.pod("again", main, restartPolicy="Never", volumes=volumes))
    eventually(lambda: space.path("pod", "again", ".status.phase") == "Succeeded", "it has succeeded")
    assert status(space, "again")["restartCount"] == 1
    assert status(space, "again")["lastState"]["terminated"]["exitCode"] == 42


def test_a_pod_is_held_to_its_limits_as_a_whole(space: Kubectl) -> None:
    """Two containers together have no more memory than their pod, and each sees that limit."""
    eater = "x = b'x' * (40 << 20); import time; time.sleep(600)"
    both = [{**objects.python(eater), "name": name} for name in ("one", "two")]
    whole = {"limits": {"memory": "64Mi", "cpu": "1"}}
    space.apply(objects.pod("whole", *both, resources=whole, restartPolicy="Never"))

    def is_killed() -> bool:
        statuses = space.get("pod", "whole")["status"].get("containerStatuses", [])
        return any(s["state"].get("terminated", {}).get("exitCode") == 137 for s in statuses)

    eventually(is_killed, "one of them has taken too much")
    assert space.path("pod", "whole", ".status.qosClass") == "Guaranteed"


def test_a_runtime_class_names_the_runtime(space: Kubectl) -> None:
    """Another one than the node's own runs the pod, commands in it too; one that is not here is told of."""
    for name, handler in (("other", "runc"), ("missing", "kata")):
        meta = {"name": name}
        space.apply(
            {"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "metadata": meta, "handler": handler}
        )
    space.apply(objects.pod("by-runc", runtimeClassName="other"))
    space.apply(objects.pod("by-none", runtimeClassName="missing"))
    space("wait", "--for=condition=Ready", "pod/by-runc", "--timeout=25s")
    assert status(space, "by-runc")["containerID"].startswith("runc://")
    assert space("exec", "by-runc", "--", "echo", "hello").strip() == "hello"

    def refusal() -> Any:
        listed = space.list("events", "--field-selector", "involvedObject.name=by-none")
        return next((e["message"] for e in listed if e["reason"] == "FailedCreatePodSandBox"), None)

    assert 'no runtime for "kata" is configured' in eventually(refusal, "it is told of")
    space("delete", "pod", "by-runc", "--timeout=25s")


LOOK = """
import os, socket
print(socket.gethostname(), os.environ['COLOUR'], os.path.exists('/other/usr/bin/env'))
for name in ('/other/x', '/bin-of-it/x', '/outer/inner/x'):
    try:
        open(name, 'w')
    except OSError as error:
        print(error.errno)
print(os.access('/other/usr/bin/env', os.X_OK), len(os.listdir('/bin-of-it')) > 10)
"""


def test_what_a_container_gets(space: Kubectl) -> None:
    """An image's files, a variable from a file, a host name, and a mount that is read-only to its depths."""
    writer = objects.python("open('/told/env', 'w').write(\"# colours\\nCOLOUR='deep red'\\n\")")
    writer |= {"name": "writer", "volumeMounts": [{"name": "told", "mountPath": "/told"}]}
    reference = {"volumeName": "told", "path": "env", "key": "COLOUR"}
    nested = {"name": "outer", "mountPath": "/outer", "readOnly": True, "recursiveReadOnly": "Enabled"}
    mounts = [
        {"name": "files", "mountPath": "/other"},
        {"name": "files", "mountPath": "/bin-of-it", "subPath": "usr/bin"},
        nested,
    ]
    env = [{"name": "COLOUR", "valueFrom": {"fileKeyRef": reference}}]
    main = objects.python(LOOK, env=env, volumeMounts=mounts)
    volumes = [
        {"name": "told", "emptyDir": {}},
        {"name": "files", "image": {"reference": objects.IMAGE, "pullPolicy": "Never"}},
        {"name": "outer", "hostPath": {"path": "/dev"}},
    ]
    own: dict[str, Any] = {
        "initContainers": [writer],
        "volumes": volumes,
        "hostnameOverride": "own.name.example",
    }
    missing = {"name": "files", "image": {"reference": "ondol.local/none:1", "pullPolicy": "Never"}}
    lacking = objects.python("", volumeMounts=mounts[:1])
    space.apply(
        objects.pod("gets", main, restartPolicy="Never", **own),
        objects.pod("lacks", lacking, volumes=[missing]),
    )
    eventually(lambda: space.path("pod", "gets", ".status.phase") == "Succeeded", "it has looked")
    lines = space("logs", "gets").splitlines()
    assert lines[0] == "own.name.example deep red True"
    assert lines[1:3] == ["30", "30"]
    assert lines[-1] == "False True"
    shown = next(m for m in status(space, "gets")["volumeMounts"] if m["name"] == "outer")
    assert shown["recursiveReadOnly"] == "Enabled"
    waiting = eventually(lambda: status(space, "lacks").get("state", {}).get("waiting"), "it waits")
    eventually(
        lambda: status(space, "lacks")["state"]["waiting"]["reason"] == "ErrImageNeverPull", "it is told why"
    )
    assert waiting
    assert "ondol.local/none:1" in status(space, "lacks")["state"]["waiting"]["message"]
