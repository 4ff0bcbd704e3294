"""StatefulSets and DaemonSets on a real platform, with the real kubectl: names, order, roll-outs, undos."""

from __future__ import annotations

from typing import Any

import pytest
from tests.e2e import objects
from tests.e2e.harness import Kubectl, ask, eventually, through

pytestmark = [pytest.mark.e2e, pytest.mark.root]


def template(name: str, version: str) -> dict[str, Any]:
    main = objects.container(env=[{"name": "VERSION", "value": version}])
    spec = {"containers": [main], "terminationGracePeriodSeconds": 1}
    return {"metadata": {"labels": {"app": name}}, "spec": spec}


def workload(kind: str, name: str, version: str, **spec: Any) -> dict[str, Any]:
    full = {
        "selector": {"matchLabels": {"app": name}},
        "template": template(name, version),
        **spec,
    }
    return {"apiVersion": "apps/v1", "kind": kind, "metadata": {"name": name}, "spec": full}


def headless(name: str) -> Any:
    return objects.service(name, clusterIP="None", ports=[{"name": "http", "port": objects.PORT}])


def rolled(space: Kubectl, what: str) -> str:
    return space("rollout", "status", what, "--timeout=60s")


def versions(space: Kubectl, name: str) -> dict[str, str]:
    """What each pod says its version is, by the pod's name."""
    pods = [
        pod for pod in space.list("pods", "-l", f"app={name}") if "deletionTimestamp" not in pod["metadata"]
    ]
    return {pod["metadata"]["name"]: ask(pod["status"]["podIP"], "env")["VERSION"] for pod in pods}


def test_a_stateful_set_has_names_of_its_own_and_is_updated_in_order(space: Kubectl) -> None:
    """Its pods resolve one another; it is scaled, updated by a partition and as a whole, and taken back."""
    set_ = workload("StatefulSet", "db", "1", replicas=2, serviceName="db")
    space.apply(headless("db"), set_)
    assert "2 new pods have been updated" in rolled(space, "statefulset/db")
    assert sorted(versions(space, "db")) == ["db-0", "db-1"]
    first = space.path("pod", "db-0", ".status.podIP")
    neighbour = f"http://db-1.db:{objects.PORT}/who"
    eventually(lambda: through(first, neighbour).status == 200, "db-0 reaches db-1 by its name")
    assert "db-1" in str(through(first, neighbour).value)

    space("scale", "statefulset/db", "--replicas=3")
    rolled(space, "statefulset/db")
    strategy = {"type": "RollingUpdate", "rollingUpdate": {"partition": 2}}
    space.apply(workload("StatefulSet", "db", "2", replicas=3, serviceName="db", updateStrategy=strategy))
    assert "partitioned roll out complete: 1 new pods have been updated" in rolled(space, "statefulset/db")
    assert versions(space, "db") == {"db-0": "1", "db-1": "1", "db-2": "2"}

    space.apply(workload("StatefulSet", "db", "2", replicas=3, serviceName="db"))
    rolled(space, "statefulset/db")
    eventually(lambda: set(versions(space, "db").values()) == {"2"}, "all are updated")
    history = space("rollout", "history", "statefulset/db", "--revision=1")
    assert "statefulset.apps/db with revision #1" in history
    assert "VERSION:\t1" in history
    space("rollout", "undo", "statefulset/db")
    rolled(space, "statefulset/db")
    eventually(lambda: set(versions(space, "db").values()) == {"1"}, "all are as before")
    before = space.path("pod", "db-0", ".metadata.uid")
    space("rollout", "restart", "statefulset/db")
    rolled(space, "statefulset/db")
    assert space.path("pod", "db-0", ".metadata.uid") != before
    assert space("get", "statefulset", "db").splitlines()[1].split()[:2] == ["db", "3/3"]

    space("delete", "statefulset/db")
    eventually(lambda: not space.list("pods", "-l", "app=db"), "its pods are gone")


@pytest.mark.parametrize("rolling", [{"maxUnavailable": 1}, {"maxUnavailable": 0, "maxSurge": 1}])
def test_a_daemon_set_is_rolled_and_taken_back(space: Kubectl, rolling: dict[str, int]) -> None:
    """Its one pod on the node is replaced: after the old one, or beside it."""
    name = f"agent{rolling['maxUnavailable']}"
    strategy = {"type": "RollingUpdate", "rollingUpdate": rolling}
    space.apply(workload("DaemonSet", name, "1", updateStrategy=strategy))
    rolled(space, f"daemonset/{name}")
    assert list(versions(space, name).values()) == ["1"]
    space.apply(workload("DaemonSet", name, "2", updateStrategy=strategy))
    rolled(space, f"daemonset/{name}")
    eventually(lambda: list(versions(space, name).values()) == ["2"], "it is updated")
    assert len(space("rollout", "history", f"daemonset/{name}").strip().splitlines()) == 4
    space("rollout", "undo", f"daemonset/{name}")
    rolled(space, f"daemonset/{name}")
    eventually(lambda: list(versions(space, name).values()) == ["1"], "it is as before")
    before = space.list("pods", "-l", f"app={name}")[0]["metadata"]["uid"]
    space("rollout", "restart", f"daemonset/{name}")
    rolled(space, f"daemonset/{name}")
    eventually(
        lambda: [pod["metadata"]["uid"] for pod in space.list("pods", "-l", f"app={name}")] != [before],
        "it is another one",
    )
    row = space("get", "daemonset", name).splitlines()[1].split()
    assert row[:6] == [name, "1", "1", "1", "1", "1"]
    space("delete", f"daemonset/{name}")
    eventually(lambda: not space.list("pods", "-l", f"app={name}"), "its pod is gone")
