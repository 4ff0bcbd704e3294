"""CustomResourceDefinitions and custom resources with the real kubectl."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from tests.e2e.harness import Kubectl

pytestmark = pytest.mark.e2e

SIZE = {"type": "integer", "minimum": 1, "maximum": 64, "description": "How many entries it keeps."}
SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["spec"],
    "properties": {
        "spec": {
            "type": "object",
            "required": ["size"],
            "properties": {
                "size": SIZE,
                "replicas": {"type": "integer", "default": 1},
                "policy": {"type": "string", "enum": ["lru", "fifo"], "default": "lru"},
                "alias": {"type": "string", "pattern": "^[a-z]+$"},
            },
        },
        "status": {
            "type": "object",
            "properties": {
                "replicas": {"type": "integer"},
                "conditions": {
                    "type": "array",
                    "items": {
                        "type": "object",
                        "properties": {"type": {"type": "string"}, "status": {"type": "string"}},
                    },
                },
            },
        },
    },
}


def definition(group: str) -> dict[str, Any]:
    version = {
        "name": "v1",
        "served": True,
        "storage": True,
        "subresources": {
            "status": {},
            "scale": {"specReplicasPath": ".spec.replicas", "statusReplicasPath": ".status.replicas"},
        },
        "additionalPrinterColumns": [
            {"name": "Size", "type": "integer", "jsonPath": ".spec.size"},
            {"name": "Ready", "type": "string", "jsonPath": ".status.conditions[?(@.type=='Ready')].status"},
        ],
        "schema": {"openAPIV3Schema": SCHEMA},
    }
    names = {"plural": "caches", "singular": "cache", "kind": "Cache", "shortNames": ["ca"]}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"caches.{group}"},
        "spec": {"group": group, "scope": "Namespaced", "names": names, "versions": [version]},
    }


GROUP = "shop.example.com"


@pytest.fixture(scope="module", autouse=True)
def caches(admin: Kubectl) -> Iterator[None]:
    """The kind Cache is served while these tests run, and gone with its objects afterwards."""
    admin.apply(definition(GROUP))
    admin("wait", "--for=condition=Established", f"crd/caches.{GROUP}", "--timeout=10s")
    yield
    admin("delete", "crd", f"caches.{GROUP}")
    assert "doesn't have a resource type" in admin.refused(
        "get", "caches"
    ) or "could not find" in admin.refused("get", "caches")


def cache(name: str, **spec: Any) -> dict[str, Any]:
    return {"apiVersion": f"{GROUP}/v1", "kind": "Cache", "metadata": {"name": name}, "spec": spec}


def test_defaults_and_printer_columns(kubectl: Kubectl) -> None:
    """Defaults of the schema are filled in; printer columns make the table."""
    kubectl.apply(cache("small", size=3))
    assert kubectl.get("cache", "small")["spec"] == {"size": 3, "replicas": 1, "policy": "lru"}
    header, row = (line.split() for line in kubectl("get", "ca").splitlines())
    assert (header, row) == (["NAME", "SIZE", "READY"], ["small", "3"])


def test_status_subresource(kubectl: Kubectl) -> None:
    """A write to the object does not touch its status; a write to the status touches nothing else."""
    kubectl.version.need(24, "--subresource")
    kubectl.apply(cache("one", size=3))
    status = '{"spec":{"size":9},"status":{"conditions":[{"type":"Ready","status":"True"}]}}'
    kubectl("patch", "cache", "one", "--type=merge", "-p", status)
    assert "status" not in kubectl.get("cache", "one")
    status = status.replace("9", "5")
    kubectl("patch", "cache", "one", "--subresource=status", "--type=merge", "-p", status)
    cached = kubectl.get("cache", "one")
    assert cached["spec"]["size"] == 9
    assert cached["metadata"]["generation"] == 2
    assert kubectl("get", "caches").splitlines()[1].split() == ["one", "9", "True"]
    kubectl("wait", "--for=condition=Ready", "cache/one", "--timeout=5s")


def test_scale_subresource(kubectl: Kubectl) -> None:
    """`scale` works on custom kinds that declare where their replicas are."""
    kubectl.apply(cache("many", size=3))
    kubectl("scale", "cache", "many", "--replicas=4")
    assert kubectl.get("cache", "many")["spec"]["replicas"] == 4


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({}, "spec.size: Required value"),
        ({"size": 0}, "spec.size in body should be greater than or equal to 1"),
        ({"size": 65}, "spec.size in body should be less than or equal to 64"),
        ({"size": "big"}, 'spec.size in body must be of type integer: "string"'),
        (
            {"size": 3, "policy": "lifo"},
            'spec.policy: Unsupported value: "lifo": supported values: "lru", "fifo"',
        ),
        ({"size": 3, "alias": "A1"}, "spec.alias in body should match '^[a-z]+$'"),
    ],
)
def test_validation_messages(kubectl: Kubectl, spec: dict[str, Any], message: str) -> None:
    """What breaks the schema is refused with field, value and rule."""
    answer = kubectl.refused("apply", "--validate=false", "-f", "-", stdin=cache("wrong", **spec))
    assert message in answer
    assert kubectl.list("caches") == []


def test_unknown_fields(kubectl: Kubectl) -> None:
    """An unknown field is an error or, where asked for, a warning; it is never kept."""
    kubectl.version.need(25, "field validation by the server")
    document = cache("odd", size=3, colour="red")
    assert 'unknown field "spec.colour"' in kubectl.refused("apply", "-f", "-", stdin=document)
    result = kubectl.run("apply", "--validate=warn", "-f", "-", stdin=document)
    assert result.status == 0
    assert 'Warning: unknown field "spec.colour"' in result.err
    assert "colour" not in kubectl.get("cache", "odd")["spec"]


def test_apply_both_ways(kubectl: Kubectl) -> None:
    """Client-side and server-side apply work on custom kinds."""
    kubectl.apply(cache("both", size=3))
    assert "configured" in kubectl.apply(cache("both", size=4))
    kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=cache("both", size=5))
    assert kubectl.get("cache", "both")["spec"]["size"] == 5


def test_explain_and_describe(kubectl: Kubectl) -> None:
    """A custom kind is explained from its schema and described like any other."""
    assert "How many entries it keeps." in kubectl("explain", "cache.spec")
    kubectl.apply(cache("told", size=3))
    assert "Size:" in kubectl("describe", "cache", "told")


def test_watch_of_custom_resources(kubectl: Kubectl) -> None:
    """Custom objects are watched like built-in ones, with their own columns."""
    with kubectl.started("get", "caches", "-w", "-o", "name") as watch:
        kubectl.apply(cache("later", size=3))
        watch.says(f"cache.{GROUP}/later")


def test_definition_with_a_bad_schema(admin: Kubectl) -> None:
    """A definition that breaks the rules of structural schemas is refused with the path of the fault."""
    wrong = definition("bad.example.com")
    wrong["spec"]["versions"][0]["schema"] = {"openAPIV3Schema": {"properties": {"spec": {}}}}
    message = admin.refused("apply", "--validate=false", "-f", "-", stdin=wrong)
    assert "spec.validation.openAPIV3Schema.type" in message


def test_definition_whose_name_does_not_fit(admin: Kubectl) -> None:
    """A definition is called after its plural and group."""
    wrong = definition("bad.example.com")
    wrong["metadata"]["name"] = "others.bad.example.com"
    assert "metadata.name" in admin.refused("apply", "-f", "-", stdin=wrong)
