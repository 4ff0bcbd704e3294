"""Built-in documents are decoded as Kubernetes' typed structs would: canonical, pruned, type-checked."""

from __future__ import annotations

from typing import Any

import pytest

from ondol.api.schema import typed
from ondol.base import errors

POD = "io.k8s.api.core.v1.Pod"
DEPLOYMENT = "io.k8s.api.apps.v1.Deployment"


def pod(**container: Any) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "a"},
        "spec": {"containers": [{"name": "c", "image": "i", **container}]},
    }


def test_decoding_copies_and_drops_what_no_struct_would_hold() -> None:
    """Unknown fields, nulls and empty optional values go; the caller's document stays as it was."""
    original = pod(bogus=1, command=None, args=[], tty=False, resources={})
    original["metadata"]["labels"] = {}
    decoded = typed.of(POD).decode(original)
    assert decoded["spec"]["containers"] == [{"name": "c", "image": "i", "resources": {}}]
    assert decoded["metadata"] == {"name": "a"}
    assert "bogus" in original["spec"]["containers"][0]


def test_zero_is_kept_where_absent_means_something_else() -> None:
    """`replicas: 0` is not the default."""
    decoded = typed.of(DEPLOYMENT).decode({"spec": {"replicas": 0, "minReadySeconds": 0}})
    assert decoded["spec"] == {"replicas": 0}


@pytest.mark.parametrize(
    ("written", "canonical"), [("1000m", "1"), (1, "1"), (0.5, "500m"), ("1024Mi", "1Gi"), ("0.1", "100m")]
)
def test_quantities_have_one_spelling(written: Any, canonical: str) -> None:
    """As Kubernetes answers them, however they were written."""
    decoded = typed.of(POD).decode(pod(resources={"limits": {"cpu": written}}))
    assert decoded["spec"]["containers"][0]["resources"]["limits"]["cpu"] == canonical


def test_a_null_in_a_list_or_a_map_is_the_zero_of_its_type() -> None:
    """As Go decodes it; a null that is a member of a struct is nothing at all."""
    nulls = pod(args=["a", None], ports=[None], resources={"limits": {"cpu": None}}, command=None)
    container = typed.of(POD).decode(nulls)["spec"]["containers"][0]
    assert "command" not in container
    assert container["args"] == ["a", ""]
    assert container["ports"] == [{}]
    assert container["resources"] == {"limits": {"cpu": "0"}}
    secret = typed.of("io.k8s.api.core.v1.Secret").decode({"data": {"k": None}, "stringData": {"s": None}})
    assert secret == {"data": {"k": ""}, "stringData": {"s": ""}}


@pytest.mark.parametrize(
    "wrong", ["2024-13-01T00:00:00Z", "2024-01-01T25:00:00Z", "0001-01-01T00:00:00+05:00"]
)
def test_a_time_that_is_none_is_a_bad_request(wrong: str) -> None:
    """Whatever it looks like, and before the first year too."""
    with pytest.raises(errors.BadRequest, match="parsing time"):
        typed.of(POD).decode({"metadata": {"creationTimestamp": wrong}})


def test_times_are_told_in_utc() -> None:
    """Offsets and fractions are folded away for Time, and kept to microseconds for MicroTime."""
    lease = typed.of("io.k8s.api.coordination.v1.Lease").decode(
        {
            "metadata": {"creationTimestamp": "2024-01-01T09:00:00+09:00"},
            "spec": {"renewTime": "2024-01-01T00:00:00Z"},
        }
    )
    assert lease["metadata"]["creationTimestamp"] == "2024-01-01T00:00:00Z"
    assert lease["spec"]["renewTime"] == "2024-01-01T00:00:00.000000Z"


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({"spec": {"replicas": "3"}}, "string into Go struct field Deployment.spec.replicas of type int32"),
        ({"spec": {"replicas": 1.5}}, "number 1.5 into"),
        ({"spec": {"replicas": 1 << 40}}, "number 1099511627776 into"),
        ({"spec": []}, "array into Go struct field Deployment.spec of type DeploymentSpec"),
        (
            {"metadata": {"labels": {"a": 1}}},
            "number into Go struct field Deployment.metadata.labels.a of type string",
        ),
        ({"spec": {"paused": "no"}}, "string into Go struct field Deployment.spec.paused of type bool"),
        (
            {"spec": {"template": {"spec": {"containers": [{"name": "c"}, {"name": 7}]}}}},
            "Deployment.spec.template.spec.containers.[1].name",
        ),
        ({"metadata": {"creationTimestamp": "yesterday"}}, "parsing time"),
        ([], "array into"),
    ],
)
def test_a_wrong_json_type_is_a_bad_request_that_names_the_field(document: Any, message: str) -> None:
    """The client learns which field and what was wanted."""
    with pytest.raises(errors.BadRequest) as caught:
        typed.of(DEPLOYMENT).decode(document)
    assert message in caught.value.message
    assert "cannot be handled as a Deployment" in caught.value.message


def test_bad_base64_and_bad_quantity_are_bad_requests() -> None:
    """Strings with a form are checked for it."""
    with pytest.raises(errors.BadRequest, match="base64"):
        typed.of("io.k8s.api.core.v1.Secret").decode({"data": {"a": "%%"}})
    with pytest.raises(errors.BadRequest, match="quantities must match"):
        typed.of(POD).decode(pod(resources={"limits": {"cpu": "many"}}))


def test_unknown_fields_are_named_by_path() -> None:
    """Through objects, lists and maps."""
    document = pod(bogus=1, env=[{"name": "A", "bogusValue": "b"}])
    document["extra"] = {}
    document["spec"]["restartpolicy"] = "Never"
    assert sorted(typed.of(POD).unknown_fields(document)) == [
        "extra",
        "spec.containers[0].bogus",
        "spec.containers[0].env[0].bogusValue",
        "spec.restartpolicy",
    ]


def test_filling_adds_empty_structs_and_declared_defaults() -> None:
    """As a typed server would answer: protocol TCP, `resources: {}`, `status: {}`."""
    document = pod(ports=[{"containerPort": 80}])
    typed.of(POD).fill(document)
    assert document["spec"]["containers"][0]["ports"] == [{"containerPort": 80, "protocol": "TCP"}]
    assert document["spec"]["containers"][0]["resources"] == {}
    assert document["status"] == {}


def test_filling_never_shares_what_it_adds() -> None:
    """Two documents filled alike can be changed apart."""
    first: dict[str, Any] = {}
    second: dict[str, Any] = {}
    typed.of(DEPLOYMENT).fill(first)
    typed.of(DEPLOYMENT).fill(second)
    first["status"]["replicas"] = 1
    assert second["status"] == {}


def test_schemas_inside_a_crd_are_decoded_too() -> None:
    """Recursive types and the either-or fields of JSON schema."""
    crd = {
        "spec": {
            "versions": [
                {
                    "name": "v1",
                    "schema": {
                        "openAPIV3Schema": {
                            "type": "object",
                            "properties": {"a": {"type": "array", "items": {"type": "string", "nope": 1}}},
                            "additionalProperties": False,
                        }
                    },
                }
            ]
        }
    }
    typed_crd = typed.of("io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.CustomResourceDefinition")
    schema = typed_crd.decode(crd)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    assert schema["properties"]["a"]["items"] == {"type": "string"}
    assert schema["additionalProperties"] is False
    assert typed_crd.unknown_fields(crd) == [
        "spec.versions[0].schema.openAPIV3Schema.properties.a.items.nope"
    ]
