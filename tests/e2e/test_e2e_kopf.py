"""An operator on kopf, run as its users run it, with admission webhooks that it installs by itself."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from tests.certificates import certify
from tests.e2e.harness import HERE, ApiServer, Kubectl, Started, background, eventually

pytestmark = pytest.mark.e2e

_SPEC: Final = {"type": "object", "properties": {"celsius": {"type": "integer"}}}
_DEFINITION: Final[dict[str, Any]] = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "kettles.kopf.example.org"},
    "spec": {
        "group": "kopf.example.org",
        "scope": "Namespaced",
        "names": {"plural": "kettles", "singular": "kettle", "kind": "Kettle", "listKind": "KettleList"},
        "versions": [
            {
                "name": "v1",
                "served": True,
                "storage": True,
                "schema": {
                    "openAPIV3Schema": {
                        "type": "object",
                        "properties": {
                            "spec": _SPEC,
                            "status": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
                        },
                    }
                },
            }
        ],
    },
}


def kettle(name: str, **spec: Any) -> dict[str, Any]:
    return {"apiVersion": "kopf.example.org/v1", "kind": "Kettle", "metadata": {"name": name}, "spec": spec}


@pytest.fixture(scope="module")
def operator(
    api_server: ApiServer, admin: Kubectl, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Started]:
    """Running, with its webhooks installed."""
    folder: Path = tmp_path_factory.mktemp("kopf")
    (folder / "ca.pem").write_bytes(certify(folder, "localhost"))
    admin.apply(_DEFINITION)
    admin("wait", "--for=condition=Established", "crd/kettles.kopf.example.org")
    command: list[str | Path] = [
        sys.executable,
        "-m",
        "kopf",
        "run",
        "--all-namespaces",
        HERE / "operator_of_kopf.py",
    ]
    env = {"KUBECONFIG": str(api_server.kubeconfig), "KOPF_TEST_CERTIFICATES": str(folder)}
    with background(command, env) as process:
        for kind in ("mutating", "validating"):
            configuration = f"{kind}webhookconfiguration/auto.kopf.example.org"
            probe = ("get", configuration, "-o", "jsonpath={.webhooks[*].clientConfig.url}")
            eventually(lambda words=probe: "localhost" in admin.run(*words).out, f"{kind}:\n{process.text}")  # type: ignore[misc]
        yield process
        assert process.process.poll() is None, process.text
        assert "Traceback" not in process.text, process.text


def test_an_objects_life(operator: Started, kubectl: Kubectl) -> None:
    """Created, retried, changed, ticked and deleted, all kept in the object's own status and annotations."""
    kubectl.apply(kettle("k", celsius=20))

    def path(expression: str) -> str:
        return kubectl.path("kettle", "k", expression)

    eventually(lambda: path(".status.create.celsius") == "20", f"it is created\n{operator.text}")
    eventually(lambda: path(".status.in_the_end") == "after 2", "what failed was tried again")
    eventually(lambda: path(".status.ticks") == "3", "its timer runs")
    assert path(".metadata.finalizers[0]") == "kopf.example.org/finalizer"
    kubectl("patch", "kettle", "k", "--type=merge", "-p", '{"spec":{"celsius":30}}')
    eventually(lambda: path(r".status.update/spec\.celsius.to") == "30", "the change was seen")
    eventually(lambda: any(e["reason"] == "Heated" for e in kubectl.list("events")), "its event is posted")
    kubectl("delete", "kettle", "k", "--timeout=20s")
    operator.says("emptied k")


def test_its_webhooks_change_warn_and_refuse(operator: Started, kubectl: Kubectl) -> None:
    """Admission goes through kopf's own server, which speaks TLS with a certificate of the test."""
    kubectl.apply(kettle("plain"))
    assert kubectl.path("kettle", "plain", ".spec.celsius") == "60"
    assert "water boils at 100" in kubectl.refused("apply", "-f", "-", stdin=kettle("hot", celsius=101))
    assert "Warning: that is hot" in kubectl.run("apply", "-f", "-", stdin=kettle("warm", celsius=95)).err
    assert "water boils" in kubectl.refused(
        "patch", "kettle", "plain", "--type=merge", "-p", '{"spec":{"celsius":200}}'
    )


def test_events_and_indexes(operator: Started, kubectl: Kubectl) -> None:
    """Watches of a built-in kind, chosen by label."""
    metadata = {"name": "small", "labels": {"of": "kettles"}}
    kubectl.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"size": "1l"}})
    operator.says("seen ADDED small ['1l']")
    kubectl("delete", "configmap", "small")
    operator.says("seen DELETED small")
