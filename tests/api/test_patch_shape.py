"""Shapes: what the table of facts and a CRD's schema say about ownership and merging."""

from __future__ import annotations

import pytest

from ondol.api import kinds
from ondol.api.patch import apply, shape


@pytest.mark.parametrize(
    ("type_name", "path", "form", "atomic", "keys"),
    [
        ("io.k8s.api.core.v1.Pod", "spec.containers", "list", False, ("name",)),
        ("io.k8s.api.core.v1.Pod", "spec.containers.ports", "list", False, ("containerPort", "protocol")),
        ("io.k8s.api.core.v1.Pod", "spec.containers.command", "list", True, ()),
        ("io.k8s.api.core.v1.Pod", "spec.nodeSelector", "map", True, ()),
        ("io.k8s.api.core.v1.Pod", "metadata.labels", "map", False, ()),
        ("io.k8s.api.core.v1.Pod", "metadata.finalizers", "list", False, ()),
        ("io.k8s.api.core.v1.Pod", "metadata.ownerReferences", "list", False, ("uid",)),
        ("io.k8s.api.core.v1.Pod", "spec.containers.resources.limits", "map", False, ()),
        ("io.k8s.api.core.v1.Service", "spec.ports.targetPort", "leaf", False, ()),
        ("io.k8s.api.apps.v1.Deployment", "spec.selector", "map", True, ()),
    ],
)
def test_the_table_of_facts_gives_the_shape(
    type_name: str, path: str, form: str, atomic: bool, keys: tuple[str, ...]
) -> None:
    """Lists and maps merge as Kubernetes' own schema says."""
    derived = shape.of_builtin(type_name)
    for name in path.split("."):
        within = derived.element if derived.form == "list" else derived
        assert within is not None
        derived = within.fields[name]
    assert (derived.form, derived.atomic, derived.keys) == (form, atomic, keys)


def test_every_built_in_kind_has_a_shape_that_can_be_applied() -> None:
    """No kind is left out, and recursion in a type ends."""
    for kind in kinds.builtin():
        derived = shape.of_builtin(kind.type)
        assert derived.form == "map"
        document = {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": {"name": "x"}}
        labelled = {**document, "metadata": {"name": "x", "labels": {"a": "1"}}}
        created = apply.apply(None, labelled, schema=derived, manager="m", now=0.0)
        assert created["metadata"]["managedFields"][0]["fieldsV1"] == {
            "f:metadata": {"f:labels": {"f:a": {}}}
        }


def test_shapes_are_built_once() -> None:
    """The API server asks on every write."""
    assert shape.of_builtin("io.k8s.api.core.v1.Pod") is shape.of_builtin("io.k8s.api.core.v1.Pod")


def test_defaults_of_keys_come_from_the_table() -> None:
    """A port without a protocol is the TCP port."""
    pod = shape.of_builtin("io.k8s.api.core.v1.Pod")
    containers = pod.fields["spec"].fields["containers"].element
    assert containers is not None
    assert containers.fields["ports"].key_defaults["protocol"] == "TCP"


def test_a_custom_schema_gives_the_shape() -> None:
    """List and map types, embedded objects, int-or-string and free-form parts are all known."""
    derived = shape.of_custom(
        {
            "type": "object",
            "properties": {
                "spec": {
                    "type": "object",
                    "properties": {
                        "port": {"x-kubernetes-int-or-string": True},
                        "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
                        "unknown": {"x-kubernetes-preserve-unknown-fields": True},
                        "template": {"type": "object", "x-kubernetes-embedded-resource": True},
                        "items": {
                            "type": "array",
                            "x-kubernetes-list-type": "map",
                            "x-kubernetes-list-map-keys": ["a", "b"],
                            "items": {
                                "type": "object",
                                "properties": {
                                    "a": {"type": "string"},
                                    "b": {"type": "string", "default": "z"},
                                },
                            },
                        },
                        "plain": {"type": "array", "items": {"type": "string"}},
                    },
                }
            },
        }
    )
    spec = derived.fields["spec"]
    assert derived.fields["metadata"] is shape.object_meta()
    assert spec.fields["port"].form == "leaf"
    assert spec.fields["free"].element is shape.ANY
    assert spec.fields["unknown"] is shape.ANY
    assert spec.fields["template"].fields["metadata"] is shape.object_meta()
    assert spec.fields["items"].keys == ("a", "b")
    assert spec.fields["items"].key_defaults == {"b": "z"}
    assert spec.fields["plain"].atomic


def test_a_kind_without_a_schema_is_free_form() -> None:
    """Fields are told apart as the document itself shows them; lists are owned whole."""
    original = {
        "apiVersion": "x/v1",
        "kind": "X",
        "metadata": {"name": "x"},
        "spec": {"a": {"b": 1}, "l": [1]},
    }
    created = apply.apply(None, original, schema=shape.of_custom(None), manager="m", now=0.0)
    fields = created["metadata"]["managedFields"][0]["fieldsV1"]
    assert fields == {"f:spec": {".": {}, "f:a": {".": {}, "f:b": {}}, "f:l": {}}}
