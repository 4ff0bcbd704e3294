"""kubectl's everyday verbs against the API server alone."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.e2e.harness import Kubectl, eventually

pytestmark = pytest.mark.e2e


def pod(name: str, **labels: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": labels},
        "spec": {"containers": [{"name": "main", "image": "app:1", "ports": [{"containerPort": 8000}]}]},
    }


def deployment(name: str, replicas: int = 2) -> dict[str, Any]:
    container = {"name": "web", "image": "web:1", "env": [{"name": "MODE", "value": "plain"}]}
    template = {"metadata": {"labels": {"app": name}}, "spec": {"containers": [container]}}
    spec = {"replicas": replicas, "selector": {"matchLabels": {"app": name}}, "template": template}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "spec": spec}


def config_map(name: str, data: Mapping[str, str] | None = None, **labels: str) -> dict[str, Any]:
    metadata = {"name": name, "labels": labels}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": dict(data or {})}


def cells(table: str) -> list[list[str]]:
    return [line.split() for line in table.splitlines()]


def test_create_get_delete(kubectl: Kubectl) -> None:
    """What is created is got, as kubectl words it, and is gone once deleted."""
    assert kubectl("create", "-f", "-", stdin=pod("one")) == "pod/one created\n"
    assert kubectl.get("pod", "one")["spec"]["containers"][0]["image"] == "app:1"
    assert kubectl("delete", "configmap", "kube-root-ca.crt").startswith(
        'configmap "kube-root-ca.crt" deleted'
    )
    kubectl("delete", "pod", "one")
    assert 'pods "one" not found' in kubectl.refused("get", "pod", "one")


def test_table_columns_of_pods(kubectl: Kubectl) -> None:
    """`get` and `get -o wide` print Kubernetes' own columns."""
    kubectl("create", "-f", "-", stdin=pod("one"))
    assert cells(kubectl("get", "pods"))[0] == ["NAME", "READY", "STATUS", "RESTARTS", "AGE"]
    assert cells(kubectl("get", "pods"))[1][:4] == ["one", "0/1", "Pending", "0"]
    assert cells(kubectl("get", "pods", "-o", "wide"))[0][5:7] == ["IP", "NODE"]


@pytest.mark.parametrize(
    ("kind", "columns"),
    [
        ("deployments", "NAME READY UP-TO-DATE AVAILABLE AGE"),
        ("services", "NAME TYPE CLUSTER-IP EXTERNAL-IP PORT(S) AGE"),
        ("secrets", "NAME TYPE DATA AGE"),
        ("configmaps", "NAME DATA AGE"),
    ],
)
def test_table_columns(kubectl: Kubectl, kind: str, columns: str) -> None:
    """Other kinds have their own columns too."""
    kubectl.apply(deployment("web"), config_map("plain", {"a": "1"}))
    kubectl("create", "secret", "generic", "hidden", "--from-literal=a=b")
    kubectl("create", "service", "clusterip", "web", "--tcp=80:8000")
    assert " ".join(cells(kubectl("get", kind))[0]) == columns


def test_output_forms(kubectl: Kubectl) -> None:
    """JSON, YAML, names, JSONPath and custom columns all show the same object."""
    kubectl.apply(config_map("forms", {"colour": "red"}))
    get = ("get", "configmap", "forms", "-o")
    assert json.loads(kubectl(*get, "json"))["data"] == {"colour": "red"}
    assert yaml.safe_load(kubectl(*get, "yaml"))["kind"] == "ConfigMap"
    assert kubectl(*get, "name") == "configmap/forms\n"
    assert kubectl(*get, "jsonpath={.data.colour}") == "red"
    assert cells(kubectl(*get, "custom-columns=N:.metadata.name,C:.data.colour")) == [
        ["N", "C"],
        ["forms", "red"],
    ]


def test_sort_by(kubectl: Kubectl) -> None:
    """--sort-by orders tables by any field."""
    kubectl.apply(
        config_map("m1", {"rank": "3"}), config_map("m2", {"rank": "1"}), config_map("m3", {"rank": "2"})
    )
    ordered = kubectl("get", "configmap", "m1", "m2", "m3", "--sort-by={.data.rank}", "-o", "name").split()
    assert ordered == ["configmap/m2", "configmap/m3", "configmap/m1"]


def test_label_selectors(kubectl: Kubectl) -> None:
    """Equality, inequality, sets and existence select by labels."""
    kubectl.apply(pod("a", app="x", tier="front"), pod("b", app="x"), pod("c", app="y"))

    def selected(selector: str) -> set[str]:
        return set(kubectl("get", "pods", "-l", selector, "-o", "jsonpath={.items[*].metadata.name}").split())

    assert selected("app=x") == {"a", "b"}
    assert selected("app!=x") == {"c"}
    assert selected("app in (x,y),!tier") == {"b", "c"}
    assert selected("tier") == {"a"}
    assert selected("app notin (x)") == {"c"}


def test_field_selectors(kubectl: Kubectl) -> None:
    """The fields that Kubernetes selects by select; others are refused by name."""
    kubectl.apply(pod("a"), pod("b"))
    names = kubectl("get", "pods", "--field-selector", "metadata.name=a,status.phase=Pending", "-o", "name")
    assert names == "pod/a\n"
    assert "field label not supported" in kubectl.refused("get", "pods", "--field-selector", "spec.colour=x")


def test_all_namespaces(kubectl: Kubectl, admin: Kubectl) -> None:
    """-A adds the namespace column and shows every namespace."""
    kubectl.apply(config_map("everywhere"))
    rows = cells(admin("get", "configmaps", "-A"))
    assert rows[0] == ["NAMESPACE", "NAME", "DATA", "AGE"]
    assert [kubectl.namespace, "everywhere"] in [row[:2] for row in rows]
    assert "default" in {row[0] for row in rows}


def test_large_lists_come_in_chunks(kubectl: Kubectl) -> None:
    """--chunk-size pages through limit and continue without losing or repeating an object."""
    kubectl.apply(*(config_map(f"n{i}") for i in range(12)))
    names = kubectl("get", "configmaps", "--chunk-size=5", "-o", "name").split()
    assert len(names) == len(set(names)) == 13


def test_watch(kubectl: Kubectl) -> None:
    """`get -w` prints what is there and then each change."""
    kubectl.apply(config_map("seen"))
    with kubectl.started("get", "configmaps", "-w", "-o", "name") as watch:
        watch.says("configmap/seen")
        kubectl("create", "configmap", "later")
        watch.says("configmap/later")


def test_watch_only_names_deletions(kubectl: Kubectl) -> None:
    """A watch with --output-watch-events tells creation, change and deletion apart."""
    with kubectl.started("get", "configmaps", "--watch-only", "--output-watch-events") as watch:
        for number in range(200):
            name = f"probe{number}"
            kubectl("create", "configmap", name)  # until the watch is open
            if "ADDED" in watch.text:
                break
        kubectl("label", "configmap", name, "a=b")
        watch.says("MODIFIED")
        kubectl("delete", "configmap", name)
        watch.says("DELETED")


@pytest.mark.parametrize(
    ("target", "lines"),
    [
        ("pod/app", ["Image:", "app:1", "Port:", "8000/TCP", "Status:", "Pending"]),
        ("deployment/web", ["Replicas:", "2 desired", "StrategyType:", "RollingUpdate", "web:1"]),
        ("service/web", ["Selector:", "app=web", "ClusterIP", "80/TCP"]),
        ("configmap/words", ["colour:", "red"]),
        ("secret/hidden", ["password:", "7 bytes"]),
        ("serviceaccount/default", ["Name:", "default"]),
    ],
)
def test_describe(kubectl: Kubectl, target: str, lines: list[str]) -> None:
    """`describe` renders each kind, and no secret value."""
    kubectl.apply(pod("app"), deployment("web"), config_map("words", {"colour": "red"}))
    kubectl("create", "secret", "generic", "hidden", "--from-literal=password=hunter2")
    kubectl("create", "service", "clusterip", "web", "--tcp=80:8000")
    text = kubectl("describe", target)
    assert [line for line in lines if line not in text] == []
    assert "hunter2" not in text


def test_label_and_annotate(kubectl: Kubectl) -> None:
    """Labels and annotations are added, kept from an accidental overwrite, and removed."""
    kubectl.apply(config_map("marked"))
    kubectl("label", "configmap", "marked", "a=1")
    assert "already has a value" in kubectl.refused("label", "configmap", "marked", "a=2")
    kubectl("label", "configmap", "marked", "a=2", "--overwrite")
    kubectl("annotate", "configmap", "marked", "note=why not")
    metadata = kubectl.get("configmap", "marked")["metadata"]
    assert metadata["labels"]["a"] == "2"
    assert metadata["annotations"]["note"] == "why not"
    kubectl("label", "configmap", "marked", "a-")
    assert "a" not in kubectl.get("configmap", "marked")["metadata"].get("labels", {})


def test_patch_types(kubectl: Kubectl) -> None:
    """JSON patch, merge patch and strategic merge patch each do what they say."""
    kubectl.apply(deployment("web"), config_map("data", {"a": "1", "b": "2"}))
    kubectl(
        "patch", "configmap", "data", "--type=json", "-p", '[{"op":"replace","path":"/data/a","value":"9"}]'
    )
    kubectl("patch", "configmap", "data", "--type=merge", "-p", '{"data":{"b":null,"c":"3"}}')
    assert kubectl.get("configmap", "data")["data"] == {"a": "9", "c": "3"}
    env = {"name": "web", "env": [{"name": "EXTRA", "value": "yes"}]}
    kubectl(
        "patch",
        "deployment",
        "web",
        "-p",
        json.dumps({"spec": {"template": {"spec": {"containers": [env]}}}}),
    )
    container = kubectl.get("deployment", "web")["spec"]["template"]["spec"]["containers"][0]
    assert container["image"] == "web:1"
    assert {e["name"] for e in container["env"]} == {"MODE", "EXTRA"}


def test_json_patch_that_does_not_hold(kubectl: Kubectl) -> None:
    """A failed `test` operation refuses the whole patch."""
    kubectl.apply(config_map("data", {"a": "1"}))
    operations = [{"op": "test", "path": "/data/a", "value": "2"}, {"op": "remove", "path": "/data/a"}]
    kubectl.refused("patch", "configmap", "data", "--type=json", "-p", json.dumps(operations))
    assert kubectl.get("configmap", "data")["data"] == {"a": "1"}


def test_edit(kubectl: Kubectl, tmp_path: Path) -> None:
    """`edit` sends back what the editor changed, and nothing when it changed nothing."""
    kubectl.apply(config_map("edited", {"colour": "red"}))
    editor = tmp_path / "editor"
    editor.write_text('#!/bin/sh\nsed -i "s/colour: red/colour: blue/" "$1"\n')
    editor.chmod(0o755)
    assert "edited" in kubectl("edit", "configmap", "edited", env={"KUBE_EDITOR": str(editor)})
    assert kubectl.get("configmap", "edited")["data"] == {"colour": "blue"}
    result = kubectl.run("edit", "configmap", "edited", env={"KUBE_EDITOR": "true"})
    assert "no changes made" in result.out + result.err


def test_scale_and_set_image(kubectl: Kubectl) -> None:
    """`scale` goes through the scale subresource, `set image` through a patch; both bump the generation."""
    kubectl.apply(deployment("web"))
    kubectl("scale", "deployment", "web", "--replicas=4")
    kubectl("set", "image", "deployment/web", "web=web:2")
    read = kubectl.get("deployment", "web")
    assert read["spec"]["replicas"] == 4
    assert read["spec"]["template"]["spec"]["containers"][0]["image"] == "web:2"
    assert read["metadata"]["generation"] == 3
    assert "Expected replicas to be 9, was 4" in kubectl.refused(
        "scale", "deployment", "web", "--current-replicas=9", "--replicas=1"
    )


def test_replace(kubectl: Kubectl) -> None:
    """`replace` puts a whole object in place of what is there, and nothing where nothing is."""
    kubectl.apply(config_map("whole", {"a": "1"}))
    kubectl("replace", "-f", "-", stdin=config_map("whole", {"b": "2"}))
    assert kubectl.get("configmap", "whole")["data"] == {"b": "2"}
    assert "not found" in kubectl.refused("replace", "-f", "-", stdin=config_map("absent"))


def test_delete_by_label_and_all(kubectl: Kubectl) -> None:
    """Many objects are deleted by label, and all of a kind with --all."""
    kubectl.apply(config_map("a", x="1"), config_map("b", x="1"), config_map("c"))
    kubectl("delete", "configmaps", "-l", "x=1")
    assert {o["metadata"]["name"] for o in kubectl.list("configmaps")} >= {"c"}
    kubectl("delete", "configmaps", "--all")
    assert "c" not in {o["metadata"]["name"] for o in kubectl.list("configmaps")}


def test_finalizer_holds_a_deletion(kubectl: Kubectl) -> None:
    """An object with a finalizer stays, marked as deleted, until the finalizer is taken off."""
    finalized = config_map("held")
    finalized["metadata"]["finalizers"] = ["example.com/hold"]
    kubectl.apply(finalized)
    kubectl("delete", "configmap", "held", "--wait=false")
    assert kubectl.get("configmap", "held")["metadata"]["deletionTimestamp"]
    kubectl("patch", "configmap", "held", "--type=merge", "-p", '{"metadata":{"finalizers":null}}')
    eventually(lambda: kubectl.run("get", "configmap", "held").status == 1, "the object is gone")


def test_wait(kubectl: Kubectl) -> None:
    """`wait` returns on a condition, on deletion, and fails on a timeout."""
    kubectl.apply(pod("one"))
    kubectl.refused("wait", "--for=condition=Ready", "pod/one", "--timeout=1s")
    with kubectl.started("wait", "--for=delete", "pod/one", "--timeout=20s") as wait:
        kubectl("delete", "pod", "one", "--wait=false")
        assert wait.ends() == 0, wait.text


def test_wait_for_jsonpath(kubectl: Kubectl) -> None:
    """`wait --for=jsonpath` sees a value once it is written."""
    kubectl.version.need(23, "wait --for=jsonpath")
    kubectl.apply(config_map("state", {"phase": "old"}))
    with kubectl.started(
        "wait", "--for=jsonpath={.data.phase}=new", "configmap/state", "--timeout=20s"
    ) as wait:
        kubectl("patch", "configmap", "state", "--type=merge", "-p", '{"data":{"phase":"new"}}')
        assert wait.ends() == 0, wait.text


def test_explain(admin: Kubectl) -> None:
    """`explain` finds fields through the OpenAPI document, and says which do not exist."""
    text = admin("explain", "pod.spec.containers")
    assert "image" in text
    assert "livenessProbe" in text
    assert "rollingUpdate" in admin("explain", "deployment.spec.strategy", "--recursive")
    assert "does not exist" in admin.refused("explain", "pod.spec.colour")


def test_discovery(admin: Kubectl) -> None:
    """The kinds, their short names and versions are discovered."""
    rows = [line.split() for line in admin("api-resources", "--no-headers").splitlines()]
    assert ["pods", "po", "v1", "true", "Pod"] in rows
    assert ["deployments", "deploy", "apps/v1", "true", "Deployment"] in rows
    assert ["namespaces", "ns", "v1", "false", "Namespace"] in rows
    assert "apps/v1" in admin("api-versions").split()


def test_version_and_cluster_info(admin: Kubectl) -> None:
    """The server says what Kubernetes it serves, and where it is."""
    server = json.loads(admin("version", "-o", "json"))["serverVersion"]
    assert (server["major"], server["minor"]) == ("1", "36")
    assert "https://127.0.0.1:" in admin("cluster-info")


def test_generators(kubectl: Kubectl) -> None:
    """All of kubectl's own object makers (run, create …) are accepted."""
    kubectl("run", "one", "--image=app:1", "--env=A=b", "--port=8000")
    kubectl("create", "deployment", "web", "--image=web:1")
    kubectl("create", "service", "clusterip", "web", "--tcp=80:8000")
    kubectl("expose", "pod", "one", "--port=80", "--target-port=8000")
    kubectl("create", "secret", "generic", "hidden", "--from-literal=a=b")
    kubectl("create", "serviceaccount", "robot")
    kubectl("create", "role", "reader", "--verb=get,list", "--resource=pods")
    kubectl("create", "rolebinding", "readers", "--role=reader", "--serviceaccount=default:robot")
    assert kubectl.get("service", "one")["spec"]["ports"][0]["targetPort"] == 8000


def test_dry_run_on_the_server(kubectl: Kubectl) -> None:
    """--dry-run=server defaults and validates, and stores nothing."""
    answer = json.loads(kubectl("create", "-f", "-", "--dry-run=server", "-o", "json", stdin=pod("ghost")))
    assert answer["spec"]["restartPolicy"] == "Always"
    kubectl.refused("get", "pod", "ghost")
    kubectl.apply(config_map("kept", {"a": "1"}))
    kubectl("patch", "configmap", "kept", "--type=merge", "-p", '{"data":{"a":"2"}}', "--dry-run=server")
    kubectl("delete", "configmap", "kept", "--dry-run=server")
    assert kubectl.get("configmap", "kept")["data"] == {"a": "1"}


def test_a_new_namespace_has_its_default_objects(kubectl: Kubectl) -> None:
    """A new namespace has its service account and the authority's certificate at once."""
    assert kubectl.get("serviceaccount", "default")
    assert "BEGIN CERTIFICATE" in kubectl.get("configmap", "kube-root-ca.crt")["data"]["ca.crt"]


def test_secrets_are_base64(kubectl: Kubectl) -> None:
    """The field stringData is write-only; data comes back in base64."""
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "stringData": {"a": "b"}}
    kubectl.apply(secret)
    read = kubectl.get("secret", "s")
    assert read["data"] == {"a": "Yg=="}
    assert "stringData" not in read
